"""Limits that a child process sets for itself before it reads a file that may be broken or hostile."""

import resource

MEMORY_BYTES = 1 << 30  # address space; the libraries take 170 MB of it
CPU_S = 20


def confine() -> None:
    """Bound memory and CPU time of this process, leave no core file, and let it write no file and start no process."""
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: CPU_S,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for kind, bound in limits.items():
        resource.setrlimit(kind, (bound, bound))
