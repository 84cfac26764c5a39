"""The one PostgreSQL server of a run: a fresh database for each measurement, and its counters."""

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

import asyncpg
import psutil

from dsa110_contimg.up.servers import EmbeddedPostgres

#: Everything durable. Checkpoints stay away, so that WAL figures hold no full-page images.
SETTINGS = {
    "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "512MB",
    "max_wal_size": "16GB", "checkpoint_timeout": "1h", "log_line_prefix": "%d ", "log_checkpoints": "off",
}  # fmt: skip

_STATEMENT = re.compile(rb"^(\S+) LOG:  (?:statement|execute [^:]*): ", re.MULTILINE)


class Server:
    """An embedded PostgreSQL with one database a measurement, made from a template a contestant."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="queue-bench-")
        self._postgres = EmbeddedPostgres(Path(self._home.name) / "postgres", SETTINGS)
        self._admin: Any = None
        self._templates: set[str] = set()
        self._made = 0
        self._making = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._admin = await asyncpg.connect(self._postgres.start())
        pid = int((self._postgres.data / "postmaster.pid").read_text().split()[0])
        self._postmaster = psutil.Process(pid)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._admin.close()
        self._postgres.stop()
        self._home.cleanup()

    async def version(self) -> str:
        """Return the server's version."""
        return str(await self._admin.fetchval("show server_version"))

    async def database(self, name: str, install: Callable[[str], Awaitable[None]]) -> str:
        """Return the address of a new database in which ``install`` has been done (once a name; then it is copied)."""
        async with self._making:
            return await self._database(name, install)

    async def _database(self, name: str, install: Callable[[str], Awaitable[None]]) -> str:
        template = f"template_{re.sub(r'[^a-z0-9]', '_', name)}"
        if template not in self._templates:
            await self._admin.execute(f"create database {template}")
            await install(self._postgres.database_url(template))
            self._templates.add(template)
        self._made += 1
        await self._admin.execute(f"create database run_{self._made} template {template}")
        return self._postgres.database_url(f"run_{self._made}")

    @asynccontextmanager
    async def slow_commits(self, delay_us: int) -> AsyncIterator[float]:
        """Make each commit wait so much longer, as for a slower disk; gives what a commit takes then, ms."""
        for name, value in (("commit_delay", delay_us), ("commit_siblings", 0)):
            await self._admin.execute(f"alter system set {name} = {value}")
        await self._admin.execute("select pg_reload_conf()")
        try:
            yield await self._commit_ms()
        finally:
            await self._admin.execute("alter system reset commit_delay")
            await self._admin.execute("alter system reset commit_siblings")
            await self._admin.execute("select pg_reload_conf()")

    async def _commit_ms(self) -> float:
        await self._admin.execute("create table if not exists probe (n integer)")
        took_ms = []
        for _ in range(21):
            started = time.perf_counter()
            await self._admin.execute("insert into probe values (1)")
            took_ms.append(1e3 * (time.perf_counter() - started))
        return median(took_ms)

    async def log_statements(self, url: str) -> None:
        """Write every statement of the sessions that come into the server's log, to be counted."""
        await self._admin.execute(f"alter database {_name(url)} set log_statement = 'all'")

    def statements(self, url: str) -> int:
        """Return how many statements of a database the log holds."""
        log = (self._postgres.home / "server.log").read_bytes()
        return sum(match.group(1) == _name(url).encode() for match in _STATEMENT.finditer(log))

    async def commits(self, url: str) -> int:
        """Return the transactions that a database has committed, as told by sessions that are over."""
        return int(
            await self._admin.fetchval("select xact_commit from pg_stat_database where datname = $1", _name(url))
        )

    async def wal_bytes(self) -> int:
        """Return the position in the write-ahead log."""
        return int(await self._admin.fetchval("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    def cpu_s(self) -> float:
        """Return the processor seconds of the server and all its sessions, those that are over included."""
        times = self._postmaster.cpu_times()
        ended = times.children_user + times.children_system
        return float(ended + sum(map(_cpu_s, [self._postmaster, *self._postmaster.children(recursive=True)])))


def _cpu_s(process: psutil.Process) -> float:
    try:
        return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def now_s() -> float:
    """Return the clock that all processes of this machine share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
