"""The processes of a campaign: workers and schedulers that are replaced when they die, clients that end when done."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from dsa110_contimg.chaos.settings import PartySettings
from dsa110_contimg.exit_codes import CommandError
from dsa110_contimg.up.servers import die_with_parent


class PartyError(CommandError):
    """A process of the campaign ended in a way that nobody had planned; the message gives its last words."""


class Party:
    """One process. It dies with the campaign."""

    def __init__(self, module: str, settings: PartySettings, directory: Path) -> None:
        self.settings = settings
        self.frozen = False
        self.asked = False
        self._log = directory / f"{settings.who}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"dsa110_contimg.chaos.{module}"],
                stdin=subprocess.PIPE, stdout=log, stderr=log, preexec_fn=die_with_parent(signal.SIGKILL),
            )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(settings.encode())
        self.process.stdin.close()

    @property
    def who(self) -> str:
        """Its name in the history."""
        return self.settings.who

    def check(self) -> None:
        """Refuse an end that was neither a success nor a kill.

        Raises
        ------
        PartyError
            It ended with another exit code.
        """
        early = -signal.SIGTERM if self.asked else 0  # told to stop before it could listen
        if self.process.poll() not in (None, 0, -signal.SIGKILL, early):
            words = " | ".join(self._log.read_text(errors="replace").splitlines()[-8:])
            raise PartyError(f"process {self.who} ended with exit code {self.process.returncode}: {words}")

    @property
    def alive(self) -> bool:
        """Whether the process runs (a frozen one does)."""
        return self.process.poll() is None

    def kill(self, whole: bool = True) -> None:
        """Kill it: the process alone, or with all that it has started, as the loss of a machine would."""
        for process in self._processes(whole):
            process.kill()
        self.process.wait()

    def freeze(self, whole: bool) -> None:
        """Stop it in the middle of whatever it does."""
        self.frozen = True
        for process in self._processes(whole):
            process.suspend()

    def thaw(self) -> None:
        """Let it go on as if no time had passed."""
        for process in self._processes(True):
            process.resume()
        self.frozen = False

    def _processes(self, whole: bool) -> list[Any]:
        """Return the process, with its descendants when asked for; none when it has ended."""
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)] if whole else [first]
        except psutil.NoSuchProcess:
            return []

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self.asked = True
        self.process.terminate()


class Fleet:
    """Processes of one kind: always as many as were asked for."""

    def __init__(
        self, size: int, directory: Path, settings: Callable[[int], PartySettings], module: str = "worker",
        prefix: str = "w",
    ) -> None:  # fmt: skip
        self._module = module
        self._prefix = prefix
        self._directory = directory
        self._settings = settings
        self._started = 0
        self.closed = False
        self.workers: list[Party] = []
        self._size = size

    def replenish(self) -> None:
        """Start a process for each one that has ended; see :meth:`Party.check`."""
        for worker in self.workers:
            worker.check()
        self.workers = [worker for worker in self.workers if worker.alive]
        while not self.closed and len(self.workers) < self._size:
            self._started += 1
            settings = replace(self._settings(self._started), who=f"{self._prefix}{self._started}")
            self.workers.append(Party(self._module, settings, self._directory))

    def running(self) -> list[Party]:
        """Return the workers that are neither frozen nor asked to stop."""
        return [worker for worker in self.workers if worker.alive and not worker.frozen and not worker.asked]

    def close(self) -> None:
        """Ask all to stop, and replace none."""
        self.closed = True
        for worker in self.running():
            worker.ask_to_stop()

    def kill(self) -> None:
        """Kill what is left."""
        self.closed = True
        for worker in self.workers:
            worker.kill()

    def __iter__(self) -> Iterator[Party]:
        return iter(self.workers)
