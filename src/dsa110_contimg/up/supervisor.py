"""Keep a handful of child processes running, and leave none behind.

Each process leads a session of its own, so that Ctrl-C reaches the supervisor alone and a stop reaches everything that
the process has started. A process that ends is started again after 0.5 s, 1 s, 2 s, ... up to 30 s; one that ends five
times within 10 s of its start is given up, and the whole house stops, visibly. Processes are stopped in the reverse
order of their start: a signal, a time of grace, then SIGKILL to the group. When the supervisor itself is killed, the
kernel sends each process the signal that it was started with (``PR_SET_PDEATHSIG``).
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dsa110_contimg.absurd.processes import ending_of, kill_group
from dsa110_contimg.exit_codes import CommandError, ExitCode
from dsa110_contimg.up.console import Screen
from dsa110_contimg.up.servers import die_with_parent

LINE_LIMIT_BYTES = 1 << 20
POLL_S = 0.05


class ProcessFailedError(CommandError):
    """A process could not be started or kept running; the message gives its last words."""

    exit_code = ExitCode.PROCESS


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run and how.

    Attributes
    ----------
    name : str
        Name in the log stream and of the log file.
    command : tuple of str
        Program and arguments.
    environment : Mapping
        The whole environment of the process.
    ready : callable, optional
        Tells, quickly, whether the process does its work; asked in a thread until it does.
    ready_timeout_s : float
        How long to wait for that.
    stop_signal, orphan_signal : signal.Signals
        Sent for a clean stop, and by the kernel when the supervisor dies.
    grace_s : float
        How long a clean stop may take before SIGKILL.
    shown : bool
        Whether its lines appear on the screen; they are always in its log file.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)  # it holds passwords
    ready: Callable[[], bool] | None = None
    ready_timeout_s: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 10.0
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Backoff:
    """When a process that has ended is started again, and when it is given up."""

    first_s: float = 0.5
    longest_s: float = 30.0
    quick_s: float = 10.0
    quick_deaths: int = 5

    def delay_s(self, deaths: int) -> float:
        """Return the pause after the given number of quick deaths in a row (1, 2, ...)."""
        return min(self.longest_s, self.first_s * 2.0 ** (deaths - 1))


class Supervisor:
    """Starts, watches, restarts and stops processes.

    Parameters
    ----------
    screen : Screen
        Where their lines go.
    backoff : Backoff
        When to restart and when to give up.
    """

    def __init__(self, screen: Screen, backoff: Backoff | None = None) -> None:
        self._screen = screen
        self._backoff = backoff or Backoff()
        self._specs: dict[str, ProcessSpec] = {}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._watchers: dict[str, asyncio.Task[Any]] = {}
        self._stopping = False
        self.gave_up: asyncio.Future[ProcessFailedError] = asyncio.get_running_loop().create_future()

    def pid(self, name: str) -> int | None:
        """Return the process id of a running process."""
        process = self._running.get(name)
        return process.pid if process else None

    async def start(self, spec: ProcessSpec) -> None:
        """Start a process and wait until it is ready.

        Raises
        ------
        ProcessFailedError
            It was given up, or was not ready in time.
        """
        self._specs[spec.name] = spec
        self._watchers[spec.name] = asyncio.create_task(self._keep_running(spec), name=f"keep {spec.name}")
        try:
            async with asyncio.timeout(spec.ready_timeout_s):
                while not await self._is_ready(spec):
                    if self.gave_up.done():
                        raise self.gave_up.result()
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise ProcessFailedError(
                f"{spec.name} was not ready after {spec.ready_timeout_s:.0f} s; {self._last_words(spec)}"
            ) from None

    async def run_to_end(self, spec: ProcessSpec) -> int:
        """Run a process that ends by itself and return its exit code; it is not started again."""
        self._specs[spec.name] = spec
        task = asyncio.create_task(self._run(spec), name=f"run {spec.name}")
        self._watchers[spec.name] = task
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Stop all processes, the last started first."""
        self._stopping = True
        for name in reversed(self._specs):
            await self._stop(self._specs[name])
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)

    async def _is_ready(self, spec: ProcessSpec) -> bool:
        if spec.name not in self._running:
            return False
        return spec.ready is None or await asyncio.to_thread(spec.ready)

    async def _keep_running(self, spec: ProcessSpec) -> None:
        quick_deaths = 0
        clock = asyncio.get_running_loop().time
        while not self._stopping:
            started = clock()
            code = await self._run(spec)
            if self._stopping:
                return
            quick_deaths = quick_deaths + 1 if clock() - started < self._backoff.quick_s else 1
            if quick_deaths >= self._backoff.quick_deaths:
                self._give_up(spec, quick_deaths, code)
                return
            pause_s = self._backoff.delay_s(quick_deaths)
            self._screen.say(f"{spec.name} ended ({ending_of(code)}); starting it again in {pause_s:.1f} s", "WARNING")
            await asyncio.sleep(pause_s)

    async def _run(self, spec: ProcessSpec) -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.command, env=dict(spec.environment), start_new_session=True, limit=LINE_LIMIT_BYTES,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                preexec_fn=die_with_parent(spec.orphan_signal),
            )  # fmt: skip
        except OSError as error:
            self._screen.say(f"{spec.name} cannot be started: {error}", "ERROR")
            return 127
        self._running[spec.name] = process
        reader = asyncio.create_task(self._read(spec, process))
        # process.wait() would wait for every descendant that holds the pipe, too
        while process.returncode is None:  # noqa: ASYNC110 - asyncio knows no other way
            await asyncio.sleep(POLL_S)
        del self._running[spec.name]
        kill_group(process.pid)  # whatever it has left behind
        await asyncio.wait([reader], timeout=1.0)  # a descendant that left the group may hold the pipe open
        reader.cancel()
        return process.returncode

    async def _read(self, spec: ProcessSpec, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than LINE_LIMIT_BYTES: asyncio has dropped it
                self._screen.say(
                    f"{spec.name} wrote a line of more than {LINE_LIMIT_BYTES} bytes; it is left out", "WARNING"
                )
                continue
            if not line:
                return
            self._screen.take(spec.name, line.decode(errors="replace").rstrip("\n"), spec.shown)

    async def _stop(self, spec: ProcessSpec) -> None:
        process = self._running.get(spec.name)
        if process is None:
            self._watchers[spec.name].cancel()  # it waits to start the process again
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(spec.stop_signal)
        done, _ = await asyncio.wait([self._watchers[spec.name]], timeout=spec.grace_s)
        if not done:
            self._screen.say(f"{spec.name} did not stop in {spec.grace_s:.0f} s; killing it", "WARNING")
            kill_group(process.pid)
            await self._watchers[spec.name]

    def _give_up(self, spec: ProcessSpec, deaths: int, code: int) -> None:
        failure = ProcessFailedError(
            f"{spec.name} ended {deaths} times soon after its start ({ending_of(code)}); {self._last_words(spec)}"
        )
        self._screen.say(str(failure), "ERROR")
        if not self.gave_up.done():
            self.gave_up.set_result(failure)

    def _last_words(self, spec: ProcessSpec) -> str:
        return f"its last lines: {self._screen.last_words(spec.name)}"
