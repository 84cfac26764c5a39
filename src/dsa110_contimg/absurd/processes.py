"""Programs that a worker starts: each leads a session and a process group of its own, and nothing of the group is left
when it ends, however it ends."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

logger = logging.getLogger(__name__)

TAIL_LINES = 40
LAST_WORDS_S = 1.0  # for what ended programs wrote; what left their groups may hold the output open much longer
_POLL_S = 0.02


class Groups(Protocol):
    """Is told of each process group while it lives, so that somebody else can end it too."""

    def add(self, group: int, /) -> None:
        """A group has been started."""

    def discard(self, group: int, /) -> None:
        """It is over."""


class Warden:
    """The process that outlives this one just long enough to kill what its children started."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a session of its own."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dsa110_contimg.absurd.warden"], stdin=subprocess.PIPE, start_new_session=True
        )

    def add(self, group: int, /) -> None:
        """Tell it of a new group."""
        self._tell(f"+{group}")

    def discard(self, group: int, /) -> None:
        """Tell it of a group that is over."""
        self._tell(f"-{group}")

    def stop(self) -> None:
        """Let it end."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _tell(self, word: str) -> None:
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{word}\n".encode())
                self._process.stdin.flush()


def kill_group(group: int, sig: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process group; nothing happens when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, sig)


@contextlib.asynccontextmanager
async def started(
    *command: str, groups: Groups, kill_grace_s: float, environment: dict[str, str] | None = None, hand_over: int = -1
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a program; at the end its whole group is gone: SIGTERM, a grace, SIGKILL.

    Parameters
    ----------
    *command : str
        Program and arguments; no shell reads them.
    groups : Groups
        Holds the group while it lives.
    kill_grace_s : float
        Time between SIGTERM and SIGKILL.
    environment : dict, optional
        The whole environment; default: that of this process.
    hand_over : int
        A file descriptor that the program inherits and that is closed here; -1: none.
    """
    inherited = (hand_over,) if hand_over >= 0 else ()
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            pass_fds=inherited, start_new_session=True,
        )  # fmt: skip
    finally:
        for descriptor in inherited:
            os.close(descriptor)
    groups.add(process.pid)
    try:
        yield process
    finally:
        try:
            await asyncio.shield(end(process, kill_grace_s))
            process._transport.close()  # type: ignore[attr-defined]  # of an output that a stranger holds nobody hears
        finally:
            groups.discard(process.pid)


async def end(process: asyncio.subprocess.Process, kill_grace_s: float, patience_s: float = 0.0) -> None:
    """Wait ``patience_s`` for a program to go by itself, then end it and everything that it started."""
    if patience_s > 0.0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await gone(process)
    if process.returncode is None:
        kill_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(kill_grace_s):
                await gone(process)
    kill_group(process.pid)
    await gone(process)


async def gone(process: asyncio.subprocess.Process) -> int:
    """Wait for the end of a program and return its exit code.

    What it started in other sessions may hold its output open for long and is not waited for, as ``wait()`` would.
    """
    while process.returncode is None:  # noqa: ASYNC110 - nothing else tells of the end of the program alone
        await asyncio.sleep(_POLL_S)
    return process.returncode


async def send(process: asyncio.subprocess.Process, text: str) -> None:
    """Write to a program's standard input and close it; one that is dead already tells why in its own way."""
    stream = process.stdin
    if stream is None:
        raise ValueError("the program has no standard input")
    with contextlib.suppress(ConnectionError):
        stream.write(text.encode())
        await stream.drain()
        stream.close()
        await stream.wait_closed()


async def follow(process: asyncio.subprocess.Process, tail: deque[str]) -> None:
    """Log what a program and its libraries write, and keep the end of it."""
    stream = process.stdout
    if stream is None:
        raise ValueError("the program has no standard output")
    rest = ""
    while chunk := await stream.read(1 << 16):
        *lines, rest = (rest + chunk.decode(errors="replace")).replace("\r", "\n").split("\n")
        for line in filter(str.strip, lines):
            tail.append(line[:500])
            logger.debug("child: %s", line[:500])
        rest = rest[-4096:]
    if rest.strip():
        tail.append(rest[:500])


def ending_of(returncode: int) -> str:
    """Say in words how a process ended."""
    return f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"
