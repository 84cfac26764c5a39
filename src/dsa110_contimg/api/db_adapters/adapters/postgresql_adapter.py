"""PostgreSQL through an asyncpg pool, with a limit on everything that can take long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson

from dsa110_contimg.api.db_adapters.adapters.postgresql_errors import in_our_words, translate
from dsa110_contimg.api.db_adapters.adapters.postgresql_prompt import PromptConnections
from dsa110_contimg.api.db_adapters.backend import AsyncConnection, DatabaseBackend, Params, Row
from dsa110_contimg.api.exceptions import DatabaseBusyError, DatabaseConnectionError
from dsa110_contimg.secret_files import masked
from dsa110_contimg.server_watch import ServerHangsError, ServerWatch

# The client gives up this long after the server should have: a server that vanished says nothing.
GRACE_S = 2.0
# The longest wait for a connection of the pool: by then as many as there are have worked that long.
FREE_S = 1.75


def _json_text(value: Any) -> str:
    return orjson.dumps(value).decode()


async def _prepare(raw: Any) -> None:
    for kind in ("json", "jsonb"):
        await raw.set_type_codec(kind, encoder=_json_text, decoder=orjson.loads, schema="pg_catalog")


class PostgreSQLConnection(AsyncConnection):
    """One connection; errors come in our words."""

    def __init__(self, raw: Any, name: str) -> None:
        self._raw = raw
        self._name = name

    async def execute(self, query: str, params: Params = ()) -> int:
        """Execute a statement and return how many rows it changed."""
        with in_our_words(self._name):
            status: str = await self._raw.execute(query, *params)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdecimal() else 0

    async def execute_many(self, query: str, rows: Sequence[Params]) -> None:
        """Execute a statement once for each of ``rows``."""
        with in_our_words(self._name):
            await self._raw.executemany(query, rows)

    async def fetch_all(self, query: str, params: Params = ()) -> Sequence[Row]:
        """Execute a statement and return all its rows."""
        with in_our_words(self._name):
            rows: Sequence[Row] = await self._raw.fetch(query, *params)
            return rows


class PostgreSQLAdapter(AsyncConnection):
    """A PostgreSQL database.

    Parameters
    ----------
    url : str
        ``postgresql://user:password@host:port/database``.
    pool_min, pool_max : int
        Connections kept open, and most connections.
    timeout_s : float
        Longest wait for the server at the start; for a free connection too, where that is less than 1.75 s.
    statement_timeout_s, lock_timeout_s : float
        Longest statement, and longest wait for a row; a transaction that does nothing ends after twice the former.
    ssl : bool
        Refuse connections without TLS.
    """

    backend = DatabaseBackend.POSTGRESQL
    placeholder = "$"
    read_only = False
    turn = 0

    def __init__(
        self,
        url: str,
        pool_min: int = 1,
        pool_max: int = 10,
        timeout_s: float = 30.0,
        statement_timeout_s: float = 5.0,
        lock_timeout_s: float = 5.0,
        ssl: bool = False,
    ) -> None:
        self.name = masked(url)
        self._timeout_s = timeout_s
        self._pool: Any = None
        self._waited_in_vain = False  # since a connection was given back
        self._cut_off: set[int] = set()  # processes of the server whose work was not done to its end
        self._prompt = PromptConnections(self._connected)
        self._watch = ServerWatch(self.name, self._knock)
        self._pool_options = {"min_size": pool_min, "max_size": pool_max, "init": _prepare, "reset": self._reset}
        self._options = {
            "dsn": url,
            "timeout": timeout_s,
            "command_timeout": statement_timeout_s + GRACE_S,
            "server_settings": {
                "application_name": "dsa110-contimg",
                "timezone": "UTC",
                "statement_timeout": _milliseconds(statement_timeout_s),
                "lock_timeout": _milliseconds(lock_timeout_s),
                "idle_in_transaction_session_timeout": _milliseconds(2 * statement_timeout_s),
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "10",
                "tcp_keepalives_count": "3",
            },
            **({"ssl": "require"} if ssl else {}),
        }

    async def connect(self) -> None:
        """Open the pool; does nothing when it is open."""
        if self._pool is not None:
            return
        with in_our_words(self.name):
            async with asyncio.timeout(self._timeout_s):
                self._pool = await asyncpg.create_pool(**self._options, **self._pool_options)

    async def _connected(self) -> Any:
        raw = await asyncpg.connect(**self._options)
        await _prepare(raw)
        return raw

    async def _knock(self) -> None:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
            raw = await asyncpg.connect(**self._options)
            raw.terminate()

    def _give_up_prompt(self) -> None:
        prompt, self._prompt = self._prompt, PromptConnections(self._connected)
        prompt.close()

    async def disconnect(self) -> None:
        """Close all connections; those that do not end in time are cut."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        self._watch.close()
        self._give_up_prompt()
        try:
            async with asyncio.timeout(GRACE_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Any]:
        if self._pool is None:
            raise DatabaseConnectionError(
                f"The products database {self.name} is not open: call connect() first", self.name
            )
        pool = self._pool
        with in_our_words(self.name):
            raw = await self._free(pool)
        server, whole = raw.get_server_pid(), False
        try:
            with self._watch.over(raw.terminate):
                yield raw
            whole = True
        except ServerHangsError as error:
            raise translate(error, self.name) from error
        finally:
            if not whole:
                self._cut_off.add(server)
            self._waited_in_vain = False
            try:
                with in_our_words(self.name):
                    await pool.release(raw, timeout=GRACE_S)  # of a server that hangs too
            finally:
                self._cut_off.discard(server)  # also of a connection that was closed meanwhile

    async def _reset(self, raw: Any) -> None:
        """Leave a connection that comes back as it is; only what was cut off on it is ended.

        No statement of ours changes a session (SET LOCAL ends with its transaction), and an open transaction was rolled
        back by the driver before: to undo that would be one more exchange with the server for each request. But the
        driver tells the server to end a statement only when it executes it, not when it prepares it. Who gives up in
        between would leave the server with the locks of that statement, until the connection is used again.
        """
        if raw.get_server_pid() in self._cut_off:
            await raw.execute("SELECT 1")

    def _is_stuck(self, pool: Any) -> bool:
        """Tell whether all connections are lent, and somebody has waited for one in vain since one came back."""
        return self._waited_in_vain and pool.get_idle_size() == 0 and pool.get_size() == pool.get_max_size()

    async def _free(self, pool: Any) -> Any:
        """Return a connection of the pool, when one is free.

        A request reads more than once, and waits for what others read: where one wait was in vain, the next is not
        begun, so that it is told of in the time of one.
        """
        limit_s = min(self._timeout_s, FREE_S)
        try:
            if self._is_stuck(pool):
                raise TimeoutError
            async with asyncio.timeout(limit_s) as limit:
                if self._watch.hangs:
                    raise ServerHangsError
                number = self._watch.begin(lambda: limit.reschedule(0.0))
                try:
                    return await pool.acquire()
                finally:
                    self._watch.end(number, heard=False)
        except TimeoutError as error:
            if self._watch.hangs:
                raise ServerHangsError from error
            self._waited_in_vain = True
            raise DatabaseBusyError(
                f"No connection to the products database {self.name} became free in {limit_s:g} s", self.name
            ) from None

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection."""
        async with self._lent() as raw:
            yield PostgreSQLConnection(raw, self.name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in a transaction: committed at the end, rolled back by any exception or cancellation."""
        async with self._lent() as raw:
            with in_our_words(self.name):
                async with raw.transaction():
                    yield PostgreSQLConnection(raw, self.name)

    async def execute(self, query: str, params: Params = ()) -> int:
        """Execute a statement and return how many rows it changed."""
        async with self.acquire() as connection:
            return await connection.execute(query, params)

    async def execute_many(self, query: str, rows: Sequence[Params]) -> None:
        """Execute a statement once for each of ``rows``, all in one transaction."""
        async with self.acquire() as connection:
            await connection.execute_many(query, rows)

    async def fetch_all(self, query: str, params: Params = ()) -> Sequence[Row]:
        """Execute a statement and return all its rows."""
        async with self.acquire() as connection:
            return await connection.fetch_all(query, params)

    async def fetch_prompt(self, query: str, params: Params = ()) -> Sequence[Row]:
        """Read all rows of what an index finds in a few pages: by a connection kept for that, or by one of the pool."""
        with in_our_words(self.name), self._watch.over(self._give_up_prompt) as wait:
            rows = await self._prompt.fetch_all(query, params)
            wait.heard = rows is not None
        if rows is None:
            rows = await self.fetch_all(query, params)
            if self._pool is not None:  # it was open, and may have been closed meanwhile
                await self._prompt.open_one()
        return rows

    def write_mark(self) -> None:
        """Return nothing: only the server knows what was written."""


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
