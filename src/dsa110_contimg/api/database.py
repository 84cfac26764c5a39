"""Connections and transactions of the products database, awaited and blocking.

Repositories work through an adapter: :func:`open_database`, or :class:`BlockingDatabase` for scripts and RQ jobs. Their
statements come as ``Steps``; :func:`read` and :func:`write` execute them. For plain SQL on an SQLite file there are
:func:`get_async_connection` and its relatives, which give the driver's own connection.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import aiosqlite
from anyio.from_thread import BlockingPortal, start_blocking_portal

from dsa110_contimg.api.audit import open_change
from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig, get_config
from dsa110_contimg.api.db_adapters import DatabaseAdapter, create_adapter
from dsa110_contimg.api.db_adapters.adapters.sqlite_adapter import existing, open_connection
from dsa110_contimg.api.db_adapters.adapters.sqlite_errors import in_our_words
from dsa110_contimg.api.db_adapters.backend import AsyncConnection, DatabaseBackend
from dsa110_contimg.api.db_adapters.statement import Steps
from dsa110_contimg.api.queries import schema
from dsa110_contimg.api.queries.audit import append

T = TypeVar("T")


# --- statements as values -----------------------------------------------------------------------------------------


async def run(connection: AsyncConnection, backend: DatabaseBackend, steps: Steps[T]) -> T:
    """Execute the queries that ``steps`` yields, send it their results, and return what it returns."""
    try:
        query = next(steps)
        while True:
            text = query.statement.text(backend)
            if query.many is not None:
                await connection.execute_many(text.sql, [text.arrange(params) for params in query.many])
                query = steps.send(None)
            else:
                query = steps.send(query.decode(await connection.fetch_all(text.sql, text.arrange(query.params))))
    except StopIteration as end:
        result: T = end.value
        return result


async def read(adapter: DatabaseAdapter, steps: Steps[T]) -> T:
    """Execute ``steps``, each query in a connection of its own; prompt ones need none that is lent."""
    try:
        query = next(steps)
        while True:
            text = query.statement.text(adapter.backend)
            fetch = adapter.fetch_prompt if query.prompt else adapter.fetch_all
            query = steps.send(query.decode(await fetch(text.sql, text.arrange(query.params))))
    except StopIteration as end:
        result: T = end.value
        return result


async def write(adapter: DatabaseAdapter, steps: Steps[T]) -> T:
    """Execute ``steps`` in one transaction; a change that somebody asked for is recorded in the same one.

    Raises
    ------
    DatabaseSchemaError
        A later version has changed the tables since this process began: what it would write may be wrong now.
    """
    async with adapter.transaction() as connection:
        await run(connection, adapter.backend, schema.require_current())
        result = await run(connection, adapter.backend, steps)
        if begun := open_change():
            await run(connection, adapter.backend, append(begun.followed("changed")))
        return result


@asynccontextmanager
async def open_database(
    config: DatabaseConfig | None = None, timeouts: TimeoutConfig | None = None
) -> AsyncIterator[DatabaseAdapter]:
    """Give a connected adapter of the configured database, and close it at the end."""
    adapter = create_adapter(config, timeouts)
    await adapter.connect()
    try:
        yield adapter
    finally:
        await adapter.disconnect()


class BlockingDatabase:
    """The products database for code that does not await: the same adapter, with an event loop in a thread of its own.

    >>> with BlockingDatabase() as database:  # doctest: +SKIP
    ...     image = ImageRepository(database).get_by_id("1")
    """

    def __init__(self, config: DatabaseConfig | None = None, timeouts: TimeoutConfig | None = None) -> None:
        self._adapter = create_adapter(config, timeouts)
        self._resources = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self._portal = resources.enter_context(start_blocking_portal())
            resources.callback(self._portal.call, self._adapter.disconnect)
            self._portal.call(self._adapter.connect)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()
        self._portal = None

    def call(self, work: Callable[[DatabaseAdapter], Awaitable[T]]) -> T:
        """Wait for what is to be done with the adapter, as in ``call(lambda adapter: read(adapter, steps))``."""
        if self._portal is None:
            raise RuntimeError("the database is not open: use it in a `with` statement")
        return self._portal.call(work, self._adapter)


# --- plain SQL on an SQLite file ----------------------------------------------------------------------------------


def _get_default_db_path() -> str:
    """Get default database path (lazy-loaded)."""
    return str(get_config().database.products_path)


def _timeout(timeout: float | None) -> float:
    return get_config().timeouts.db_connection if timeout is None else timeout


@asynccontextmanager
async def get_async_connection(
    db_path: str | Path | None = None, timeout: float | None = None
) -> AsyncIterator[aiosqlite.Connection]:
    """Give an aiosqlite connection in autocommit mode, whose rows know their column names.

    Parameters
    ----------
    db_path : str or Path, optional
        The file, the configured products database unless given; it must exist.
    timeout : float, optional
        Longest wait for another writer, s; ``TimeoutConfig.db_connection`` unless given.

    Raises
    ------
    DatabaseConnectionError
        There is no such file, or it is no database.
    """
    path = Path(db_path or _get_default_db_path())
    with in_our_words(str(path)):
        connection = await open_connection(path, _timeout(timeout), read_only=False)
    try:
        yield connection
    finally:
        await asyncio.shield(connection.close())  # what is not committed is rolled back


@asynccontextmanager
async def async_transaction(connection: aiosqlite.Connection) -> AsyncIterator[aiosqlite.Connection]:
    """Begin IMMEDIATE, commit at the end, roll back by any exception or cancellation."""
    try:
        await connection.execute_fetchall("BEGIN IMMEDIATE")
        yield connection
        await connection.commit()
    finally:
        await asyncio.shield(connection.rollback())  # does nothing after the commit


@asynccontextmanager
async def async_transactional_connection(
    db_path: str | Path | None = None, timeout: float | None = None
) -> AsyncIterator[aiosqlite.Connection]:
    """Give a connection in a transaction, and close it at the end."""
    async with get_async_connection(db_path, timeout) as connection, async_transaction(connection):
        yield connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Begin IMMEDIATE, commit at the end, roll back by any exception."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.commit()
    finally:
        connection.rollback()  # does nothing after the commit


@contextmanager
def transactional_connection(
    db_path: str | Path | None = None, timeout: float | None = None
) -> Iterator[sqlite3.Connection]:
    """Give a sqlite3 connection in a transaction, and close it at the end; the file must exist."""
    path = existing(Path(db_path or _get_default_db_path()))
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_timeout(timeout))) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")
        with transaction(connection):
            yield connection
