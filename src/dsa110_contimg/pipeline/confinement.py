"""Limits that a child process sets for itself before it reads a file that may be broken or hostile; how it answers."""

import resource
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

MEMORY_BYTES = 1 << 30  # address space; the largest picture of a Measurement Set takes 850 MB, that of an image 720
CPU_S = 20  # a picture of a whole observation takes 4


def confine() -> None:
    """Bound memory and CPU time of this process, leave no core file, and let it write no file and start no process."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))  # one after the other: the first says what it was
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for kind, bound in limits.items():
        resource.setrlimit(kind, (bound, bound))


def answer_confined(
    make: Callable[[], bytes], unusable: tuple[type[Exception], ...], words: Callable[[Exception], str] = str
) -> int:
    """Write what ``make`` returns, and nothing that it prints, on standard output, under the limits.

    Returns
    -------
    int
        Exit code: 0, or 2 when it raised one of ``unusable``; then standard error has the reason, in ``words`` and one
        line.
    """
    confine()
    try:
        with redirect_stdout(sys.stderr):  # astropy prints what it thinks of odd coordinates
            made = make()
    except unusable as error:
        reason = "it needs too much memory" if isinstance(error, MemoryError) else words(error) or type(error).__name__
        sys.stderr.write(" ".join(reason.split()) + "\n")
        return 2
    sys.stdout.buffer.write(made)
    return 0
