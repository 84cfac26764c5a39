"""What the queue tells of its tasks: to idle workers, and to those who watch."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from dsa110_contimg.absurd.ids import new_id
from fixtures.queue_bench import QUEUE, Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        await bench.connection.execute("delete from absurd.audience")
        yield bench


@contextlib.asynccontextmanager
async def notified(queue: Bench, channel: str) -> AsyncIterator["asyncio.Queue[str]"]:
    """Collect the payloads of a channel."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with queue.session() as session:
        await session.add_listener(channel, lambda _c, _p, _ch, payload: heard.put_nowait(payload))
        yield heard


async def payloads(heard: "asyncio.Queue[str]", queue: Bench, channel: str) -> list[str]:
    """Return what has arrived until now, in order."""
    await queue.sql("select pg_notify($1, 'end')", channel)
    found = []
    while (payload := await asyncio.wait_for(heard.get(), 5)) != "end":
        found.append(payload)
    return found


async def told(queue: Bench, heard: "asyncio.Queue[str]") -> list[list[dict[str, Any]]]:
    """Return the updates of the events that were notified, one list for each event."""
    return [
        await queue.sql("select body from absurd.event where event_id = $1", int(event_id))
        for event_id in await payloads(heard, queue, "absurd_event")
    ]


async def spawn(queue: Bench, count: int, **more: Any) -> list[UUID]:
    """Spawn tasks in one statement."""
    nodes = [
        {"task_id": str(new_id()), "queue": QUEUE, "name": "small", "max_attempts": 1, **more} for _ in range(count)
    ]
    return [row["task_id"] for row in await queue.connection.fetch("select * from absurd.spawn_tasks($1)", nodes)]


async def test_each_statement_tells_all_that_it_did_in_one_event(queue: Bench) -> None:
    await queue.sql("select absurd.listen(60)")
    async with notified(queue, "absurd_event") as heard:
        await spawn(queue, 3)
        rows = await queue.connection.fetch("select * from absurd.flush('w', '{}', '{}', '{}', array[$1], 2)", QUEUE)
        tasks, claims = [row["task_id"] for row in rows], [row["claim"] for row in rows]
        await queue.connection.fetch(
            "select * from absurd.flush('w', $2, $3, array['1', '2']::jsonb[], array[$1], 1)", QUEUE, tasks, claims
        )
        events = await told(queue, heard)
    assert [[update["status"] for update in updates] for updates in events] == [
        ["pending"] * 3,
        ["claimed"] * 2,
        ["completed", "completed", "claimed"],
    ]
    update = events[1][0]
    assert update == {
        "type": "task_update", "task_id": str(tasks[0]), "queue": QUEUE, "name": "small", "status": "claimed",
        "attempt": 1, "worker_id": "w",
    }  # fmt: skip


async def test_every_transition_is_told_with_what_there_is_to_say(queue: Bench) -> None:
    await queue.sql("select absurd.listen(60)")
    async with notified(queue, "absurd_event") as heard:
        [task] = await spawn(queue, 1, max_attempts=2, retry={"base_s": 1e-6})
        [claimed] = await queue.claim()
        await queue.sql("select absurd.report_progress($1, $2, 0.5, 'half')", task, claimed["claim"])
        await queue.fail(claimed)
        await queue.sql("select absurd.promote(absurd.clock())")
        await queue.fail((await queue.claim())[0])
        await queue.client.retry_task(task)
        await queue.client.cancel_task(task)
        updates = [update for event in await told(queue, heard) for update in event]
    assert [update["status"] for update in updates] == [
        "pending", "claimed", "claimed", "retrying", "pending", "claimed", "failed", "pending", "cancelled",
    ]  # fmt: skip
    assert (updates[2]["progress"], updates[2]["message"]) == (0.5, "half")
    assert (updates[3]["attempt"], updates[3]["error"]) == (1, "m")
    assert updates[6]["error"] == "m"


async def test_nothing_is_written_when_nobody_listens_or_the_listener_has_gone(queue: Bench) -> None:
    async with notified(queue, "absurd_event") as heard:
        await spawn(queue, 2)
        await queue.sql("select absurd.listen(0)")
        await queue.complete((await queue.claim())[0])
        assert await payloads(heard, queue, "absurd_event") == []
    assert await queue.sql("select count(*) from absurd.event") == 0


async def test_a_short_listener_does_not_end_the_time_of_a_long_one(queue: Bench) -> None:
    for for_s in (60, 0):
        await queue.sql("select absurd.listen($1)", for_s)
    assert await queue.sql("select absurd.heard()")


async def test_a_great_many_updates_at_once_send_the_watcher_to_the_tables(queue: Bench) -> None:
    await queue.sql("select absurd.listen(60)")
    async with notified(queue, "absurd_event") as heard:
        await spawn(queue, 501)
        assert await told(queue, heard) == [[{"type": "resync"}]]


async def test_what_is_rolled_back_is_not_told(queue: Bench) -> None:
    await queue.sql("select absurd.listen(60)")
    async with notified(queue, "absurd_event") as heard:
        await queue.connection.execute("begin")
        await spawn(queue, 1)
        await queue.connection.execute("rollback")
        assert await payloads(heard, queue, "absurd_event") == []


async def test_events_are_kept_for_an_hour(queue: Bench) -> None:
    await queue.sql("select absurd.listen(60)")
    await spawn(queue, 1)
    await queue.connection.execute("update absurd.event set at = at - interval '61 minutes'")
    await spawn(queue, 1)
    await queue.sql("select absurd.repair()")
    assert await queue.sql("select count(*) from absurd.event") == 1


async def test_the_numbers_of_events_outlive_the_table_that_a_crash_empties(queue: Bench) -> None:
    kinds = await queue.connection.fetch(
        "select relname, relpersistence::text from pg_class where oid in "
        "('absurd.event'::regclass, 'absurd.event_number'::regclass) order by relname"
    )
    assert [tuple(row) for row in kinds] == [("event", "u"), ("event_number", "p")]


async def test_idle_workers_are_woken_once_for_each_queue_of_a_statement(queue: Bench) -> None:
    async with notified(queue, "absurd_ready") as heard:
        nodes = [
            {"task_id": str(new_id()), "queue": name, "name": "small"} for name in ("q1", "q2") for _ in range(20)
        ]  # fmt: skip
        await queue.connection.fetch("select * from absurd.spawn_tasks($1)", nodes)
        assert sorted(await payloads(heard, queue, "absurd_ready")) == ["q1", "q2"]
        await queue.connection.fetch("select * from absurd.claim_task('q1', 'w', 20)")
        assert await payloads(heard, queue, "absurd_ready") == []


@pytest.mark.parametrize("how", ["parent", "permit", "back-off"])
async def test_idle_workers_are_woken_when_a_waiting_task_becomes_ready(queue: Bench, how: str) -> None:
    more = {"concurrency_key": "k"} if how == "permit" else {}
    [first, *_] = await spawn(queue, 2 if how == "permit" else 1, max_attempts=2, retry={"base_s": 1e-6}, **more)
    if how == "parent":
        await spawn(queue, 1, depends_on=[{"task_id": str(first)}])
    [claimed] = await queue.claim()
    async with notified(queue, "absurd_ready") as heard:
        if how == "back-off":
            await queue.fail(claimed)
            await queue.sql("select absurd.promote(absurd.clock())")
        else:
            await queue.complete(claimed)
        assert await payloads(heard, queue, "absurd_ready") == [QUEUE]
