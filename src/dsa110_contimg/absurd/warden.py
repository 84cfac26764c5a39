"""A small process beside another one: when that dies, it kills the process groups of the children.

The kernel kills a child itself when its parent dies (PR_SET_PDEATHSIG), but not the processes that the child started.
Standard input carries lines ``+PGID`` and ``-PGID``; its end means that the parent is gone.
"""

import signal
import sys
from collections.abc import Iterable

from dsa110_contimg.absurd.processes import kill_group


def watch(lines: Iterable[str]) -> None:
    """Follow the parent's words until they end, then kill every group that is still there."""
    groups: set[int] = set()
    for line in lines:
        group = int(line[1:])
        groups.add(group) if line[0] == "+" else groups.discard(group)
    for group in groups:
        kill_group(group)


if __name__ == "__main__":
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.SIG_IGN)
    watch(sys.stdin)
