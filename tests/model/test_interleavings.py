"""Two sessions at one task, in an order that is forced: what a walk of whole transactions cannot reach."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any
from uuid import UUID

import pytest

from dsa110_contimg.absurd.ids import new_id
from fixtures.queue_bench import Bench
from model.planting import Bug, planted

pytest_plugins = ["fixtures.queue_database"]

QUEUE = "interleaved"

#: Indices only, as the planner chooses by itself when there are many tasks.
PLAN_OF_A_LARGE_QUEUE = """
set enable_seqscan = off; set enable_bitmapscan = off; set enable_hashjoin = off; set enable_mergejoin = off
"""
LOST_WAKE_UP = Bug(
    "the completion looks for children before it has waited", "complete_claims", "t.has_children,",
    "(select p.has_children from task p where p.task_id = t.task_id) as has_children,",
)  # fmt: skip


def node(task: UUID, *parents: UUID, **more: Any) -> dict[str, Any]:
    depends_on = [{"task_id": str(parent)} for parent in parents]
    return {"task_id": str(task), "queue": QUEUE, "name": "t", "depends_on": depends_on, **more}


async def spawn(session: Any, *nodes: dict[str, Any]) -> list[UUID]:
    return [row["task_id"] for row in await session.fetch("select task_id from absurd.spawn_tasks($1)", list(nodes))]


async def claim_all(session: Any) -> dict[UUID, int]:
    rows = await session.fetch("select task_id, claim from absurd.claim_task($1, 'w', 10)", QUEUE)
    return {row["task_id"]: row["claim"] for row in rows}


async def complete(session: Any, task: UUID, claims: dict[UUID, int]) -> Any:
    return await session.fetchval("select absurd.complete_task($1, $2, '{}')", task, claims[task])


@contextlib.asynccontextmanager
async def while_open(queue: Bench, first: Any, second: Awaitable[Any]) -> AsyncIterator[None]:
    """Let ``second`` begin while the transaction that the body opens on ``first`` is open, and wait for its lock."""
    transaction = first.transaction()
    await transaction.start()
    yield
    waiting = asyncio.ensure_future(second)

    async def blocked() -> bool:
        return bool(await queue.sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"))

    await queue.until(blocked)
    await transaction.commit()
    await waiting


async def spawn_a_child_while_its_parent_completes(queue: Bench) -> list[str]:
    """Return the states of parent and child."""
    parent, child = new_id(), new_id()
    await spawn(queue.connection, node(parent))
    claims = await claim_all(queue.connection)
    async with (
        queue.session() as first,
        queue.session() as second,
        while_open(queue, first, complete(second, parent, claims)),
    ):
        await spawn(first, node(child, parent))
    return await queue.states(parent, child)


async def complete_two_last_parents_at_once(queue: Bench) -> list[str]:
    """Return the states of both parents and their child."""
    one, two, child = new_id(), new_id(), new_id()
    await spawn(queue.connection, node(one), node(two), node(child, one, two))
    claims = await claim_all(queue.connection)
    async with (
        queue.session() as first,
        queue.session() as second,
        while_open(queue, first, complete(second, two, claims)),
    ):
        await complete(first, one, claims)
    return await queue.states(one, two, child)


async def test_a_child_that_is_spawned_while_its_parent_completes_is_woken(queue: Bench) -> None:
    assert await spawn_a_child_while_its_parent_completes(queue) == ["completed", "pending"]


async def test_a_planted_bug_is_found_the_lost_wake_up(queue: Bench) -> None:
    async with planted(queue.connection, LOST_WAKE_UP):
        assert await spawn_a_child_while_its_parent_completes(queue) == ["completed", "blocked"]
    assert await queue.sql("select absurd.repair()") == 1, "the sweep sees it, and says so"


async def test_two_last_parents_that_end_at_once_release_their_child(queue: Bench) -> None:
    assert await complete_two_last_parents_at_once(queue) == ["completed", "completed", "pending"]


@pytest.mark.parametrize("kept", [True, False])
async def test_a_key_that_is_being_spawned_is_waited_for(queue: Bench, kept: bool) -> None:
    """The second caller gets the first one's task when it is committed, and its own when it is rolled back."""
    mine, theirs = new_id(), new_id()
    async with queue.session() as first, queue.session() as second:
        transaction = first.transaction()
        await transaction.start()
        await spawn(first, node(mine, idempotency_key="k"))
        answer = asyncio.ensure_future(spawn(second, node(theirs, idempotency_key="k")))
        await queue.until(lambda: queue.sql("select count(*) > 0 from pg_stat_activity where wait_event_type = 'Lock'"))
        await (transaction.commit() if kept else transaction.rollback())
        assert await answer == [mine if kept else theirs]


async def test_a_permit_that_is_given_back_reaches_a_task_that_is_spawned_meanwhile(queue: Bench) -> None:
    holder, waiter = new_id(), new_id()
    await spawn(queue.connection, node(holder, concurrency_key="k"))
    claims = await claim_all(queue.connection)
    async with (
        queue.session() as first,
        queue.session() as second,
        while_open(queue, first, spawn(second, node(waiter, concurrency_key="k"))),
    ):
        await complete(first, holder, claims)
    assert await queue.states(holder, waiter) == ["completed", "pending"]


async def test_parents_of_different_months_that_change_meanwhile_are_all_seen(queue: Bench) -> None:
    """PostgreSQL 18 would leave the others out after the wait for the first (sql/pruning.sql)."""
    month = "select absurd.first_id(date_trunc('month', now()) + make_interval(months => $1))"
    parents = [UUID(int=(await queue.sql(month, n)).int + 1) for n in range(2)]
    one, other = new_id(), new_id()
    await spawn(queue.connection, *(node(parent) for parent in parents))
    async with queue.session() as first, queue.session() as second:
        await second.execute(PLAN_OF_A_LARGE_QUEUE)
        async with while_open(queue, first, spawn(second, node(other, *parents))):
            await spawn(first, node(one, *parents))
    assert await queue.states(one, other) == ["blocked", "blocked"]
    claims = await claim_all(queue.connection)
    for parent in parents:
        assert await complete(queue.connection, parent, claims)
    assert await queue.states(one, other) == ["pending", "pending"]
