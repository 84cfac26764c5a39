"""Reads in the event loop's own thread: the same answers, and never a wait."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from dsa110_contimg.api.async_repositories import AsyncImageRepository, AsyncProductRecorder, AsyncSourceRepository
from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import SQLiteAdapter
from dsa110_contimg.api.exceptions import DatabaseConnectionError, DatabaseSchemaError
from fixtures.migrated import migrate
from fixtures.observation import IMAGE_PATH, WHOLE


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
