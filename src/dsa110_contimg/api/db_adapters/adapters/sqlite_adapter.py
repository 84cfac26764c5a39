"""SQLite through aiosqlite: a few reading connections and one writer, none shared in the middle of anything.

Every write transaction begins IMMEDIATE: it takes the write lock before it reads, so that two writers wait for each
other instead of failing. Within a process writers queue at a lock, between processes at SQLite's busy timeout.
The database file is never created here, and its journal mode (WAL, set by the migrations) is never changed.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from dsa110_contimg.api.db_adapters.adapters.sqlite_errors import in_our_words
from dsa110_contimg.api.db_adapters.backend import AsyncConnection, DatabaseBackend, Params, Row
from dsa110_contimg.api.exceptions import DatabaseBusyError, DatabaseConnectionError


def existing(path: Path) -> Path:
    """Return the path of a database file that is there.

    Raises
    ------
    DatabaseConnectionError
        There is no such file; SQLite would create an empty one.
    """
    if not path.is_file():
        raise DatabaseConnectionError(
            f"There is no products database at {path}; make it with `dsa110 db upgrade`, "
            "or set PRODUCTS_DB_PATH to the one that exists",
            str(path),
        )
    return path


async def open_connection(path: Path, busy_timeout_s: float, *, read_only: bool) -> aiosqlite.Connection:
    """Open a connection to an existing database file, with our settings, in autocommit mode."""
    uri = f"{existing(path).absolute().as_uri()}?mode=rw"
    raw = await aiosqlite.connect(uri, uri=True, isolation_level=None, timeout=busy_timeout_s, cached_statements=256)
    raw.row_factory = sqlite3.Row
    settings = ["foreign_keys=ON", "synchronous=FULL", "trusted_schema=OFF", "journal_size_limit=67108864"]
    async with AsyncExitStack() as undo:
        undo.push_async_callback(raw.close)
        for setting in [*settings, "query_only=ON"] if read_only else settings:
            await raw.execute_fetchall(f"PRAGMA {setting}")
        await raw.execute_fetchall("PRAGMA schema_version")  # the first read of the file: is it a database?
        undo.pop_all()
    return raw


class SQLiteConnection:
    """One connection; errors come in our words."""

    def __init__(self, raw: aiosqlite.Connection, name: str) -> None:
        self._raw = raw
        self._name = name

    async def execute(self, query: str, params: Params = ()) -> int:
        """Execute a statement and return how many rows it changed."""
        with in_our_words(self._name):
            async with self._raw.execute(query, params) as cursor:
                return max(cursor.rowcount, 0)

    async def execute_many(self, query: str, rows: Sequence[Params]) -> None:
        """Execute a statement once for each of ``rows``."""
        with in_our_words(self._name):
            async with self._raw.executemany(query, rows):
                pass

    async def fetch_all(self, query: str, params: Params = ()) -> Sequence[Row]:
        """Execute a statement and return all its rows."""
        with in_our_words(self._name):
            return list(await self._raw.execute_fetchall(query, params))

    async def fetch_one(self, query: str, params: Params = ()) -> Row | None:
        """Execute a statement and return its first row."""
        rows = await self.fetch_all(query, params)
        return rows[0] if rows else None

    async def fetch_val(self, query: str, params: Params = ()) -> Any:
        """Execute a statement and return the first value of its first row; None without a row."""
        row = await self.fetch_one(query, params)
        return None if row is None else row[0]

    async def roll_back(self) -> None:
        """Undo the open transaction; does nothing outside one."""
        await self._raw.rollback()

    async def close(self) -> None:
        """Close the connection; what is not committed is rolled back."""
        await self._raw.close()


class SQLiteAdapter:
    """A database file.

    Parameters
    ----------
    path : Path
        The file; it must exist when :meth:`connect` is called.
    readers : int
        Reading connections; each has a thread.
    timeout_s : float
        Longest wait for a free connection of this process.
    busy_timeout_s : float
        Longest wait for a writer of another process.
    """

    backend = DatabaseBackend.SQLITE
    placeholder = "?"

    def __init__(self, path: Path, readers: int = 4, timeout_s: float = 30.0, busy_timeout_s: float = 5.0) -> None:
        self.path = path
        self.name = str(path)
        self._reader_count = readers
        self._timeout_s = timeout_s
        self._busy_timeout_s = busy_timeout_s
        self._open: list[SQLiteConnection] = []
        self._readers: asyncio.LifoQueue[SQLiteConnection] = asyncio.LifoQueue()
        self._writer: asyncio.LifoQueue[SQLiteConnection] = asyncio.LifoQueue()

    async def connect(self) -> None:
        """Open all connections; does nothing when they are open."""
        if self._open:
            return
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.disconnect)
            self._writer.put_nowait(await self._opened(read_only=False))
            for _ in range(self._reader_count):
                self._readers.put_nowait(await self._opened(read_only=True))
            undo.pop_all()

    async def _opened(self, *, read_only: bool) -> SQLiteConnection:
        with in_our_words(self.name):
            raw = await open_connection(self.path, self._busy_timeout_s, read_only=read_only)
        self._open.append(SQLiteConnection(raw, self.name))
        return self._open[-1]

    async def disconnect(self) -> None:
        """Close all connections."""
        self._readers, self._writer = asyncio.LifoQueue(), asyncio.LifoQueue()
        while self._open:
            await self._open.pop().close()

    @asynccontextmanager
    async def _lent(self, pool: asyncio.LifoQueue[SQLiteConnection]) -> AsyncIterator[SQLiteConnection]:
        if not self._open:
            raise DatabaseConnectionError(
                f"The products database {self.name} is not open: call connect() first", self.name
            )
        try:
            connection = await asyncio.wait_for(pool.get(), self._timeout_s) if pool.empty() else pool.get_nowait()
        except TimeoutError:
            raise DatabaseBusyError(
                f"No connection to the products database {self.name} became free in {self._timeout_s:g} s", self.name
            ) from None
        try:
            yield connection
        finally:
            pool.put_nowait(connection)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection that can only read."""
        async with self._lent(self._readers) as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Lend the writer in a transaction: committed at the end, rolled back by any exception or cancellation."""
        async with self._lent(self._writer) as connection:
            committed = False
            try:
                await connection.execute("BEGIN IMMEDIATE")
                yield connection
                await connection.execute("COMMIT")
                committed = True
            finally:
                # Statements of a connection run in the order in which they were sent. So this comes after a BEGIN or
                # a COMMIT that was under way when the task was cancelled, and before the next borrower's BEGIN.
                if not committed:
                    await asyncio.shield(connection.roll_back())

    async def execute(self, query: str, params: Params = ()) -> int:
        """Execute a statement in a transaction of its own and return how many rows it changed."""
        async with self.transaction() as connection:
            return await connection.execute(query, params)

    async def execute_many(self, query: str, rows: Sequence[Params]) -> None:
        """Execute a statement once for each of ``rows``, all in one transaction."""
        async with self.transaction() as connection:
            await connection.execute_many(query, rows)

    async def fetch_all(self, query: str, params: Params = ()) -> Sequence[Row]:
        """Read all rows."""
        async with self.acquire() as connection:
            return await connection.fetch_all(query, params)

    async def fetch_one(self, query: str, params: Params = ()) -> Row | None:
        """Read the first row."""
        async with self.acquire() as connection:
            return await connection.fetch_one(query, params)

    async def fetch_val(self, query: str, params: Params = ()) -> Any:
        """Read the first value of the first row."""
        async with self.acquire() as connection:
            return await connection.fetch_val(query, params)
