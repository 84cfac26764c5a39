"""Transactions on plain connections, and the drivers of statements."""

import asyncio
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import bindparam, select

from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import (
    BlockingDatabase,
    async_transaction,
    async_transactional_connection,
    get_async_connection,
    open_database,
    read,
    transaction,
    transactional_connection,
    write,
)
from dsa110_contimg.api.db_adapters import DatabaseBackend
from dsa110_contimg.api.db_adapters.statement import Query, Statement
from dsa110_contimg.api.exceptions import DatabaseConnectionError, ValidationError
from dsa110_contimg.api.tables import images, sources
from fixtures.migrated import migrate

INSERT = "INSERT INTO sources (id, name, ra_deg, dec_deg) VALUES (?, ?, 1, 2)"


@pytest.fixture
def db_path(tmp_path: Path) -> Path:
    """An empty products database of this test."""
    config = DatabaseConfig(products_path=tmp_path / "products.sqlite3")
    migrate(config)
    return config.products_path


def names(path: Path) -> list[str]:
    """Return what others see."""
    with sqlite3.connect(path) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM sources ORDER BY id")]


# --- plain connections --------------------------------------------------------------------------------------------


async def test_an_awaited_transaction_is_kept_or_undone_as_a_whole(db_path: Path) -> None:
    async with get_async_connection(db_path) as connection:
        async with async_transaction(connection):
            await connection.execute(INSERT, ("kept", "x"))
        with pytest.raises(KeyError):
            async with async_transaction(connection):
                await connection.execute(INSERT, ("lost", "x"))
                raise KeyError
    async with async_transactional_connection(db_path) as connection:
        await connection.execute(INSERT, ("too", "x"))
    assert names(db_path) == ["kept", "too"]


async def test_a_cancelled_task_leaves_no_transaction_open(db_path: Path) -> None:
    async def work() -> None:
        async with async_transactional_connection(db_path) as connection:
            await connection.execute(INSERT, ("lost", "x"))
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with async_transactional_connection(db_path, timeout=0.1) as connection:  # the lock is free
        await connection.execute(INSERT, ("kept", "x"))
    assert names(db_path) == ["kept"]


def test_a_blocking_transaction_is_kept_or_undone_as_a_whole(db_path: Path) -> None:
    with transactional_connection(db_path) as connection:
        connection.execute(INSERT, ("kept", "x"))
    with pytest.raises(KeyError), transactional_connection(db_path) as connection:
        connection.execute(INSERT, ("lost", "x"))
        raise KeyError
    assert names(db_path) == ["kept"]


def test_a_transaction_holds_the_write_lock_from_its_first_moment(db_path: Path) -> None:
    one = sqlite3.connect(db_path, isolation_level=None, timeout=0)
    two = sqlite3.connect(db_path, isolation_level=None, timeout=0)
    with transaction(one), pytest.raises(sqlite3.OperationalError, match="locked"), transaction(two):
        raise AssertionError("two writers at once")
    with transaction(two):
        two.execute(INSERT, ("kept", "x"))
    one.close()
    two.close()


def count_up(path: Path, times: int) -> None:
    """Read a number and write the next one, many times, each in a transaction."""
    for _ in range(times):
        with transactional_connection(path, timeout=30.0) as connection:
            (number,) = connection.execute("SELECT ra_deg FROM sources").fetchone()
            connection.execute("UPDATE sources SET ra_deg = ?", (number + 1,))


@pytest.mark.parametrize(("writers", "times"), [(4, 50), pytest.param(8, 500, marks=pytest.mark.slow)])
def test_processes_that_read_and_then_write_lose_nothing(db_path: Path, writers: int, times: int) -> None:
    with transactional_connection(db_path) as connection:
        connection.execute(INSERT, ("counter", "x"))
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=count_up, args=(db_path, times)) for _ in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * writers
    with transactional_connection(db_path) as connection:
        assert connection.execute("SELECT ra_deg FROM sources").fetchone()[0] == 1 + writers * times


def count_and_tell(path: Path, told: int) -> NoReturn:
    """Count up for ever, and tell each number that is kept by a byte."""
    try:
        while True:
            count_up(path, 1)
            os.write(told, b".")
    finally:
        os._exit(1)


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_writers_that_are_killed_leave_all_that_they_told_of_and_a_sound_file(db_path: Path, kills: int) -> None:
    chance = random.Random(17)
    with transactional_connection(db_path) as connection:
        connection.execute(INSERT, ("counter", "x"))
    for _ in range(kills):
        before = counted(db_path)
        hears, told = os.pipe()
        writer = os.fork()
        if writer == 0:
            count_and_tell(db_path, told)
        os.close(told)
        said = os.read(hears, 1)
        time.sleep(chance.random() * 0.01)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        while more := os.read(hears, 4096):
            said += more
        os.close(hears)
        assert len(said) <= counted(db_path) - before <= len(said) + 1  # the last was kept, and not told any more
    with transactional_connection(db_path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    count_up(db_path, 1)  # no lock is left


def counted(path: Path) -> float:
    """Return the number that count_up counts."""
    with sqlite3.connect(path) as connection:
        number: float = connection.execute("SELECT ra_deg FROM sources").fetchone()[0]
        return number


def test_a_blocking_connection_makes_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(DatabaseConnectionError, match="dsa110 db upgrade"),
        transactional_connection(tmp_path / "p.sqlite3"),
    ):
        raise AssertionError("opened")
    assert not list(tmp_path.iterdir())


# --- statements as values -----------------------------------------------------------------------------------------

_INSERT = Statement(
    sources.insert().values(id=bindparam("id"), name=bindparam("id"), ra_deg=bindparam("ra_deg"), dec_deg=0.5)
)
_IDS = Statement(select(sources.c.id, sources.c.dec_deg).order_by(sources.c.id))


def list_all() -> Generator[Query, Any, list[tuple[str, float]]]:
    """Read what there is."""
    return (yield Query(_IDS, {}, lambda rows: [tuple(row) for row in rows]))


def add_and_list(*ids: str) -> Generator[Query, Any, list[tuple[str, float]]]:
    """Insert sources, and read what there is then."""
    yield Query(_INSERT, many=[{"id": name, "ra_deg": 1.0} for name in ids])
    return (yield from list_all())


async def test_steps_get_the_result_of_each_query_and_return_theirs(db_path: Path) -> None:
    async with open_database(DatabaseConfig(products_path=db_path), TimeoutConfig()) as adapter:
        assert await write(adapter, add_and_list("a", "b")) == [("a", 0.5), ("b", 0.5)]
        assert await read(adapter, list_all()) == [("a", 0.5), ("b", 0.5)]


async def test_an_error_in_the_middle_undoes_all_steps(db_path: Path) -> None:
    def steps() -> Generator[Query, Any, None]:
        yield from add_and_list("a")
        raise KeyError("between two queries")

    async with open_database(DatabaseConfig(products_path=db_path), TimeoutConfig()) as adapter:
        with pytest.raises(KeyError):
            await write(adapter, steps())
    assert names(db_path) == []


def test_blocking_steps_do_the_same(db_path: Path) -> None:
    with BlockingDatabase(DatabaseConfig(products_path=db_path), TimeoutConfig()) as database:
        assert database.call(lambda adapter: write(adapter, add_and_list("a"))) == [("a", 0.5)]
        assert database.call(lambda adapter: read(adapter, list_all())) == [("a", 0.5)]
    with pytest.raises(RuntimeError, match="with"):
        database.call(lambda adapter: read(adapter, list_all()))


def test_a_blocking_database_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    with (
        pytest.raises(DatabaseConnectionError),
        BlockingDatabase(DatabaseConfig(products_path=tmp_path / "p"), TimeoutConfig()),
    ):
        raise AssertionError("opened")


@pytest.mark.parametrize("backend", list(DatabaseBackend))
def test_a_statement_is_compiled_once_for_a_database(backend: DatabaseBackend) -> None:
    statement = Statement(select(images.c.id).where(images.c.path == bindparam("path"), images.c.type == "5min"))
    text = statement.text(backend)
    assert statement.text(backend) is text
    assert text.arrange({"path": "/a"}) == ("/a", "5min")


def test_a_parameter_that_is_used_twice_is_given_once() -> None:
    statement = Statement(
        select(images.c.id).where(images.c.path == bindparam("p"), images.c.ms_path == bindparam("p"))
    )
    assert statement.text(DatabaseBackend.SQLITE).arrange({"p": "x"}) == ("x", "x")
    assert statement.text(DatabaseBackend.POSTGRESQL).arrange({"p": "x"}) == ("x",)


def test_a_parameter_that_is_missing_is_an_error() -> None:
    statement = Statement(select(images.c.id).where(images.c.path == bindparam("path")))
    with pytest.raises(KeyError, match="path"):
        statement.text(DatabaseBackend.SQLITE).arrange({"paths": "/a"})


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_a_whole_number_beyond_64_bits_is_refused_by_value(value: int) -> None:
    statement = Statement(select(images.c.id).where(images.c.id == bindparam("id")))
    with pytest.raises(ValidationError, match=str(value)):
        statement.text(DatabaseBackend.SQLITE).arrange({"id": value})
