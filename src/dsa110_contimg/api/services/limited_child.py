"""Work on files that may be broken or hostile: a module run as a child process, with limits of time and number.

The child gets open descriptors instead of paths, an environment without secrets, and a process group of its own; it
sets its limits of memory and CPU itself before it reads anything. It answers on standard output; when it exits with
another code than 0, the last line of its standard error is the reason.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HOME": "/nonexistent"}
_AT_ONCE = 2
_REASON_CHARACTERS = 300
_PIECE_BYTES = 1 << 20


class ChildRefusedError(Exception):
    """The child ended without an answer; the message says why, in words for a client."""


@contextlib.contextmanager
def in_memory(content: bytes) -> Iterator[int]:
    """Give a descriptor from which a child can read some bytes; they lie on no disk."""
    fd = os.memfd_create("content")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


class LimitedChild:
    """Runs modules as child processes, a few at once; the others wait.

    Parameters
    ----------
    time_limit_s : float
        Longest time of one child, from its start.
    most_bytes : int
        Longest answer: all of it is in the memory of this process.
    """

    def __init__(self, time_limit_s: float = 30.0, most_bytes: int = 96 << 20) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._time_limit_s = time_limit_s
        self._most_bytes = most_bytes

    async def run(self, module: str, *argv: str, fds: Sequence[int] = ()) -> bytes:
        """Run ``python -I -m module argv...`` and return what it wrote on standard output.

        Parameters
        ----------
        module : str
        argv : str
        fds : sequence of int
            Descriptors that the child inherits, by the same numbers.

        Raises
        ------
        ChildRefusedError
            It took too long, said too much, or ended with another code than 0.
        """
        async with self._slots:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", module, *argv, env=_ENVIRONMENT, pass_fds=fds, start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                async with asyncio.timeout(self._time_limit_s):
                    answer, said = await asyncio.gather(
                        *[self._heard(child, told) for told in (child.stdout, child.stderr)]
                    )
                    await child.wait()
            except TimeoutError as error:
                raise ChildRefusedError(f"nothing after {self._time_limit_s:g} s") from error
            finally:
                if child.returncode is None:
                    _end(child)
                    await child.wait()
        if max(len(answer), len(said)) > self._most_bytes:
            raise ChildRefusedError(
                f"the answer has more than {self._most_bytes} bytes; ask for less, or for smaller pictures"
            )
        if child.returncode != 0:
            lines = said.decode(errors="replace").strip().splitlines()
            raise ChildRefusedError(lines[-1][:_REASON_CHARACTERS] if lines else _ending(child.returncode or 0))
        return answer

    async def _heard(self, child: asyncio.subprocess.Process, told: asyncio.StreamReader | None) -> bytes:
        """Return what a child says, until it has said too much, and then is ended."""
        heard = bytearray()
        while told is not None and (piece := await told.read(_PIECE_BYTES)):
            if len(heard) <= self._most_bytes:
                heard += piece
            elif child.returncode is None:
                _end(child)
        return bytes(heard)


def _end(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _ending(code: int) -> str:
    """Say how a child ended that said nothing itself."""
    if code == -signal.SIGXCPU:
        return "it takes too much CPU time"
    return f"its reader ended with {code}" if code > 0 else f"its reader was ended by {signal.Signals(-code).name}"
