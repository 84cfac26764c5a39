"""Reads in the event loop's own thread, or by a connection kept for them: the same answers, and never a wait."""

import asyncio
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dsa110_contimg.api.async_repositories import AsyncImageRepository, AsyncProductRecorder, AsyncSourceRepository
from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import PostgreSQLAdapter, SQLiteAdapter
from dsa110_contimg.api.db_adapters.adapters.postgresql_prompt import MOST, PromptConnections
from dsa110_contimg.api.db_adapters.adapters.sqlite_adapter import SQLiteConnection
from dsa110_contimg.api.db_adapters.backend import AsyncConnection
from dsa110_contimg.api.exceptions import DatabaseBusyError, DatabaseConnectionError, DatabaseSchemaError
from fixtures.migrated import migrate
from fixtures.observation import IMAGE_PATH, WHOLE
from fixtures.twins import put_in_place
from fixtures.writers import write_earlier_database


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "products.sqlite3"
    config = DatabaseConfig(products_path=path)
    migrate(config)

    async def fill() -> None:
        async with open_database(config) as adapter:
            await AsyncProductRecorder(adapter).record(WHOLE)

    asyncio.run(fill())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
async def adapter(filled: Path, tmp_path: Path) -> AsyncIterator[SQLiteAdapter]:
    path = Path(shutil.copy(filled, tmp_path / "products.sqlite3"))
    async with open_database(DatabaseConfig(products_path=path), TimeoutConfig(db_lock=5.0)) as opened:
        assert isinstance(opened, SQLiteAdapter)
        yield opened


async def promptly(adapter: SQLiteAdapter) -> bool:
    """Read once and tell whether that was done without a step of the event loop."""
    reading = adapter.fetch_prompt("SELECT count(*) FROM images")
    try:
        reading.send(None)
    except StopIteration as end:
        assert [row[0] for row in end.value] == [1]
        return True
    reading.close()
    return False


async def test_the_second_read_is_in_the_loop_itself(adapter: SQLiteAdapter) -> None:
    assert [row[0] for row in await adapter.fetch_prompt("SELECT count(*) FROM images")] == [1]
    assert await promptly(adapter)


async def test_it_gives_what_the_patient_way_gives_and_sees_new_rows_at_once(adapter: SQLiteAdapter) -> None:
    statement = "SELECT * FROM sources ORDER BY id"
    await adapter.fetch_prompt(statement)
    assert [tuple(row) for row in await adapter.fetch_prompt(statement)] == [
        tuple(row) for row in await adapter.fetch_all(statement)
    ]
    await adapter.execute("INSERT INTO sources (id, name, ra_deg, dec_deg) VALUES ('new', 'new', 1, 2)")
    assert len(await adapter.fetch_prompt(statement)) == 3
    assert await promptly(adapter)


async def test_a_file_that_was_replaced_is_read_as_it_is_now(adapter: SQLiteAdapter, filled: Path) -> None:
    images = AsyncImageRepository(adapter)
    for _ in range(2):
        assert await images.get_by_path(IMAGE_PATH) is not None
    other = Path(shutil.copy(filled, adapter.path.with_name("other.sqlite3")))
    with closing(sqlite3.connect(other, isolation_level=None)) as connection:
        connection.execute("DELETE FROM images")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        adapter.path.with_name(adapter.path.name + suffix).unlink(missing_ok=True)
    os.replace(other, adapter.path)  # noqa: PTH105 - what a restore does
    for _ in range(2):
        assert await images.get_by_path(IMAGE_PATH) is None


class Meanwhile(ThreadPoolExecutor):
    """Lets one thing after the other happen, each when the adapter is about to look at its file in a thread."""

    def __init__(self, *happens: Callable[[], object]) -> None:
        super().__init__()
        self.happens = list(happens)

    def submit(self, *work: Any, **named: Any) -> Any:
        if self.happens:
            self.happens.pop(0)()
        return super().submit(*work, **named)


@pytest.fixture
def others(filled: Path, tmp_path: Path) -> list[Path]:
    """Databases of 10, 11, 12, ... sources."""
    found = [Path(shutil.copy(filled, tmp_path / f"other-{number}")) for number in range(7)]
    for number, path in enumerate(found):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM sources")
            names = [(f"s{each}", f"s{each}") for each in range(10 + number)]
            connection.executemany("INSERT INTO sources (id, name, ra_deg, dec_deg) VALUES (?, ?, 1, 2)", names)
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return found


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A database of the earlier pipeline without sources."""
    return write_earlier_database(tmp_path / "earlier", "U", {})


async def sources(adapter: SQLiteAdapter) -> list[int]:
    """Count them by each of the reading connections, and promptly."""
    async with AsyncExitStack() as lent:
        every = [await lent.enter_async_context(adapter.acquire()) for _ in range(4)]
        counts = [await each.fetch_val("SELECT count(*) FROM sources") for each in every]
    return sorted({*counts, *[(await adapter.fetch_prompt("SELECT count(*) FROM sources"))[0][0] for _ in range(2)]})


async def test_of_files_that_are_replaced_while_they_are_opened_the_last_is_read(
    adapter: SQLiteAdapter, others: list[Path], earlier: Path
) -> None:
    first, second, third, fourth, *_ = [partial(put_in_place, adapter.path, each) for each in others]
    old = partial(put_in_place, adapter.path, earlier)
    for before, meanwhile, count in ((first, [second], 11), (third, [old], 0), (fourth, [], 13)):
        asyncio.get_running_loop().set_default_executor(Meanwhile(*meanwhile))
        before()
        assert await sources(adapter) == [count]
        assert adapter.read_only is (count == 0)
        assert await sources(adapter) == [count]


async def test_a_file_that_is_replaced_again_and_again_is_asked_for_later(
    adapter: SQLiteAdapter, others: list[Path]
) -> None:
    places = [partial(put_in_place, adapter.path, each) for each in others]
    places.pop(0)()
    asyncio.get_running_loop().set_default_executor(Meanwhile(*places[:5]))
    with pytest.raises(DatabaseBusyError, match="again and again"):
        await adapter.fetch_all("SELECT 1")
    assert await sources(adapter) == [15]


async def test_a_file_that_was_not_looked_at_is_not_read_promptly(
    adapter: SQLiteAdapter, others: list[Path], earlier: Path
) -> None:
    await adapter.disconnect()
    with closing(sqlite3.connect(adapter.path, isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode=DELETE")
        await adapter.connect()
        holder.execute("BEGIN EXCLUSIVE")
        reading = asyncio.create_task(adapter.fetch_prompt("SELECT count(*) FROM images"))
        await until(lambda: asyncio.sleep(0, adapter._readers.qsize() == 3))  # then it waits for the holder
        put_in_place(adapter.path, earlier)
        holder.execute("COMMIT")
        assert [row[0] for row in await reading] == [1]
    assert adapter.write_mark() is None
    assert await sources(adapter) == [0]
    assert [path.name for path in adapter.path.parent.glob("products.sqlite3*")] == ["products.sqlite3"]


async def test_a_read_that_was_given_up_holds_no_connection(adapter: SQLiteAdapter) -> None:
    running = threading.Event()
    async with adapter.acquire() as lent:
        assert isinstance(lent, SQLiteConnection)
        await lent._raw.set_progress_handler(running.set, 1000)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    reading = asyncio.create_task(adapter.fetch_all(endless))
    await until(lambda: asyncio.sleep(0.001, running.is_set()))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    try:
        async with asyncio.timeout(20):
            assert await adapter.fetch_val("SELECT count(*) FROM images") == 1
    finally:
        await lent._raw.interrupt()


async def test_a_file_that_is_gone_is_said_to_be(adapter: SQLiteAdapter) -> None:
    await AsyncSourceRepository(adapter).count()
    adapter.path.unlink()
    for _ in range(2):
        with pytest.raises(DatabaseConnectionError, match="There is no products database"):
            await AsyncSourceRepository(adapter).count()


async def test_a_file_that_somebody_holds_alone_blocks_nobody_in_the_loop(adapter: SQLiteAdapter) -> None:
    await adapter.disconnect()
    with closing(sqlite3.connect(adapter.path, isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode=DELETE")
        await adapter.connect()
        await adapter.fetch_prompt("SELECT 1 FROM images")
        holder.execute("BEGIN EXCLUSIVE")
        reading = asyncio.create_task(adapter.fetch_prompt("SELECT count(*) FROM images"))
        for _ in range(50):  # the loop goes on while the read waits
            await asyncio.sleep(0.001)
        assert not reading.done()
        holder.execute("COMMIT")
        assert [row[0] for row in await reading] == [1]


async def test_a_statement_that_is_refused_is_refused_in_our_words(adapter: SQLiteAdapter) -> None:
    for _ in range(2):
        with pytest.raises(DatabaseSchemaError, match="no_such_table"):
            await adapter.fetch_prompt("SELECT * FROM no_such_table")
    assert [row[0] for row in await adapter.fetch_prompt("SELECT count(*) FROM images")] == [1]


async def test_nothing_is_written_this_way(adapter: SQLiteAdapter) -> None:
    await adapter.fetch_prompt("SELECT 1")
    with pytest.raises(DatabaseConnectionError):
        await adapter.fetch_prompt("DELETE FROM images")
    assert [row[0] for row in await adapter.fetch_prompt("SELECT count(*) FROM images")] == [1]


async def test_a_repository_reads_promptly_what_it_finds_by_an_index(adapter: SQLiteAdapter) -> None:
    images = AsyncImageRepository(adapter)
    await images.get_by_id("1")
    async with adapter.acquire(), adapter.acquire(), adapter.acquire(), adapter.acquire():  # no connection is free
        async with asyncio.timeout(1.0):
            assert await images.get_by_id("1") is not None


# --- PostgreSQL: by a connection that is kept ---------------------------------------------------------------------

WHO = "SELECT pg_backend_pid()"
NO_OTHERS = """SELECT 1 WHERE NOT EXISTS (
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())"""


@pytest.fixture
async def server(postgres_database: str) -> AsyncIterator[PostgreSQLAdapter]:
    async with open_database(DatabaseConfig(backend="postgresql", pg_url=postgres_database)) as opened:
        assert isinstance(opened, PostgreSQLAdapter)
        await opened.fetch_prompt("SELECT 1")  # by the pool, and opens what is kept
        yield opened


async def kept(adapter: PostgreSQLAdapter) -> int:
    """Return the number of the server's process that answers promptly."""
    return int((await adapter.fetch_prompt(WHO))[0][0])


async def until(question: Callable[[], Awaitable[object]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(30):
        while not await question():  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0.01)


async def test_a_connection_that_is_kept_serves_one_after_the_other_and_the_pool_who_comes_meanwhile(
    server: PostgreSQLAdapter,
) -> None:
    pid, pooled = await kept(server), await server.fetch_val(WHO)
    assert pid == await kept(server) != pooled
    async with server.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        waiting = asyncio.create_task(server.fetch_prompt("SELECT pg_advisory_lock(1)"))
        await until(lambda: server.fetch_all("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        assert await kept(server) != pid
    await waiting
    assert await kept(server) == pid


async def test_who_reads_at_the_same_moment_has_a_kept_connection_each_and_of_them_there_are_a_few(
    server: PostgreSQLAdapter,
) -> None:
    reads = MOST + 2

    async def at_once() -> set[int]:
        """Return the processes of the server that answer so many at the same moment."""
        async with server.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(1)")
            wait = "SELECT pg_backend_pid(), pg_advisory_xact_lock_shared(1)"
            waiting = [asyncio.create_task(server.fetch_prompt(wait)) for _ in range(reads)]
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            await until(lambda: all_wait(connection, held))
        return {rows[0][0] for rows in await asyncio.gather(*waiting)}

    async def all_wait(connection: AsyncConnection, held: str) -> bool:
        return bool(await connection.fetch_val(held) == reads)

    for _ in range(MOST):
        await at_once()
    kept_ones = {raw.get_server_pid() for raw in server._prompt._open}
    assert len(kept_ones) == MOST
    assert len(kept_ones & await at_once()) == MOST


async def test_a_connection_that_was_cut_is_not_asked_again(server: PostgreSQLAdapter) -> None:
    pid = await kept(server)
    async with server.acquire() as connection:  # it will be used after the other is gone
        assert await connection.fetch_val("SELECT pg_terminate_backend($1, 5000)", (pid,))
        await until(lambda: asyncio.sleep(0, all(raw.is_closed() for raw in server._prompt._open)))
    assert pid not in {await kept(server), await kept(server)}


async def test_after_a_failure_or_a_cancellation_another_connection_answers(server: PostgreSQLAdapter) -> None:
    pid = await kept(server)
    with pytest.raises(DatabaseSchemaError, match="no_such_table"):
        await server.fetch_prompt("SELECT * FROM no_such_table")
    server._prompt._again_at_s = 0.0  # as after a rest
    assert await kept(server) != pid
    pid = await kept(server)
    reading = asyncio.create_task(server.fetch_prompt("SELECT pg_sleep(60)"))
    await until(lambda: server.fetch_all(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'"))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await kept(server) != pid


async def test_where_no_connection_can_be_kept_the_pool_serves(postgres_database: str) -> None:
    async with open_database(DatabaseConfig(backend="postgresql", pg_url=postgres_database)) as opened:
        assert isinstance(opened, PostgreSQLAdapter)
        opened._options["password"], opened._options["user"] = "wrong", "nobody"  # after the pool was made
        assert await kept(opened) == await kept(opened) == await opened.fetch_val(WHO)


async def test_one_is_opened_at_a_time_however_long_that_takes_and_after_a_failure_none_at_once() -> None:
    asked, may_fail = list[str](), asyncio.Event()

    async def refused() -> Any:
        asked.append("x")
        await may_fail.wait()
        raise OSError("refused")

    links = PromptConnections(refused)
    opening = asyncio.create_task(links.open_one())
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await links.open_one()
    assert asked == ["x"]
    may_fail.set()
    await opening
    for _ in range(3):
        await links.open_one()
    assert asked == ["x"]
    links._again_at_s = 0.0  # as after a rest
    await links.open_one()
    assert asked == ["x", "x"]


class Link:
    """As much of a connection of asyncpg as is used, which fails when it is told to."""

    def __init__(self) -> None:
        self.fails = False
        self.is_cut = False

    async def fetch(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        if self.fails:
            raise asyncpg.PostgresError(query)
        return [(self,)]

    def is_closed(self) -> bool:
        return self.is_cut

    def terminate(self) -> None:
        self.is_cut = True


async def test_one_that_failed_is_closed_and_after_a_while_there_is_another_in_its_place() -> None:
    made: list[Link] = []

    async def connect() -> Link:
        made.append(Link())
        return made[-1]

    links = PromptConnections(connect)
    for number in range(MOST + 1):
        await links.open_one()
        assert await links.fetch_all("", ()) == [(made[number],)]
        made[number].fails = True
        with pytest.raises(asyncpg.PostgresError):
            await links.fetch_all("", ())
        assert made[number].is_cut and await links.fetch_all("", ()) is None
        await links.open_one()
        assert len(made) == number + 1, "statements that fail do not make a connection each"
        links._again_at_s = 0.0  # as after a rest
    for _ in range(MOST + 1):
        await links.open_one()
    for link in made[-MOST:]:
        link.is_cut = True  # by the server
    assert await links.fetch_all("", ()) is None
    await links.open_one()
    assert await links.fetch_all("", ()) == [(made[-1],)]


async def test_nothing_stays_open_at_the_end(postgres_database: str) -> None:
    config = DatabaseConfig(backend="postgresql", pg_url=postgres_database)
    async with open_database(config) as looking:
        async with open_database(config) as opened:
            await opened.fetch_prompt("SELECT 1")
        await until(lambda: looking.fetch_all(NO_OTHERS))


async def test_who_still_reads_at_the_end_opens_nothing_any_more(postgres_database: str) -> None:
    config = DatabaseConfig(backend="postgresql", pg_url=postgres_database)
    async with open_database(config) as looking:
        async with open_database(config) as opened:
            reading = asyncio.create_task(opened.fetch_prompt("SELECT pg_sleep(0.5)"))
            await until(lambda: looking.fetch_all("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        await reading
        assert isinstance(opened, PostgreSQLAdapter)
        assert not opened._prompt._open
        await until(lambda: looking.fetch_all(NO_OTHERS))


async def test_what_is_opened_too_late_is_closed(server: PostgreSQLAdapter) -> None:
    may_open, opened = asyncio.Event(), list[Any]()

    async def slowly() -> Any:
        await may_open.wait()
        opened.append(await server._connected())
        return opened[0]

    late = PromptConnections(slowly)
    opening = asyncio.create_task(late.open_one())
    await asyncio.sleep(0)
    late.close()
    may_open.set()
    await opening
    assert opened[0].is_closed() and await late.fetch_all(WHO, ()) is None
    await late.open_one()
    assert len(opened) == 1
