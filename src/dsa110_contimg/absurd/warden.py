"""A small process beside each worker: when the worker dies, it kills the process groups of the worker's children.

The kernel kills a child itself when its worker dies (PR_SET_PDEATHSIG), but not the processes that the child started.
Standard input carries lines ``+PGID`` and ``-PGID``; its end means that the worker is gone.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable


def watch(lines: Iterable[str]) -> None:
    """Follow the worker's words until they end, then kill every group that is still there."""
    groups: set[int] = set()
    for line in lines:
        group = int(line[1:])
        groups.add(group) if line[0] == "+" else groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.SIG_IGN)
    watch(sys.stdin)
