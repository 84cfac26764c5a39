"""Brings the products database to a revision of its tables: one tree of migrations for both databases.

Two migrators of one database wait for each other (a lock on the directory for SQLite, an advisory lock for
PostgreSQL), and all steps of one call are one transaction: it ends at the wanted revision or where it began.
"""

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, NullPool, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.db_adapters.adapters import earlier_file, postgresql_errors, sqlite_errors
from dsa110_contimg.api.db_adapters.adapters.sqlite_adapter import existing
from dsa110_contimg.api.db_adapters.backend import DatabaseBackend
from dsa110_contimg.api.exceptions import (
    DatabaseBusyError,
    DatabaseConnectionError,
    DatabaseReadOnlyError,
    DatabaseSchemaError,
    DSA110APIError,
)

T = TypeVar("T")

_ADVISORY_LOCK = 0x_D5A_110  # any number that only our migrations use


class Migrator:
    """Migrations of one products database. Blocking; call it where no event loop runs.

    Parameters
    ----------
    config : DatabaseConfig
        Which database.
    timeouts : TimeoutConfig, optional
        ``db_connection`` limits the wait for the server and for another migrator.
    directory : Path
        Where env.py and the revisions lie; those of this package unless given.
    """

    def __init__(
        self,
        config: DatabaseConfig,
        timeouts: TimeoutConfig | None = None,
        directory: Path = Path(__file__).parent,
    ) -> None:
        self._config = config
        self._timeout_s = (timeouts or TimeoutConfig()).db_connection
        self._alembic = Config()
        self._alembic.set_main_option("script_location", str(directory).replace("%", "%%"))
        self._alembic.set_main_option("path_separator", "os")
        self._alembic.set_main_option("file_template", "%%(rev)s_%%(slug)s")

    @property
    def _is_sqlite(self) -> bool:
        return self._config.backend == DatabaseBackend.SQLITE

    # --- what there is ---

    def heads(self) -> list[str]:
        """Return the newest revisions; there is one unless two people added one each."""
        return list(self._scripts().get_heads())

    def revisions(self) -> list[Script]:
        """Return all revisions (with ``revision``, ``doc`` and ``path``) from the newest to the oldest."""
        return list(self._scripts().walk_revisions())

    def status(self) -> str | None:
        """Return the revision of the database; None in one that was never migrated.

        Raises
        ------
        DatabaseConnectionError
            There is no such database.
        """
        return self.inspect(lambda connection: MigrationContext.configure(connection).get_current_revision())

    def inspect(self, look: Callable[[Connection], T]) -> T:
        """Call ``look`` with a connection to a database that is there, and return what it says."""
        if self._is_sqlite:
            existing(self._config.products_path)
        return self._connected(look)

    # --- changes ---

    def upgrade(self, revision: str = "head") -> None:
        """Go forward to a revision; makes the file of an SQLite database that is not there yet."""
        if self._is_sqlite:
            self._config.products_path.parent.mkdir(parents=True, exist_ok=True)
        self._locked(lambda: self._command(command.upgrade, revision))

    def downgrade(self, revision: str = "-1") -> None:
        """Go back to a revision, or by a number of steps; tables that it does not know go with their rows."""
        if self._is_sqlite:
            existing(self._config.products_path)
        self._locked(lambda: self._command(command.downgrade, revision))

    def create(self, title: str, *, autogenerate: bool = False) -> Path:
        """Write a new migration; with ``autogenerate`` it holds what differs between database and ``tables.py``."""
        number = f"{len(self.revisions()) + 1:04d}"
        made: list[Any] = []

        def write(config: Config) -> None:
            made.append(command.revision(config, title, autogenerate=autogenerate, rev_id=number))

        if autogenerate:
            self._command(write)
        else:
            write(self._alembic)
        return Path(made[0].path)

    # --- how ---

    def _scripts(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self._alembic)

    def _command(self, run: Callable[..., None], *words: str) -> None:
        def with_connection(connection: Connection) -> None:
            self._alembic.attributes["connection"] = connection
            try:
                run(self._alembic, *words)
            except CommandError as error:
                known = ", ".join(script.revision for script in self.revisions())
                raise DatabaseSchemaError(f"{error}; the known revisions are {known}") from error
            finally:
                del self._alembic.attributes["connection"]

        self._connected(with_connection)

    def _connected(self, use: Callable[[Connection], T]) -> T:
        """Call ``use`` with a connection in a transaction that is committed when it returns."""
        try:
            return self._with_sqlite(use) if self._is_sqlite else asyncio.run(self._with_postgresql(use))
        except DBAPIError as error:
            raise self._in_our_words(error) from error

    def _in_our_words(self, error: DBAPIError) -> DSA110APIError:
        """Return our error for the driver's, which SQLAlchemy has wrapped."""
        name, driver = self._config.display_name, error.orig
        if isinstance(driver, sqlite3.Error):
            return sqlite_errors.translate(driver, name)
        cause = driver.__cause__ if driver is not None else None
        return postgresql_errors.translate(cause if isinstance(cause, Exception) else error, name)

    def _with_sqlite(self, use: Callable[[Connection], T]) -> T:
        path = self._config.products_path
        engine = create_engine(
            "sqlite://", poolclass=NullPool, creator=lambda: sqlite3.connect(path, timeout=self._timeout_s)
        )
        # The driver's own BEGIN comes late and not before DDL; ours is at once and for everything.
        event.listen(engine, "connect", _no_implicit_begin)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        with engine.begin() as connection:
            return use(connection)

    async def _with_postgresql(self, use: Callable[[Connection], T]) -> T:
        url = make_url(self._config.postgresql_url).set(drivername="postgresql+asyncpg")
        options = {"timeout": self._timeout_s, **({"ssl": "require"} if self._config.pg_ssl else {})}
        engine = create_async_engine(url, poolclass=NullPool, connect_args=options)
        try:
            with postgresql_errors.in_our_words(self._config.display_name):
                async with engine.connect() as connection, connection.begin():
                    await connection.execute(text(f"SET LOCAL lock_timeout = {round(self._timeout_s * 1000)}"))
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
                    return await connection.run_sync(use)
        finally:
            await engine.dispose()

    def _locked(self, change: Callable[[], None]) -> None:
        """Make a change while no other migrator does; PostgreSQL's lock belongs to its transaction."""
        if not self._is_sqlite:
            change()
            return
        path = self._config.products_path
        with directory_lock(path.parent, self._timeout_s):
            if path.is_file() and earlier_file.is_earlier(path):
                raise DatabaseReadOnlyError(str(path))
            with sqlite_errors.in_our_words(str(path)):
                _use_wal(path, self._timeout_s)
            change()


def _no_implicit_begin(connection: DBAPIConnection, record: object) -> None:
    connection.isolation_level = None


def _use_wal(path: Path, timeout_s: float) -> None:
    """Make a database keep its log beside it (WAL), so that readers and a writer do not wait for each other."""
    connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
    try:
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    finally:
        connection.close()
    if mode != "wal":
        raise DatabaseConnectionError(
            f"The file system of {path} does not allow write-ahead logging (SQLite stays at {mode!r}); "
            "put the database on a local disk with PRODUCTS_DB_PATH",
            str(path),
        )


@contextmanager
def directory_lock(directory: Path, timeout_s: float) -> Iterator[None]:
    """Hold a directory for this process alone, among those who ask; leaves no file behind.

    Raises
    ------
    DatabaseBusyError
        Somebody else held it for longer than ``timeout_s``.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DatabaseBusyError(
                        f"Another migration of a database in {directory} did not end in {timeout_s:g} s"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)  # gives the lock back


def upgrade(config: DatabaseConfig, timeouts: TimeoutConfig | None = None) -> None:
    """Bring the products database to the newest revision."""
    Migrator(config, timeouts).upgrade()
