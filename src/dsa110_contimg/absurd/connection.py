"""Connections to the queue's database: how they are opened, what a broken one looks like, when to try again."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, nullcontext, suppress
from typing import Any, TypeVar

import asyncpg

from dsa110_contimg.absurd.payloads import encode
from dsa110_contimg.absurd.release import OUTDATED, SCHEMA_VERSION, is_outdated
from dsa110_contimg.absurd.statements import installation
from dsa110_contimg.secret_files import masked
from dsa110_contimg.server_watch import ServerWatch

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 60.0

Answer = TypeVar("Answer")


class AbsurdError(Exception):
    """Base of the queue's own errors."""


class QueueUnavailableError(AbsurdError):
    """The queue's database does not answer."""


class ChangedError(AbsurdError):
    """Somebody else has changed what is to be changed, since the caller saw it."""


class SchemaError(AbsurdError):
    """The database does not hold the tables and functions that this version of the code works with."""


#: What is worth another try: the connection broke, the server is (re)starting or full, or two transactions crossed.
PASSING = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a call can meet when the server cuts its connection at that very moment
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.TransactionRollbackError,
    asyncpg.exceptions.LockNotAvailableError,
)

#: What opening a connection can answer when the address, the password or the database's name is wrong.
REFUSED = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)


def delays(longest_s: float = 5.0) -> Iterator[float]:
    """Return waiting times in seconds for one try after the other: exponential, full jitter, capped."""
    limit = 0.05
    while True:
        yield random.uniform(0.0, limit)  # noqa: S311 - spreads clients, guards nothing
        limit = min(limit * 2.0, longest_s)


async def persist(
    call: Callable[[], Awaitable[Answer]], patience_s: float, errors: tuple[type[Exception], ...] = PASSING
) -> Answer:
    """Await ``call()`` until it succeeds; let its error out when ``patience_s`` is over.

    Every call of the queue may be repeated: spawns carry ids made by the caller, a worker's writes carry its claim.
    """
    deadline = time.monotonic() + patience_s
    for delay_s in delays():
        try:
            return await call()
        except errors:
            if time.monotonic() + delay_s > deadline:
                raise
        await asyncio.sleep(delay_s)
    raise AssertionError("delays() never ends")


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec("jsonb", encoder=encode, decoder=json.loads, schema="pg_catalog")


async def _leave(_connection: Any) -> None:
    """Do nothing when a connection comes back: a call is one statement, which leaves nothing behind to be reset."""


_SETTINGS = {"idle_in_transaction_session_timeout": "10000", "tcp_keepalives_idle": "10"}


def unanswered(url: str, error: Exception) -> QueueUnavailableError:
    """Return what is said of a database that could not be asked."""
    reason = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    return QueueUnavailableError(
        f"the queue's database {masked(url)} does not answer ({reason}); is the server up, and is "
        "ABSURD_DATABASE_URL right?"
    )


async def open_connection(url: str, name: str, command_timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
    """Open one connection that calls itself ``name``."""
    connection = await asyncpg.connect(
        url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings={**_SETTINGS, "application_name": name},
    )
    await _prepare(connection)
    return connection


class Database:
    """A pool of connections whose calls are repeated while an error is likely to pass.

    Parameters
    ----------
    url : str
        Address of the queue's database.
    name : str
        How its sessions call themselves.
    max_size : int
        Connections at most; they are opened when they are needed.
    patience_s : float
        How long a call goes on trying.
    command_timeout_s : float
        Longest statement, of a server that hangs too.
    watched : bool
        Whether a server that hangs is to be told from one that takes its time, so that nobody waits for it.
    """

    def __init__(
        self, url: str, name: str, max_size: int = 10, patience_s: float = 2.0,
        command_timeout_s: float = COMMAND_TIMEOUT_S, *, watched: bool = False,
    ) -> None:  # fmt: skip
        self.url = url
        self._name = name
        self._max_size = max_size
        self._patience_s = patience_s
        self._command_timeout_s = command_timeout_s
        self._pool: Any = None
        self._watch = ServerWatch("the queue's database", self._knock) if watched else None

    async def connect(self) -> None:
        """Open the pool and check the version of the schema.

        Raises
        ------
        QueueUnavailableError
            The server does not answer, or refuses the address.
        SchemaError
            The schema is missing or of another version.
        """
        try:
            async with AsyncExitStack() as undo:
                undo.push_async_callback(self.close)
                self._pool = await asyncpg.create_pool(
                    self.url, min_size=1, max_size=self._max_size, timeout=CONNECT_TIMEOUT_S, init=_prepare,
                    reset=_leave, command_timeout=self._command_timeout_s,
                    server_settings={**_SETTINGS, "application_name": self._name},
                )  # fmt: skip
                await self._check_schema()
                undo.pop_all()
        except (*PASSING, *REFUSED) as error:
            raise unanswered(self.url, error) from error

    async def close(self) -> None:
        """Close the pool; connections in use get five seconds to come back."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if self._watch:
            self._watch.close()
        try:
            async with asyncio.timeout(5.0):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def fetch(self, statement: str, *args: Any, patience_s: float | None = None) -> list[Any]:
        """Run a statement and return its rows.

        Raises
        ------
        QueueUnavailableError
            The database did not answer within the patience.
        """
        pool = self._pool
        if pool is None:
            raise ValueError("this client is not connected; await connect() first, or use `async with`")

        async def call() -> list[Any]:
            connection = await self._free(pool)
            watched = self._watch.over(connection.terminate) if self._watch else nullcontext()
            try:
                with watched:
                    rows: list[Any] = await connection.fetch(statement, *args)
            finally:  # a server that hangs does not hear either that its statement is not waited for any more
                await pool.release(connection, timeout=min(CONNECT_TIMEOUT_S, self._command_timeout_s))
            return rows

        try:
            return await persist(call, self._patience_s if patience_s is None else patience_s)
        except PASSING as error:
            raise unanswered(self.url, error) from error

    async def _free(self, pool: Any) -> Any:
        """Return a connection of the pool, when one is free."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S) as limit:
            if self._watch is None:
                return await pool.acquire()
            if self._watch.hangs:
                raise TimeoutError
            number = self._watch.begin(lambda: limit.reschedule(0.0))
            try:
                return await pool.acquire()
            finally:
                self._watch.end(number, heard=False)

    async def _knock(self) -> None:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
            (await asyncpg.connect(self.url)).terminate()

    async def fetchval(self, statement: str, *args: Any, patience_s: float | None = None) -> Any:
        """Run a statement and return the first column of its first row."""
        rows = await self.fetch(statement, *args, patience_s=patience_s)
        return rows[0][0] if rows else None

    async def _check_schema(self) -> None:
        if not await self.fetchval(installation.SCHEMA_EXISTS):
            raise SchemaError(
                f"the database {masked(self.url)} holds no queue; run `python -m dsa110_contimg.absurd.setup init`"
            )
        installed = dict((await self.fetch(installation.INSTALLED))[0])
        version = installed["schema_version"]
        if version < SCHEMA_VERSION:
            raise SchemaError(
                f"the queue of {masked(self.url)} has schema version {version}, this code works with {SCHEMA_VERSION}; "
                "run `python -m dsa110_contimg.absurd.setup init`"
            )
        serves_from = installed["serves_from"]
        if serves_from > SCHEMA_VERSION:
            raise SchemaError(
                f"the queue of {masked(self.url)} has schema version {version} and serves code from version "
                f"{serves_from} on; this code is of version {SCHEMA_VERSION}: install the newer one"
            )
        if is_outdated(installed):
            log.warning("%s: %s", masked(self.url), OUTDATED)
