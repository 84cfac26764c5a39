"""Who answers the requests: ours on either database, the earlier backend, the plain implementation, bare servers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.api.earlier import CALIBRATION, PRODUCTS
from benchmarks.api.servers import Child, free_port, running


@contextmanager
def ours(environ: Mapping[str, str]) -> Iterator[Child]:
    """Run our API over the database that ``environ`` names: without limits of rates, and every reply is made anew."""
    port = free_port()
    settings = {
        "DSA110_ENV": "development",
        "DSA110_RATE_LIMIT_DISABLED": "true",
        "ABSURD_ENABLED": "false",
        "DSA110_HOST": "127.0.0.1",
        "DSA110_PORT": str(port),
        "DSA110_LOG_LEVEL": "WARNING",
        "REDIS_CACHE_ENABLED": "false",
        "DSA110_REPLY_MEMORY_MB": "0",
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
def earlier(checkout: Path, databases: Path) -> Iterator[Child]:
    """Run the earlier backend of ``checkout`` with its own interpreter, without a log of requests."""
    port = free_port()
    settings = {
        "PYTHONPATH": str(checkout / "backend/src"),
        "DSA110_ENV": "development",
        "DSA110_STATE_DIR": str(databases),
        "PIPELINE_PRODUCTS_DB": str(databases / PRODUCTS),
        "PIPELINE_CAL_REGISTRY_DB": str(databases / CALIBRATION),
        "DSA110_CAL_REGISTRY_DB_PATH": str(databases / CALIBRATION),
    }
    arguments = ["dsa110_contimg.api.app:app", "--port", str(port), "--no-access-log", "--log-level", "warning"]
    with running("uvicorn", arguments, settings, port, str(checkout / ".venv/bin/python")) as child:
        yield child


@contextmanager
def bare(kind: str) -> Iterator[Child]:
    """Run a bare server (``asgi`` or ``fastapi``)."""
    port = free_port()
    with running("benchmarks.api.bare", [kind, str(port)], {}, port) as child:
        yield child
