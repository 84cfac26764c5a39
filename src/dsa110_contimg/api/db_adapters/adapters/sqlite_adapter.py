"""SQLite through aiosqlite: a few reading connections and one writer, none shared in the middle of anything.

Every write transaction begins IMMEDIATE: it takes the write lock before it reads, so that two writers wait for each
other instead of failing. Within a process writers queue at a lock, between processes at SQLite's busy timeout.
The database file is never created here, and its journal mode (WAL, set by the migrations) is never changed.

Before a connection is lent, the file is asked for by its name: one that was replaced is opened anew, so is one after
an error of the file, and one that is gone is said to be. A file of the earlier pipeline is only read; see
:mod:`.earlier_file`.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiosqlite

from dsa110_contimg.api.db_adapters.adapters import earlier_file
from dsa110_contimg.api.db_adapters.adapters.earlier_file import EarlierFile
from dsa110_contimg.api.db_adapters.adapters.sqlite_errors import in_our_words
from dsa110_contimg.api.db_adapters.adapters.sqlite_prompt import PromptReader
from dsa110_contimg.api.db_adapters.backend import AsyncConnection, DatabaseBackend, Params, Row
from dsa110_contimg.api.exceptions import (
    DatabaseBusyError,
    DatabaseConnectionError,
    DatabaseError,
    DatabaseReadOnlyError,
)

Identity = tuple[int, int]

_MOST_OPENINGS = 5


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


def identity_of(path: Path | str) -> Identity | None:
    """Return what distinguishes a file from another one of the same name; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - asked for each statement; a Path would take twice as long
    except OSError:
        return None
    return found.st_dev, found.st_ino


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


class SQLiteConnection(AsyncConnection):
    """One connection; errors come in our words.

    ``seen`` is what its file was when it was opened, None when it must be opened anew.
    """

    def __init__(self, name: str, read_only: bool) -> None:
        self._raw: Any = None
        self._name = name
        self.read_only = read_only
        self.seen: Identity | EarlierFile | None = None

    def use(self, raw: aiosqlite.Connection) -> None:
        """Use another connection of the driver."""
        self._raw = raw

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Raise errors in our words; after one of the file it is opened anew."""
        try:
            with in_our_words(self._name):
                yield
        except DatabaseConnectionError:
            self.seen = None
            raise

    async def execute(self, query: str, params: Params = ()) -> int:
        """Execute a statement and return how many rows it changed."""
        with self._watched():
            async with self._raw.execute(query, params) as cursor:
                changed: int = cursor.rowcount
                return max(changed, 0)

    async def execute_many(self, query: str, rows: Sequence[Params]) -> None:
        """Execute a statement once for each of ``rows``."""
        with self._watched():
            async with self._raw.executemany(query, rows):
                pass

    async def fetch_all(self, query: str, params: Params = ()) -> Sequence[Row]:
        """Execute a statement and return all its rows; one that nobody waits for any more holds up nobody else."""
        with self._watched():
            try:
                return list(await self._raw.execute_fetchall(query, params))
            except asyncio.CancelledError:
                if self.read_only:
                    with suppress(ValueError, sqlite3.Error):  # it was closed meanwhile
                        await self._raw.interrupt()
                raise

    async def roll_back(self) -> None:
        """Undo the open transaction; does nothing outside one."""
        await self._raw.rollback()

    async def close(self) -> None:
        """Close the connection; what is not committed is rolled back."""
        if self._raw is not None:
            await self._raw.close()


class SQLiteAdapter(AsyncConnection):
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
        self._prompt = PromptReader(path)
        self._earlier: EarlierFile | None = None
        self._log: tuple[Identity | None, Identity | None] = (None, None)  # the log that lay beside which file
        self.turn = 0
        self._read_last: Identity | EarlierFile | None = None
        self._renewing = asyncio.Lock()
        self._readers: asyncio.LifoQueue[SQLiteConnection] = asyncio.LifoQueue()
        self._writer: asyncio.LifoQueue[SQLiteConnection] = asyncio.LifoQueue()

    @property
    def read_only(self) -> bool:
        """Whether the file is one of the earlier pipeline, which is never written."""
        return self._earlier is not None

    async def connect(self) -> None:
        """Open all connections; does nothing when they are open."""
        if self._open:
            return
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.disconnect)
            for pool, read_only in ((self._writer, False), *((self._readers, True),) * self._reader_count):
                connection = SQLiteConnection(self.name, read_only)
                self._open.append(connection)
                await self._renew(connection)
                pool.put_nowait(connection)
            undo.pop_all()

    def _is_current(self, connection: SQLiteConnection) -> bool:
        """Tell whether the file of a connection is still the one of this name."""
        seen = connection.seen
        if isinstance(seen, EarlierFile):
            return seen is self._earlier and seen.is_current(self.path)
        return seen is not None and seen == identity_of(self.name)

    async def _renew(self, connection: SQLiteConnection) -> None:
        """Open the file of a connection anew, as what it is now.

        A file that is replaced meanwhile is opened once more: what was opened may be either of the two, with the log of
        the other beside it.
        """
        async with self._renewing:
            connection.seen = None
            for _ in range(_MOST_OPENINGS):
                identity = identity_of(existing(self.path))
                self._refuse_log_of_another(identity)
                await connection.close()
                try:
                    seen = await self._opened(connection, identity)
                except DatabaseError:
                    if identity == identity_of(self.name):
                        raise
                    continue
                log = identity_of(f"{self.name}-wal")
                if identity == identity_of(self.name):
                    connection.seen = seen
                    if not isinstance(seen, EarlierFile):
                        self._log = (identity, log)
                    return
                self._forget_earlier()
        raise DatabaseBusyError(f"The products database {self.name} is being replaced again and again", self.name)

    async def _opened(self, connection: SQLiteConnection, identity: Identity | None) -> Identity | EarlierFile | None:
        """Open the file and return as what: of this identity, or one of the earlier pipeline."""
        if await asyncio.to_thread(earlier_file.is_earlier, self.path):
            return await self._opened_earlier(connection)
        self._forget_earlier()
        with in_our_words(self.name):
            connection.use(await open_connection(self.path, self._busy_timeout_s, read_only=connection.read_only))
        return identity

    async def _opened_earlier(self, connection: SQLiteConnection) -> EarlierFile:
        if self._earlier is None or not self._earlier.is_current(self.path):
            self._forget_earlier()
            self._earlier = await asyncio.to_thread(earlier_file.look, self.path, self._busy_timeout_s)
        if connection.read_only:
            with in_our_words(self.name):
                connection.use(await self._earlier.open_connection(self._busy_timeout_s))
        return self._earlier

    def _forget_earlier(self) -> None:
        earlier, self._earlier = self._earlier, None
        if earlier is not None:
            earlier.keeper.close()

    def _refuse_log_of_another(self, now: Identity | None) -> None:
        """Raise if the file was replaced, but not its log: SQLite would mix the two."""
        file, log = self._log
        if log is not None and file != now and identity_of(f"{self.name}-wal") == log:
            raise DatabaseConnectionError(
                f"The products database {self.name} was replaced while its log stayed; what is in {self.name}-wal "
                "belongs to the earlier file: move it and the file ending in -shm away",
                self.name,
            )

    async def disconnect(self) -> None:
        """Close all connections."""
        self._readers, self._writer = asyncio.LifoQueue(), asyncio.LifoQueue()
        self._prompt.close()
        while self._open:
            await self._open.pop().close()
        self._forget_earlier()

    @asynccontextmanager
    async def _lent(self, pool: asyncio.LifoQueue[SQLiteConnection]) -> AsyncIterator[SQLiteConnection]:
        if not self._open:
            raise DatabaseConnectionError(
                f"The products database {self.name} is not open: call connect() first", self.name
            )
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await pool.get()
        except TimeoutError:
            raise DatabaseBusyError(
                f"No connection to the products database {self.name} became free in {self._timeout_s:g} s", self.name
            ) from None
        try:
            if not self._is_current(connection):
                await self._renew(connection)
            self._count_turn(connection.seen)
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
            if self.read_only:
                raise DatabaseReadOnlyError(self.name)
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

    async def fetch_prompt(self, query: str, params: Params = ()) -> Sequence[Row]:
        """Read all rows of what takes no longer than a change of threads; elsewhere if it cannot be had at once."""
        prompt = self._prompt
        rows = prompt.fetch_all(query, params) if self._is_prompt_now() else None
        if rows is None:
            async with self._lent(self._readers) as connection:
                rows = await connection.fetch_all(query, params)
            seen = connection.seen
            if self._open and isinstance(seen, tuple) and seen == identity_of(self.name):
                prompt.open(seen)  # only a file that was looked at, and is ours
        return rows

    def _is_prompt_now(self) -> bool:
        seen = self._prompt.seen
        if seen is None or identity_of(self.name) != seen:
            return False
        self._count_turn(seen)
        return True

    def _count_turn(self, seen: Identity | EarlierFile | None) -> None:
        if seen != self._read_last:
            self._read_last = seen
            self.turn += 1

    def write_mark(self) -> tuple[int, int] | None:
        """Return what changes with every write of anybody; None where that cannot be told at once."""
        return self._prompt.write_mark() if self._is_prompt_now() else None
