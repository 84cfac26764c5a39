"""Servers of this benchmark as child processes, with the processor time that they use.

The client that measures them stays on one processor. Servers may use all, as in operation: one that hands its
work to threads pays for that when they run on another.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

_ROOT = Path(__file__).parents[2]
_START_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Child:
    """A running server."""

    process: psutil.Process
    port: int

    def cpu_s(self) -> float:
        """Processor seconds that it and its children have used, threads that have ended included."""
        processes = (self.process, *self.process.children(recursive=True))
        return sum(time.clock_gettime(_clock_of(each.pid)) for each in processes)

    def rss_mib(self) -> float:
        """Memory that it holds."""
        return float(self.process.memory_info().rss) / (1 << 20)


@contextmanager
def on_one_processor() -> Iterator[None]:
    """Keep this process on the first processor that it may use."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def _clock_of(pid: int) -> int:
    """Return the processor clock of a process as Linux numbers it (``clock_getcpuclockid``); it counts nanoseconds."""
    return (~pid << 3) | 2


def free_port() -> int:
    """Return a port of this machine at which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(
    module: str, arguments: Sequence[str], environ: Mapping[str, str], port: int, python: str = sys.executable
) -> Iterator[Child]:
    """Run ``python -m module`` until the block ends; it must listen at ``port``."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = subprocess.Popen(
        [python, "-m", module, *arguments], cwd=_ROOT, env=keep | dict(environ), stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(port, process)
        yield Child(psutil.Process(process.pid), port)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    ends_s = time.monotonic() + _START_PATIENCE_S
    while time.monotonic() < ends_s:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
        with socket.socket() as link:
            link.settimeout(0.5)
            if link.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens at port {port} after {_START_PATIENCE_S:g} s")
