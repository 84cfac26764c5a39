"""Runs a stage in a child process that can be killed: own session, own process group, options in, report out."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dsa110_contimg.absurd.payloads import encode

logger = logging.getLogger(__name__)

_TAIL_LINES = 40
_LINE_LIMIT = 64 << 20  # a result is one line
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

ProgressReader = Callable[[float, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ChildResult:
    """What a child returned, and what it cost.

    ``started_at`` and ``finished_at`` are Unix seconds (UTC), ``cpu_s`` is user and system time of the child and what
    it started, ``peak_rss_bytes`` the child's own largest resident memory.
    """

    value: dict[str, Any]
    started_at: float
    finished_at: float
    cpu_s: float
    peak_rss_bytes: int
    host: str


class ChildFailed(Exception):  # noqa: N818 - the name is part of the interface
    """A child raised, or died.

    Attributes
    ----------
    type, message, traceback : str
        Of the child's exception; ``ChildDied`` when it ended without a word.
    exit_code : int or None
        Its exit code; None when a signal ended it.
    signal : str or None
        Name of the signal that ended it.
    stderr_tail : str
        The last lines that it and its libraries wrote.
    retryable : bool
        Whether another attempt may succeed.
    """

    def __init__(self, error: Mapping[str, Any], returncode: int, stderr_tail: str) -> None:
        super().__init__(f"{error['type']}: {error['message']}")
        self.type = str(error["type"])
        self.message = str(error["message"])
        self.traceback = str(error.get("traceback", ""))
        self.retryable = bool(error.get("retryable", True))
        self.exit_code = returncode if returncode >= 0 else None
        self.signal = signal.Signals(-returncode).name if returncode < 0 else None
        self.stderr_tail = stderr_tail


class Warden:
    """The process that outlives the worker just long enough to kill what its children started."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a session of its own."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dsa110_contimg.absurd.warden"], stdin=subprocess.PIPE, start_new_session=True
        )

    def tell(self, word: str) -> None:
        """Say ``+PGID`` for a new group, ``-PGID`` for one that is over."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{word}\n".encode())
                self._process.stdin.flush()

    def stop(self) -> None:
        """Let it end."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None


def kill_group(group: int, sig: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process group; nothing happens when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, sig)


class Executor:
    """Starts children and ends them.

    Parameters
    ----------
    warden : Warden
        Is told of each child's process group.
    kill_grace_s : float
        Time between SIGTERM and SIGKILL.
    memory_mb : int, optional
        Limit of a child's address space.
    """

    def __init__(self, warden: Warden, kill_grace_s: float = 5.0, memory_mb: int | None = None) -> None:
        self._warden = warden
        self._kill_grace_s = kill_grace_s
        self._memory_mb = memory_mb

    async def run(
        self, target: str, options: Mapping[str, Any], *, progress: ProgressReader, groups: set[int],
        threads: int | None = None,
    ) -> ChildResult:  # fmt: skip
        """Run ``module:function`` in a child and return what it returned.

        However this ends, by return, exception or cancellation, no process of the child's group is left.

        Parameters
        ----------
        target, options
            The function, and its options as JSON can carry them.
        progress
            Awaited with each progress report.
        groups : set of int
            Holds the child's process group while it runs, so that another thread can kill it.
        threads : int, optional
            How many threads the numerical libraries may use.

        Raises
        ------
        ChildFailed
            The function raised, or the child died.
        """
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        async with self._child(target, groups, threads) as (process, report):
            chatter = asyncio.create_task(_follow(process.stdout, tail))
            try:
                await _send(process.stdin, encode(options))
                ending = await _read_report(report, progress)
                await self._end(process, patience_s=self._kill_grace_s)
                await chatter
            finally:
                chatter.cancel()
        return _judge(ending, process.returncode or 0, "\n".join(tail))

    @contextlib.asynccontextmanager
    async def _child(
        self, target: str, groups: set[int], threads: int | None
    ) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
        """Start a child; at the end its whole group is gone: SIGTERM, a grace, SIGKILL."""
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(target, writing, threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, pass_fds=(writing,), start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(writing)
        groups.add(process.pid)
        self._warden.tell(f"+{process.pid}")
        report, transport = await _open_reader(reading)
        try:
            yield process, report
        finally:
            transport.close()
            try:
                await asyncio.shield(self._end(process))
            finally:
                groups.discard(process.pid)
                self._warden.tell(f"-{process.pid}")

    def _command(self, target: str, report: int, threads: int | None) -> list[str]:
        settings = [f"{name}={threads}" for name in _THREAD_VARIABLES] if threads else []
        limit = ["--memory-mb", str(self._memory_mb)] if self._memory_mb else []
        return [
            "env", *settings, sys.executable, "-m", "dsa110_contimg.absurd.child", target, "--report", str(report),
            "--parent", str(os.getpid()), *limit,
        ]  # fmt: skip

    async def _end(self, process: asyncio.subprocess.Process, patience_s: float = 0.0) -> None:
        """Wait ``patience_s`` for a child to go by itself, then end it and everything that it started."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience_s)
        if process.returncode is None:
            kill_group(process.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self._kill_grace_s)
        kill_group(process.pid)
        await process.wait()


async def _open_reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """Return a stream that reads a pipe."""
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader, transport


async def _send(stream: asyncio.StreamWriter | None, text: str) -> None:
    """Write the options; a child that is dead already tells why in its report."""
    if stream is None:
        raise ValueError("the child has no standard input")
    with contextlib.suppress(ConnectionError):
        stream.write(text.encode())
        await stream.drain()
        stream.close()
        await stream.wait_closed()


async def _read_report(report: asyncio.StreamReader, progress: ProgressReader) -> Mapping[str, Any] | None:
    """Pass the progress on and return the last line, or None when the child died without one."""
    while line := await report.readline():
        word: dict[str, Any] = json.loads(line)
        if "progress" not in word:
            return word
        await progress(*word["progress"])
    return None


async def _follow(stream: asyncio.StreamReader | None, tail: deque[str]) -> None:
    """Log what the child and its libraries write, and keep the end of it."""
    if stream is None:
        raise ValueError("the child has no standard output")
    rest = ""
    while chunk := await stream.read(1 << 16):
        *lines, rest = (rest + chunk.decode(errors="replace")).replace("\r", "\n").split("\n")
        for line in filter(str.strip, lines):
            tail.append(line[:500])
            logger.debug("child: %s", line[:500])
        rest = rest[-4096:]
    if rest.strip():
        tail.append(rest[:500])


def _judge(ending: Mapping[str, Any] | None, returncode: int, tail: str) -> ChildResult:
    if ending is None:
        how = f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"
        last = f"; its last words: {tail.splitlines()[-1]}" if tail else ""
        raise ChildFailed(
            {"type": "ChildDied", "message": f"the child process ended with {how}{last}"}, returncode, tail
        )
    if "error" in ending:
        raise ChildFailed(ending["error"], returncode, tail)
    return ChildResult(value=ending["result"], **ending["facts"])
