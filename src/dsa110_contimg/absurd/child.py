"""A child process of the worker: runs one function of a stage and reports on it.

``python -m dsa110_contimg.absurd.child module:function --report FD [--memory-mb N]`` reads the options as JSON from
standard input, builds the dataclass that annotates the function's first parameter, and calls ``function(options,
progress)``. On the file descriptor FD it writes one JSON object a line: ``{"progress": [fraction, message]}`` as often
as the function says so, and at the end ``{"result": ..., "facts": ...}`` or ``{"error": ..., "facts": ...}``. Standard
output and standard error belong to the libraries that the function uses.
"""

import argparse
import ctypes
import importlib
import inspect
import json
import os
import resource
import signal
import socket
import sys
import time
import traceback
import typing
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from dsa110_contimg.absurd.options import OptionsError, build
from dsa110_contimg.absurd.payloads import encode

_PR_SET_PDEATHSIG = 1
_PROGRESS_INTERVAL_S = 0.2


# ------------------------------------------------------------------------------------------------------------- running
def load(target: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` names.

    Raises
    ------
    OptionsError
        There is no such module or function.
    """
    module_name, _, name = target.partition(":")
    try:
        return typing.cast("Callable[..., Any]", getattr(importlib.import_module(module_name), name))
    except (ModuleNotFoundError, AttributeError) as error:
        raise OptionsError(f"{target} cannot be run: {error}") from error


def run(target: str, options: Any, progress: Callable[[float, str], None]) -> Any:
    """Load the function, build its options and call it."""
    function = load(target)
    first = next(iter(inspect.signature(function).parameters))
    kind = typing.get_type_hints(function).get(first, Any)
    return function(build(kind, options), progress)


class Report:
    """Writes the lines of the report; a progress sooner than 0.2 s after the last one is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last_s = 0.0
        self._started_at = time.time()

    def progress(self, fraction: float, message: str) -> None:
        """Say how far the stage is; the last word (fraction 1) is always said."""
        now_s = time.monotonic()
        if fraction >= 1.0 or now_s - self._last_s >= _PROGRESS_INTERVAL_S:
            self._last_s = now_s
            self._write({"progress": [float(fraction), str(message)]})

    def result(self, value: Any) -> None:
        """Say what the function returned."""
        self._write({"result": value, "facts": self._facts()})

    def error(self, error: BaseException) -> None:
        """Say what the function raised."""
        words = {
            "type": type(error).__qualname__,
            "types": [kind.__qualname__ for kind in type(error).__mro__[:-2]],
            "message": str(error) or type(error).__qualname__,
            "retryable": bool(getattr(error, "retryable", True)),
            "after_s": getattr(error, "after_s", None),
            "traceback": "".join(traceback.format_exception(error))[-8000:],
        }
        self._write({"error": words, "facts": self._facts()})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._stream.write(encode(line) + "\n")
        self._stream.flush()

    def _facts(self) -> Mapping[str, Any]:
        """Return times, CPU time with that of finished grandchildren, and the process's own peak of resident memory."""
        own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "started_at": self._started_at,
            "finished_at": time.time(),
            "cpu_s": own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime,
            "peak_rss_bytes": _peak_rss_bytes(),
            "host": socket.gethostname(),
        }


def _peak_rss_bytes() -> int:
    """Return VmHWM. The figure of getrusage would also count the worker's memory before exec."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - not a file of ours
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def die_with_worker(parent: int) -> None:
    """Let the kernel kill this process when the worker ends, and go at once when that has already happened."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        sys.exit("the worker is gone")


def main(argv: list[str] | None = None) -> None:
    """Run one function; exit code 0 = it returned, 1 = it raised (the report tells what)."""
    parser = argparse.ArgumentParser("python -m dsa110_contimg.absurd.child", description=__doc__)
    parser.add_argument("target", help="module:function")
    parser.add_argument("--report", type=int, required=True, help="file descriptor for the report")
    parser.add_argument("--parent", type=int, help="process id of the worker; this process dies with it")
    parser.add_argument("--memory-mb", type=int, help="limit of the address space")
    arguments = parser.parse_args(argv)
    if arguments.parent:
        die_with_worker(arguments.parent)
    if arguments.memory_mb:
        resource.setrlimit(resource.RLIMIT_AS, (arguments.memory_mb << 20, arguments.memory_mb << 20))
    os.set_inheritable(arguments.report, False)
    report = Report(os.fdopen(arguments.report, "w", encoding="utf-8"))
    sys.excepthook = lambda _type, error, _trace: report.error(error)  # whatever ends this process has its say
    report.result(run(arguments.target, json.load(sys.stdin), report.progress))


if __name__ == "__main__":
    main()
