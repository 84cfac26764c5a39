"""Tasks spawned in a transaction of the caller: there when it commits, and never there when it does not."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from dsa110_contimg.absurd.blocking import BlockingClient
from dsa110_contimg.absurd.specs import TaskSpec
from fixtures.queue_bench import Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


@dataclass(frozen=True)
class Theirs:
    """A connection of somebody else's, with a transaction open on it."""

    connection: Any
    commit: Callable[[], Awaitable[None]]
    rollback: Callable[[], Awaitable[None]]


def at_once(call: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """Return a blocking call as one to await."""

    async def run() -> None:
        call()

    return run


@contextlib.asynccontextmanager
async def with_asyncpg(url: str) -> AsyncIterator[Theirs]:
    """A bare connection, without a codec for jsonb."""
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    yield Theirs(connection, transaction.commit, transaction.rollback)
    await connection.close()


@contextlib.asynccontextmanager
async def with_asyncpg_pool(url: str) -> AsyncIterator[Theirs]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield Theirs(connection, transaction.commit, transaction.rollback)


@contextlib.asynccontextmanager
async def with_psycopg(url: str) -> AsyncIterator[Theirs]:
    """A blocking connection whose rows are dictionaries."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        yield Theirs(connection, at_once(connection.commit), at_once(connection.rollback))


@contextlib.asynccontextmanager
async def with_psycopg_async(url: str) -> AsyncIterator[Theirs]:
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
        yield Theirs(connection, connection.commit, connection.rollback)


def sqlalchemy_url(url: str, driver: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://")


@contextlib.asynccontextmanager
async def with_sqlalchemy(url: str) -> AsyncIterator[Theirs]:
    engine = create_engine(sqlalchemy_url(url, "psycopg"))
    with engine.connect() as connection:
        yield Theirs(connection, at_once(connection.commit), at_once(connection.rollback))
    engine.dispose()


@contextlib.asynccontextmanager
async def with_sqlalchemy_session(url: str) -> AsyncIterator[Theirs]:
    engine = create_engine(sqlalchemy_url(url, "psycopg"))
    with Session(engine) as session:
        yield Theirs(session, at_once(session.commit), at_once(session.rollback))
    engine.dispose()


@contextlib.asynccontextmanager
async def with_sqlalchemy_async(url: str, driver: str = "asyncpg") -> AsyncIterator[Theirs]:
    engine = create_async_engine(sqlalchemy_url(url, driver))
    async with engine.connect() as connection:
        yield Theirs(connection, connection.commit, connection.rollback)
    await engine.dispose()


def with_sqlalchemy_async_psycopg(url: str) -> Any:
    return with_sqlalchemy_async(url, "psycopg")


@contextlib.asynccontextmanager
async def with_sqlalchemy_async_session(url: str) -> AsyncIterator[Theirs]:
    engine = create_async_engine(sqlalchemy_url(url, "asyncpg"))
    async with AsyncSession(engine) as session:
        yield Theirs(session, session.commit, session.rollback)
    await engine.dispose()


BLOCKING = [with_psycopg, with_sqlalchemy, with_sqlalchemy_session]
KINDS = [
    *BLOCKING, with_asyncpg, with_asyncpg_pool, with_psycopg_async, with_sqlalchemy_async,
    with_sqlalchemy_async_psycopg, with_sqlalchemy_async_session,
]  # fmt: skip


def name_of(kind: Callable[..., Any]) -> str:
    return kind.__name__


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
async def test_a_task_is_seen_when_the_transaction_that_spawned_it_commits_and_not_before(
    queue: Bench, kind: Callable[[str], Any]
) -> None:
    params = {"path": "/data/ü 'x' $1 %s", "n": None}
    async with kind(queue.url) as theirs:
        task = await queue.client.spawn_on(theirs.connection, "small", params, priority=3, headers={"trace": "t"})
        assert await queue.states(task) == ["unknown"]
        assert await queue.claim() == []
        await theirs.commit()
    [claimed] = await queue.claim()
    assert (claimed["task_id"], claimed["params"]) == (task, params)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
async def test_a_task_whose_transaction_is_rolled_back_never_was(queue: Bench, kind: Callable[[str], Any]) -> None:
    async with kind(queue.url) as theirs:
        task = await queue.client.spawn_on(theirs.connection, "small")
        await theirs.rollback()
    assert await queue.states(task) == ["unknown"]
    assert await queue.claim() == []


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
async def test_a_workflow_is_spawned_in_the_transaction_of_the_caller(queue: Bench, kind: Callable[[str], Any]) -> None:
    first = TaskSpec("small")
    nodes = [first, TaskSpec("small", depends_on=(first.task_id,))]
    async with kind(queue.url) as theirs:
        workflow = await queue.client.spawn_graph_on(theirs.connection, "w", nodes, metadata={"run": 1})
        assert await queue.client.get_workflow(workflow) is None
        await theirs.commit()
    found = await queue.client.get_workflow(workflow)
    assert found is not None
    assert (found["name"], found["metadata"], found["status"]) == ("w", {"run": 1}, "pending")
    assert [task["status"] for task in found["tasks"]] == ["pending", "blocked"]


@pytest.mark.parametrize("kind", BLOCKING, ids=name_of)
async def test_a_script_spawns_on_its_own_connection_without_another(queue: Bench, kind: Callable[[str], Any]) -> None:
    client = BlockingClient(queue.client.config)
    first = TaskSpec("small")
    async with kind(queue.url) as theirs:
        task = client.spawn_on(theirs.connection, "small", {"a": 1})
        workflow = client.spawn_graph_on(theirs.connection, "w", [first])
        assert await queue.states(task, first.task_id) == ["unknown", "unknown"]
        await theirs.commit()
    assert await queue.states(task, first.task_id) == ["pending", "pending"]
    assert await queue.client.get_workflow(workflow) is not None


async def test_a_task_and_the_callers_own_rows_are_there_together_or_not_at_all(queue: Bench) -> None:
    await queue.connection.execute("create table if not exists observation (task_id uuid)")

    async def record(connection: Any, fails: bool) -> UUID:
        async with connection.transaction():
            task = await queue.client.spawn_on(connection, "small")
            await connection.execute("insert into observation values ($1)", task)
            if fails:
                raise OSError("the disk is full")
        return task

    async with queue.session() as connection:
        kept = await record(connection, fails=False)
        with pytest.raises(OSError, match="disk"):
            await record(connection, fails=True)
    assert [row["task_id"] for row in await queue.connection.fetch("select * from observation")] == [kept]
    assert [row["task_id"] for row in await queue.claim(limit=9)] == [kept]
    await queue.connection.execute("drop table observation")


@pytest.mark.parametrize("kind", [with_asyncpg, with_psycopg_async, with_sqlalchemy_async], ids=name_of)
async def test_a_script_is_told_that_it_cannot_await_a_connection(queue: Bench, kind: Callable[[str], Any]) -> None:
    async with kind(queue.url) as theirs:
        with pytest.raises(TypeError, match="BlockingClient: a blocking one"):
            BlockingClient(queue.client.config).spawn_on(theirs.connection, "small")


@pytest.mark.parametrize("thing", [object(), "postgresql://here"])
async def test_what_is_no_connection_is_refused_by_its_type(queue: Bench, thing: Any) -> None:
    with pytest.raises(TypeError, match=f"{type(thing).__name__} is no connection"):
        await queue.client.spawn_on(thing, "small")
