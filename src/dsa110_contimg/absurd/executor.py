"""Runs a stage in a child process that can be killed: options in, report out; and commands, without a shell."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsa110_contimg.absurd.config import process_environment
from dsa110_contimg.absurd.payloads import encode
from dsa110_contimg.absurd.processes import (
    LAST_WORDS_S,
    TAIL_LINES,
    Groups,
    Warden,
    end,
    ending_of,
    follow,
    gone,
    kill_group,
    send,
    started,
)

__all__ = ["ChildFailed", "ChildResult", "CommandResult", "Executor", "Warden", "kill_group"]

_LINE_LIMIT = 64 << 20  # a result is one line
_GOODBYE_S = 5.0  # a child that has reported may take this long to end by itself
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_SIGNS_OF_NO_MEMORY = ("MemoryError", "bad_alloc", "Cannot allocate memory", "out of memory", "memory exhausted")

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


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command that ended with exit code 0, and the last lines that it wrote."""

    exit_code: int
    output_tail: str


class ChildFailed(Exception):  # noqa: N818 - the name is part of the interface
    """A child raised or died, or a command ended with another exit code than 0.

    Attributes
    ----------
    type, message, traceback : str
        Of the child's exception; ``ChildDied`` when it ended without a word, ``CommandFailed`` for a command.
    types : tuple of str
        Names of the exception's class and of those that it is made from, for ``retry_on`` and ``dead_on``.
    exit_code : int or None
        Its exit code; None when a signal ended it.
    signal : str or None
        Name of the signal that ended it.
    stderr_tail : str
        The last lines that it and its libraries wrote.
    retryable : bool
        Whether another attempt may succeed.
    after_s : float or None
        When to run again, if the child raised ``Retry`` or ``Snooze``.
    """

    def __init__(self, error: Mapping[str, Any], returncode: int, stderr_tail: str) -> None:
        super().__init__(f"{error['type']}: {error['message']}")
        self.type = str(error["type"])
        self.types = tuple(error.get("types") or (self.type,))
        self.message = str(error["message"])
        self.traceback = str(error.get("traceback", ""))
        self.retryable = bool(error.get("retryable", True))
        self.after_s: float | None = error.get("after_s")
        self.exit_code = returncode if returncode >= 0 else None
        self.signal = signal.Signals(-returncode).name if returncode < 0 else None
        self.stderr_tail = stderr_tail


class Executor:
    """Starts children and commands, and ends them.

    However a run ends, by return, exception or cancellation, no process of its group is left.

    Parameters
    ----------
    kill_grace_s : float
        Time between SIGTERM and SIGKILL.
    memory_mb : int, optional
        Ceiling of a child's address space.
    """

    def __init__(self, kill_grace_s: float = 5.0, memory_mb: int | None = None) -> None:
        self._kill_grace_s = kill_grace_s
        self._memory_mb = memory_mb

    async def run(
        self, target: str, options: Any, *, progress: ProgressReader, groups: Groups, threads: int | None = None
    ) -> ChildResult:
        """Run ``module:function`` in a child and return what it returned.

        Parameters
        ----------
        target, options
            The function, and its options as JSON can carry them.
        progress
            Awaited with each progress report.
        groups : Groups
            Holds the child's process group while it runs, so that somebody else can kill it.
        threads : int, optional
            How many threads the numerical libraries may use.

        Raises
        ------
        ChildFailed
            The function raised, or the child died.
        """
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        async with self._child(target, groups, threads) as (process, report):
            chatter = asyncio.create_task(follow(process, tail))
            try:
                await send(process, encode(options))
                ending = await _read_report(report, progress)
                await end(process, self._kill_grace_s, patience_s=_GOODBYE_S)
                await asyncio.wait([chatter], timeout=LAST_WORDS_S)
            finally:
                chatter.cancel()
        return self._judge(ending, process.returncode or 0, "\n".join(tail))

    async def run_command(
        self, command: Sequence[str], words: str, *, variables: Mapping[str, str], groups: Groups
    ) -> CommandResult:
        """Run a program without a shell and return the end of what it wrote.

        Parameters
        ----------
        command : sequence of str
            Program and arguments.
        words : str
            Written to its standard input.
        variables : mapping
            Added to its environment.
        groups : Groups
            Holds its process group while it runs.

        Raises
        ------
        ChildFailed
            It cannot be started, or ended with another exit code than 0.
        """
        if shutil.which(command[0]) is None:
            message = f"the program {command[0]!r} is not there, or may not be run; install it, or give its path"
            raise ChildFailed({"type": "CommandFailed", "message": message, "retryable": False}, 127, "")
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        environment = {**process_environment(), **variables}
        limited = [*self._ceiling_command(), *command]
        async with started(
            *limited, groups=groups, kill_grace_s=self._kill_grace_s, environment=environment
        ) as process:
            code = await self._see_through(process, words, tail)
        text = "\n".join(tail)
        if code:
            raise ChildFailed(
                {"type": "CommandFailed", "message": self._last_words(command[0], code, text)}, code, text
            )
        return CommandResult(code, text)

    def _ceiling_command(self) -> list[str]:
        """Return what sets the memory ceiling and becomes the command; the shell does not read the command's words."""
        if not self._memory_mb:
            return []
        return ["sh", "-c", 'ulimit -v "$1" && shift && exec "$@"', "sh", str(self._memory_mb << 10)]

    async def _see_through(self, process: asyncio.subprocess.Process, words: str, tail: deque[str]) -> int:
        """Give a program its input, wait for its end, and return how it ended."""
        chatter = asyncio.create_task(follow(process, tail))
        try:
            await send(process, words)
            code = await gone(process)
            await end(process, self._kill_grace_s)  # what it left behind would hold its output open
            await asyncio.wait([chatter], timeout=LAST_WORDS_S)
        finally:
            chatter.cancel()
        return code

    @contextlib.asynccontextmanager
    async def _child(
        self, target: str, groups: Groups, threads: int | None
    ) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
        """Start a child with a pipe for its report."""
        reading, writing = os.pipe()
        command = self._command(target, writing, threads)
        starting = started(*command, groups=groups, kill_grace_s=self._kill_grace_s, hand_over=writing)
        async with _reader(reading) as report, starting as process:
            yield process, report

    def _command(self, target: str, report: int, threads: int | None) -> list[str]:
        settings = [f"{name}={threads}" for name in _THREAD_VARIABLES] if threads else []
        limit = ["--memory-mb", str(self._memory_mb)] if self._memory_mb else []
        return [
            "env", *settings, sys.executable, "-m", "dsa110_contimg.absurd.child", target, "--report", str(report),
            "--parent", str(os.getpid()), *limit,
        ]  # fmt: skip

    def _judge(self, ending: Mapping[str, Any] | None, returncode: int, tail: str) -> ChildResult:
        if ending is None:
            message = self._last_words("the child process", returncode, tail)
            raise ChildFailed({"type": "ChildDied", "message": message}, returncode, tail)
        if "error" in ending:
            error = ending["error"]
            raise ChildFailed(
                {**error, "message": f"{error['message']}{self._ceiling(error['type'])}"}, returncode, tail
            )
        return ChildResult(value=ending["result"], **ending["facts"])

    def _last_words(self, who: str, returncode: int, tail: str) -> str:
        last = f"; its last words: {tail.splitlines()[-1]}" if tail else ""
        killed = "; was it the kernel, for want of memory?" if returncode == -signal.SIGKILL else ""
        return f"{who} ended with {ending_of(returncode)}{last}{killed or self._ceiling(tail)}"

    def _ceiling(self, words: str) -> str:
        """Return what to add to an error that looks like want of memory."""
        if self._memory_mb and any(sign in words for sign in _SIGNS_OF_NO_MEMORY):
            return f" (its memory ceiling is {self._memory_mb} MB; raise ABSURD_CHILD_MEMORY_MB or give it less to do)"
        return ""


@contextlib.asynccontextmanager
async def _reader(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    """Give a stream that reads a pipe."""
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        yield reader
    finally:
        transport.close()


async def _read_report(report: asyncio.StreamReader, progress: ProgressReader) -> Mapping[str, Any] | None:
    """Pass the progress on and return the last line, or None when the child died without one."""
    while line := await report.readline():
        word: dict[str, Any] = json.loads(line)
        if "progress" not in word:
            return word
        await progress(*word["progress"])
    return None
