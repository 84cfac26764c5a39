"""Adapters: which one, what they refuse, and how they say it."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiosqlite
import asyncpg
import pytest

from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig, reset_config
from dsa110_contimg.api.database import get_async_connection, open_database
from dsa110_contimg.api.db_adapters import (
    DatabaseBackend,
    PostgreSQLAdapter,
    SQLiteAdapter,
    create_adapter,
)
from dsa110_contimg.api.db_adapters.adapters.postgresql_errors import in_our_words
from dsa110_contimg.api.exceptions import DatabaseBusyError, DatabaseConnectionError, DatabaseQueryError, DSA110APIError
from dsa110_contimg.chaos.proxy import ChaosProxy
from fixtures.migrated import migrate


@pytest.fixture
def db_path(tmp_path: Path) -> Path:
    """An empty products database of this test."""
    config = DatabaseConfig(products_path=tmp_path / "products.sqlite3")
    migrate(config)
    return config.products_path


@pytest.fixture
async def adapter(db_path: Path) -> AsyncIterator[SQLiteAdapter]:
    """A connected adapter of it."""
    opened = SQLiteAdapter(db_path, readers=2, timeout_s=2.0, busy_timeout_s=0.2)
    await opened.connect()
    yield opened
    await opened.disconnect()


# --- the examples of the specification ----------------------------------------------------------------------------


async def test_the_adapter_of_the_environment_reads_all_images(monkeypatch: pytest.MonkeyPatch, db_path: Path) -> None:
    monkeypatch.setenv("DSA110_DB_BACKEND", "sqlite")
    monkeypatch.setenv("PRODUCTS_DB_PATH", str(db_path))
    reset_config()
    try:
        adapter = create_adapter()  # Uses DSA110_DB_BACKEND env var
        await adapter.connect()
        rows = await adapter.fetch_all("SELECT * FROM images")
        await adapter.disconnect()
    finally:
        reset_config()
    assert list(rows) == []
    assert isinstance(adapter, SQLiteAdapter)


async def test_a_plain_connection_executes_and_fetches(db_path: Path) -> None:
    async with get_async_connection(db_path) as conn:
        await conn.execute("INSERT INTO sources (id, name, ra_deg, dec_deg) VALUES ('s', 's', 1, 2)")
        cursor = await conn.execute("SELECT * FROM sources WHERE id = ?", ("s",))
        row = await cursor.fetchone()
    assert row is not None
    assert (row["id"], row["dec_deg"]) == ("s", 2.0)


async def test_an_error_of_a_plain_connection_is_the_drivers_own(db_path: Path) -> None:
    with pytest.raises(aiosqlite.OperationalError, match="no such table"):
        async with get_async_connection(db_path) as conn:
            await conn.execute("SELECT * FROM no_table")


# --- which one ----------------------------------------------------------------------------------------------------


def test_the_backend_decides_on_the_adapter(tmp_path: Path) -> None:
    sqlite = create_adapter(DatabaseConfig(products_path=tmp_path / "p.sqlite3"), TimeoutConfig())
    server = create_adapter(DatabaseConfig(backend="postgresql", pg_password="hunter2"), TimeoutConfig())
    assert (sqlite.backend, sqlite.placeholder, sqlite.name) == (
        DatabaseBackend.SQLITE,
        "?",
        str(tmp_path / "p.sqlite3"),
    )
    assert isinstance(server, PostgreSQLAdapter)
    assert (server.backend, server.placeholder) == (DatabaseBackend.POSTGRESQL, "$")
    assert server.name == "postgresql://dsa110:***@localhost:5432/dsa110"


# --- SQLite: files that cannot be used ----------------------------------------------------------------------------


async def test_reading_never_makes_a_database_file(tmp_path: Path) -> None:
    missing = tmp_path / "not there" / "products.sqlite3"
    for opening in (SQLiteAdapter(missing).connect(), get_async_connection(missing).__aenter__()):
        with pytest.raises(DatabaseConnectionError, match=f"no products database at {missing}.*dsa110 db upgrade"):
            await opening
    assert not missing.parent.exists()


async def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseConnectionError, match="There is no products database"):
        await SQLiteAdapter(tmp_path).connect()


async def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "products.sqlite3"
    path.write_bytes(b"SIMPLE  =                    T" * 1000)
    before = path.read_bytes()
    with pytest.raises(DatabaseConnectionError, match="not an SQLite database"):
        await SQLiteAdapter(path).connect()
    assert path.read_bytes() == before


def damage(path: Path) -> None:
    """Overwrite all pages of a database but the first."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


async def test_a_damaged_file_is_refused_by_name(db_path: Path) -> None:
    damage(db_path)
    with pytest.raises(DatabaseConnectionError, match=f"{db_path} cannot be used: it is damaged"):
        async with open_database(DatabaseConfig(products_path=db_path), TimeoutConfig()) as adapter:
            await adapter.fetch_all("SELECT * FROM images")


@pytest.mark.parametrize("name", ["a b.sqlite3", "100%.sqlite3", "q?x=y#z.sqlite3", "ü.sqlite3"])
async def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    config = DatabaseConfig(products_path=tmp_path / name)
    migrate(config)
    async with open_database(config, TimeoutConfig()) as adapter:
        assert await adapter.fetch_val("SELECT count(*) FROM images") == 0


# --- SQLite: connections ------------------------------------------------------------------------------------------


async def test_every_connection_has_our_settings(adapter: SQLiteAdapter) -> None:
    async def settings(connection: object) -> list[object]:
        names = ("journal_mode", "foreign_keys", "synchronous", "busy_timeout", "trusted_schema")
        return [await connection.fetch_val(f"PRAGMA {name}") for name in names]  # type: ignore[attr-defined]

    async with adapter.acquire() as reader, adapter.transaction() as writer:
        assert await settings(reader) == await settings(writer) == ["wal", 1, 2, 200, 0]


async def test_a_reading_connection_cannot_write(adapter: SQLiteAdapter) -> None:
    with pytest.raises(DatabaseConnectionError, match="cannot be written"):
        await adapter.fetch_all("DELETE FROM images")


async def test_no_two_borrowers_have_one_connection(adapter: SQLiteAdapter) -> None:
    async with adapter.acquire() as one, adapter.acquire() as two:
        assert one is not two
        third = asyncio.create_task(adapter.fetch_val("SELECT 1"))
        await asyncio.sleep(0.05)
        assert not third.done()
    assert await third == 1


async def test_a_write_lock_of_another_process_ends_in_a_busy_error(adapter: SQLiteAdapter, db_path: Path) -> None:
    async with aiosqlite.connect(db_path, isolation_level=None) as other:
        await other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusyError, match=f"{db_path} was held by another writer"):
            await adapter.execute("DELETE FROM images")
        await other.execute("ROLLBACK")
    assert await adapter.execute("DELETE FROM images") == 0


async def test_an_adapter_that_is_not_open_says_so(db_path: Path) -> None:
    for closed in (SQLiteAdapter(db_path), PostgreSQLAdapter("postgresql://u@h/d")):
        with pytest.raises(DatabaseConnectionError, match="call connect"):
            await closed.fetch_all("SELECT 1")


async def test_opening_twice_and_closing_twice_is_once(adapter: SQLiteAdapter) -> None:
    await adapter.connect()
    assert await adapter.fetch_val("SELECT 1") == 1
    await adapter.disconnect()
    await adapter.disconnect()
    await adapter.connect()
    assert await adapter.fetch_val("SELECT 1") == 1


async def test_rows_are_changed_and_counted(adapter: SQLiteAdapter) -> None:
    insert = "INSERT INTO sources (id, name, ra_deg, dec_deg) VALUES (?, ?, 1, 2)"
    await adapter.execute_many(insert, [("a", "A"), ("b", "B")])
    assert await adapter.execute("UPDATE sources SET name = 'x'") == 2
    row = await adapter.fetch_one("SELECT id, name FROM sources WHERE id = ?", ("b",))
    assert row is not None
    assert dict(row) == {"id": "b", "name": "x"}  # type: ignore[call-overload]
    assert await adapter.fetch_one("SELECT 1 WHERE 1 = 0") is None
    assert await adapter.fetch_val("SELECT 1 WHERE 1 = 0") is None


async def test_many_rows_are_one_transaction(adapter: SQLiteAdapter) -> None:
    insert = "INSERT INTO sources (id, name, ra_deg, dec_deg) VALUES (?, ?, 1, 2)"
    with pytest.raises(DSA110APIError):
        await adapter.execute_many(insert, [("a", "A"), ("b", "B"), ("a", "again")])
    assert await adapter.fetch_val("SELECT count(*) FROM sources") == 0


# --- PostgreSQL: servers that cannot be used ----------------------------------------------------------------------


async def test_a_refused_connection_names_the_server_without_its_password() -> None:
    adapter = PostgreSQLAdapter("postgresql://u:hunter2@127.0.0.1:1/products", timeout_s=5.0)
    with pytest.raises(DatabaseConnectionError, match=r"u:\*\*\*@127\.0\.0\.1:1/products cannot be reached") as caught:
        await adapter.connect()
    assert "hunter2" not in str(caught.value.to_body())


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Give the port of a server that accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


async def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    async with silent_server() as port:
        adapter = PostgreSQLAdapter(f"postgresql://u:p@127.0.0.1:{port}/products", timeout_s=0.3)
        began = asyncio.get_running_loop().time()
        with pytest.raises(DatabaseConnectionError, match="no answer in time"):
            await adapter.connect()
        assert asyncio.get_running_loop().time() - began < 2.0


@pytest.mark.parametrize(
    "url", ["postgresql://u@127.0.0.1:5432/d?sslmode=perhaps", "postgresql://u@no-such-host.invalid/d"]
)
async def test_an_address_that_leads_nowhere_is_one_clear_error(url: str) -> None:
    with pytest.raises(DatabaseConnectionError, match="products database"):
        await PostgreSQLAdapter(url, timeout_s=5.0).connect()


async def test_a_wrong_password_and_a_wrong_database_are_named(postgres_database: str) -> None:
    server, _, name = postgres_database.rpartition("/")
    wrong_password = postgres_database.replace(postgres_database.split(":")[2].split("@")[0], "hunter2")
    for url, reason in ((wrong_password, "password authentication failed"), (f"{server}/other", "does not exist")):
        with pytest.raises(DatabaseConnectionError, match=reason) as caught:
            await PostgreSQLAdapter(url, timeout_s=5.0).connect()
        assert "hunter2" not in str(caught.value)
    assert name


# --- PostgreSQL: limits -------------------------------------------------------------------------------------------


@pytest.fixture
async def server(postgres_database: str) -> AsyncIterator[PostgreSQLAdapter]:
    """A connected adapter of an empty PostgreSQL database, with short limits."""
    opened = PostgreSQLAdapter(
        postgres_database, pool_max=2, timeout_s=5.0, statement_timeout_s=0.4, lock_timeout_s=0.1
    )
    await opened.connect()
    yield opened
    await opened.disconnect()


async def test_a_long_statement_is_ended(server: PostgreSQLAdapter) -> None:
    with pytest.raises(DatabaseBusyError, match="did not finish a statement in time"):
        await server.fetch_val("SELECT pg_sleep(5)")
    assert await server.fetch_val("SELECT 1") == 1


async def test_a_row_that_somebody_else_holds_is_not_waited_for_without_end(server: PostgreSQLAdapter) -> None:
    await server.execute("CREATE TABLE t (x int)")
    await server.execute("INSERT INTO t VALUES (1)")
    async with server.transaction() as holder:
        await holder.execute("UPDATE t SET x = 2")
        with pytest.raises(DatabaseBusyError, match="lock timeout"):
            await server.execute("UPDATE t SET x = 3")
    assert await server.fetch_val("SELECT x FROM t") == 2


async def test_an_idle_transaction_is_ended_and_the_next_works(server: PostgreSQLAdapter) -> None:
    await server.execute("CREATE TABLE t (x int)")
    with pytest.raises((DatabaseBusyError, DatabaseConnectionError)):
        async with server.transaction() as forgotten:
            await forgotten.execute("INSERT INTO t VALUES (1)")
            await asyncio.sleep(1.2)
            await forgotten.execute("INSERT INTO t VALUES (2)")
    assert await server.fetch_val("SELECT count(*) FROM t") == 0


async def test_a_killed_connection_is_replaced(server: PostgreSQLAdapter) -> None:
    with pytest.raises(DatabaseConnectionError):
        await server.fetch_val("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await server.fetch_val("SELECT 1") == 1


async def test_json_columns_are_values(server: PostgreSQLAdapter) -> None:
    assert await server.fetch_val("SELECT $1::jsonb", ({"a": [1, None]},)) == {"a": [1, None]}


async def test_a_statement_with_wrong_parameters_is_refused(server: PostgreSQLAdapter) -> None:
    with pytest.raises(DatabaseQueryError):
        await server.fetch_val("SELECT $1::int", ("x",))
    with pytest.raises(DatabaseQueryError):
        await server.fetch_val("SELECT $1::int", (1, 2))


async def test_a_server_that_hangs_is_left_soon_after_the_caller_gave_up(postgres_database: str) -> None:
    found = urlsplit(postgres_database)
    proxy = ChaosProxy(str(found.hostname), int(found.port or 0), random.Random(1))
    url = postgres_database.replace(f":{found.port}/", f":{await proxy.start()}/") + "?sslmode=disable"
    adapter = PostgreSQLAdapter(url, pool_max=1, timeout_s=60.0, statement_timeout_s=60.0)

    async def ask_briefly() -> None:
        async with asyncio.timeout(0.1):
            await adapter.fetch_val("SELECT 1")

    try:
        await adapter.connect()
        proxy.delay_s = 1e6
        asking = asyncio.create_task(ask_briefly())
        await asyncio.wait([asking], timeout=30.0)
        assert asking.done(), "it waits for a statement that it has given up"
        assert isinstance(asking.exception(), (TimeoutError, DatabaseConnectionError))
        proxy.delay_s = 0.0
        assert await adapter.fetch_val("SELECT 1") == 1
    finally:
        await proxy.stop()
        await adapter.disconnect()


@pytest.mark.parametrize(
    "error", [asyncpg.InternalClientError("got result for unknown protocol state 3"), OSError("gone"), TimeoutError()]
)
def test_a_connection_that_is_cut_in_the_middle_of_a_call_is_a_connection_error(error: Exception) -> None:
    with pytest.raises(DatabaseConnectionError), in_our_words("postgresql://db.example.org/dsa110"):
        raise error
