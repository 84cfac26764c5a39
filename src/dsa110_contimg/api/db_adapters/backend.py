"""What every database driver of ours does: the one interface that repositories know.

An adapter takes ``(sql, params)`` in its own dialect (``?`` on SQLite, ``$1`` on PostgreSQL) and never rewrites a
statement; :mod:`.statement` and :mod:`.query_builder` make statements for either.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Protocol


class DatabaseBackend(StrEnum):
    """The databases we speak to."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Row(Protocol):
    """One row: by name, by place, or as its values in order."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return a value by column name or place."""

    def __iter__(self) -> Iterator[Any]:
        """Give the values in the order of the columns."""

    def __len__(self) -> int:
        """Return the number of columns."""

    def keys(self) -> Any:
        """Return the column names."""


Params = Sequence[Any]


class AsyncConnection(Protocol):
    """One connection, used by one task at a time; who is derived from it needs three of its methods."""

    async def execute(self, query: str, params: Params = ()) -> int:
        """Execute a statement and return how many rows it changed."""

    async def execute_many(self, query: str, rows: Sequence[Params]) -> None:
        """Execute a statement once for each of ``rows``."""

    async def fetch_all(self, query: str, params: Params = ()) -> Sequence[Row]:
        """Execute a statement and return all its rows."""

    async def fetch_one(self, query: str, params: Params = ()) -> Row | None:
        """Execute a statement and return its first row."""
        rows = await self.fetch_all(query, params)
        return rows[0] if rows else None

    async def fetch_val(self, query: str, params: Params = ()) -> Any:
        """Execute a statement and return the first value of its first row; None without a row."""
        row = await self.fetch_one(query, params)
        return None if row is None else row[0]


class DatabaseAdapter(AsyncConnection, Protocol):
    """A database with its pool of connections.

    The methods of :class:`AsyncConnection` work on the adapter too, each in a connection of its own: fetches read,
    executes are a transaction of one statement.

    Every method may raise
    DatabaseConnectionError (cannot be reached or opened), DatabaseSchemaError (not our tables), DatabaseBusyError (held
    by somebody else for too long), DatabaseReadOnlyError (of the earlier pipeline), DatabaseFullError (no space left),
    InvalidRecordError or RecordAlreadyExistsError (refused by a constraint),
    DatabaseQueryError (anything else).
    """

    @property
    def backend(self) -> DatabaseBackend:
        """Which database it is."""

    @property
    def read_only(self) -> bool:
        """Whether it is a file of the earlier pipeline, in which every transaction is refused."""

    @property
    def placeholder(self) -> str:
        """Sign of a parameter: ``?`` or ``$`` (followed by its number)."""

    @property
    def name(self) -> str:
        """File or address, fit to be shown."""

    @property
    def turn(self) -> int:
        """How often another file than the one before was read; 0 of what is no file."""

    async def fetch_prompt(self, query: str, params: Params = ()) -> Sequence[Row]:
        """Read all rows of a statement that an index answers from a few pages."""

    def write_mark(self) -> Hashable:
        """Return what changes with every write of anybody; None where that cannot be told at once."""

    async def connect(self) -> None:
        """Open the pool; the database must be there. Does nothing when it is open."""

    async def disconnect(self) -> None:
        """Close all connections."""

    def acquire(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection for reads."""

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lend a connection in a transaction: committed at the end, rolled back by any exception or cancellation."""
