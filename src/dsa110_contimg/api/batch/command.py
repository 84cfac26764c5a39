"""Runs a command: without a shell, with chosen variables, in a session of its own, and to an end in time.

However the run ends (by itself, out of time, cancelled, or with this process) nothing of the command's group is left.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence

from dsa110_contimg.absurd.processes import LAST_WORDS_S, Groups, end, ending_of, gone, send, started

KILL_GRACE_S = 10.0
_CHUNK_BYTES = 64 << 10
_ALWAYS = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR")


class CommandError(Exception):
    """The command did not do its work; the message says why."""


def environment_of(known: Mapping[str, str], more: Sequence[str]) -> dict[str, str]:
    """Return what a command may know of the environment: no secret of ours gets there unless it is named."""
    return {"PATH": os.defpath} | {name: known[name] for name in (*_ALWAYS, *more) if name in known}


async def run_command(
    command: Sequence[str], environment: Mapping[str, str], say: Callable[[str], None], limit_s: float, groups: Groups
) -> None:
    """Run a command to its end.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    environment : mapping
        All its variables.
    say : callable
        Takes whole lines of what it writes.
    limit_s : float
        Longest run.
    groups : Groups
        Holds its process group while it runs.

    Raises
    ------
    CommandError
        It cannot be started, took too long, or ended with another exit code than 0.
    """
    if shutil.which(command[0], path=environment["PATH"]) is None:
        raise CommandError(f"the program {command[0]!r} is not there, or may not be run")
    async with started(*command, groups=groups, kill_grace_s=KILL_GRACE_S, environment=dict(environment)) as process:
        await send(process, "")
        reader = asyncio.create_task(_pass_on(process, say))
        try:
            code = await _wait(process, limit_s)
        finally:
            await asyncio.shield(end(process, KILL_GRACE_S))
            await asyncio.wait([reader], timeout=LAST_WORDS_S)
            reader.cancel()
    if code != 0:
        raise CommandError(f"{command[0]} ended with {ending_of(code)}")


async def _wait(process: asyncio.subprocess.Process, limit_s: float) -> int:
    """Return how a process ended, if it does in time."""
    try:
        async with asyncio.timeout(limit_s):
            return await gone(process)
    except TimeoutError:
        raise CommandError(f"it was stopped after {limit_s:g} s (DSA110_PIPELINE_TIMEOUT)") from None


async def _pass_on(process: asyncio.subprocess.Process, say: Callable[[str], None]) -> None:
    """Say what a process writes, whole lines at a time; a line without an end is not waited for endlessly."""
    stream = process.stdout
    if stream is None:
        raise ValueError("the program has no standard output")
    rest = b""
    while chunk := await stream.read(_CHUNK_BYTES):
        lines, end_of_line, rest = (rest + chunk).rpartition(b"\n")
        if end_of_line:
            say(lines.decode(errors="replace"))
        if len(rest) > _CHUNK_BYTES:
            say(rest.decode(errors="replace"))
            rest = b""
    if rest:
        say(rest.decode(errors="replace"))
