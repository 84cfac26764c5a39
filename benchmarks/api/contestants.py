"""Who answers the requests: ours on either database, the plain implementation, and the bare servers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.api.servers import Child, free_port, running


@contextmanager
def ours(environ: Mapping[str, str]) -> Iterator[Child]:
    """Run our API over the database that ``environ`` names, without limits of rates."""
    port = free_port()
    settings = {
        "DSA110_ENV": "development",
        "DSA110_RATE_LIMIT_DISABLED": "true",
        "ABSURD_ENABLED": "false",
        "DSA110_HOST": "127.0.0.1",
        "DSA110_PORT": str(port),
        "DSA110_LOG_LEVEL": "WARNING",
        "REDIS_CACHE_ENABLED": "false",
    }
    with running("dsa110_contimg.api", [], settings | dict(environ), port) as child:
        yield child


@contextmanager
def plain(database: Path) -> Iterator[Child]:
    """Run the plain implementation over a database of the earlier pipeline."""
    port = free_port()
    with running("benchmarks.api.plain", [str(port)], {"DATABASE": str(database)}, port) as child:
        yield child


@contextmanager
def bare(kind: str, size: int) -> Iterator[Child]:
    """Run a bare server (``asgi`` or ``fastapi``) whose body has ``size`` bytes."""
    port = free_port()
    with running("benchmarks.api.bare", [kind, str(port), str(size)], {}, port) as child:
        yield child
