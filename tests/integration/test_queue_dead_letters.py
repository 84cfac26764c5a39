"""Dead letters: kept with all that was tried, through pruning; edited, replayed, deleted."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from dsa110_contimg.absurd.client import Dependency, TaskSpec
from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.absurd.dead_letters import DeadLetters
from fixtures.queue_bench import QUEUE, Bench

pytest_plugins = ["fixtures.queue_database"]

PRUNE = "select absurd.prune_tasks(-1)"  # whatever has ended


@pytest.fixture
async def letters(queue: Bench) -> AsyncIterator[DeadLetters]:
    database = Database(queue.url, "test dead letters", 3)
    await database.connect()
    yield DeadLetters(database)
    await database.close()


async def die(queue: Bench, name: str = "small", where: str = QUEUE, **settings: object) -> UUID:
    """Spawn a task, let it fail twice and for good, and return its id."""
    task = await queue.client.spawn(name, {"n": 1}, queue=where, max_retries=1, **settings)  # type: ignore[arg-type]
    for _ in range(2):
        await queue.connection.execute("update absurd.later set run_at = absurd.clock() - interval '1 s'")
        await queue.sql("select absurd.reap(10, 2)")
        claimed = await queue.connection.fetch("select * from absurd.claim_task($1, 'w', 1)", where)
        assert [row["task_id"] for row in claimed] == [task]
        await queue.fail(claimed[0])
    return task


async def test_a_dead_letter_tells_each_failed_attempt(queue: Bench, letters: DeadLetters) -> None:
    task = await die(queue)
    letter = await letters.get(task)
    assert letter is not None
    assert (letter["queue_name"], letter["task_name"], letter["params"]) == (QUEUE, "small", {"n": 1})
    assert (letter["reason"], letter["attempts"], letter["error"], letter["pruned"]) == ("error", 2, "E: m", False)
    assert [attempt["attempt"] for attempt in letter["failed_attempts"]] == [1, 2]
    assert {"worker_id", "started_at", "finished_at", "duration_s", "error"} <= letter["failed_attempts"][0].keys()
    assert await letters.get(uuid4()) is None


async def test_dead_letters_are_listed_newest_first_in_pages_and_by_what_they_are(
    queue: Bench, letters: DeadLetters
) -> None:
    tasks = [await die(queue, name, where) for name, where in [("a", "x"), ("b", "x"), ("a", "y")]]
    await queue.connection.execute("update absurd.dead set reason = 'timeout' where task_id = $1", tasks[1])
    listed = [row["task_id"] for row in await letters.list()]
    assert listed == [str(task) for task in reversed(tasks)]
    page = await letters.list(limit=2)
    rest = await letters.list(limit=2, after=UUID(page[-1]["task_id"]))
    assert [row["task_id"] for row in page + rest] == listed
    assert [row["task_id"] for row in await letters.list("x", "a")] == [str(tasks[0])]
    assert [row["task_id"] for row in await letters.list(reason="timeout")] == [str(tasks[1])]


async def test_a_replayed_dead_letter_runs_again_with_edited_params_and_what_it_had_skipped(
    queue: Bench, letters: DeadLetters
) -> None:
    parent = TaskSpec("small", {"n": 1}, max_retries=0)
    child = TaskSpec("small", {"n": 2}, depends_on=[parent.task_id])
    await queue.client.spawn_graph("two", [parent, child])
    await queue.fail((await queue.claim())[0])
    assert await queue.states(parent.task_id, child.task_id) == ["failed", "skipped"]
    assert await letters.edit(parent.task_id, {"n": 42})
    assert await letters.replay(parent.task_id)
    assert await queue.states(parent.task_id, child.task_id) == ["pending", "blocked"]
    [claimed] = await queue.claim()
    assert claimed["params"] == {"n": 42}
    await queue.complete(claimed)
    assert await queue.states(parent.task_id, child.task_id) == ["completed", "pending"]
    assert await letters.list() == []
    assert not await letters.replay(parent.task_id)
    assert not await letters.edit(parent.task_id, {})


async def test_dead_letters_survive_pruning_with_their_attempts_and_run_again_from_the_copy(
    queue: Bench, letters: DeadLetters
) -> None:
    task = await die(queue, priority=5, timeout_sec=7.0)
    assert await queue.sql(PRUNE) == 1
    assert await queue.client.get_task(task) is None
    letter = await letters.get(task)
    assert letter is not None and letter["pruned"] and len(letter["failed_attempts"]) == 2
    assert await letters.edit(task, {"n": 43})
    assert await letters.replay(task)
    assert await letters.list() == []
    revived = await queue.client.get_task(task)
    assert revived is not None
    assert (revived["status"], revived["priority"], revived["max_retries"]) == ("pending", 5, 1)
    [claimed] = await queue.claim()
    assert (claimed["task_id"], claimed["params"], claimed["timeout_s"], claimed["attempt"]) == (
        task,
        {"n": 43},
        7.0,
        1,
    )
    await queue.complete(claimed)


async def test_a_dead_letter_that_two_people_replay_runs_once(queue: Bench, letters: DeadLetters) -> None:
    for prune in (False, True):
        task = await die(queue)
        if prune:
            await queue.sql(PRUNE)
        assert sum(await asyncio.gather(*(letters.replay(task) for _ in range(3)))) == 1
        [claimed] = await queue.claim(9)
        await queue.complete(claimed)


async def test_many_are_replayed_in_batches_by_what_they_are(queue: Bench, letters: DeadLetters) -> None:
    nodes = [TaskSpec("small" if i % 2 else "other", max_retries=0) for i in range(230)]
    await queue.client.spawn_graph("many", nodes)
    for claimed in await queue.claim(300):
        await queue.fail(claimed)
    assert await letters.replay_many(name="other", limit=7) == 7
    assert await letters.replay_many(QUEUE, "other", "error") == 108
    assert await letters.replay_many(reason="crashed") == 0
    assert await letters.replay_many() == 115
    assert await queue.sql("select count(*) from absurd.ready") == 230


async def test_a_busy_dead_letter_is_left_to_the_next_call(queue: Bench, letters: DeadLetters) -> None:
    busy, free = await die(queue), await die(queue)
    async with queue.session() as other, other.transaction():
        await other.execute("select 1 from absurd.task where task_id = $1 for update", busy)
        assert await letters.replay_many() == 1
        assert await queue.states(busy, free) == ["failed", "pending"]
    assert await letters.replay_many() == 1


async def test_purging_deletes_the_copy_and_leaves_the_task(queue: Bench, letters: DeadLetters) -> None:
    kept, pruned = await die(queue), await die(queue)
    await queue.connection.execute(
        "update absurd.task set finished_at = now() - interval '9 d' where task_id = $1", pruned
    )
    await queue.connection.execute("update absurd.task set task_id = $2 where task_id = $1", pruned, old_id())
    assert await letters.purge(kept)
    assert not await letters.purge(kept)
    assert await queue.states(kept) == ["failed"]
    assert await queue.sql("select count(*) from absurd.attempt where task_id = $1", kept) == 2
    assert await letters.purge(pruned)
    assert await queue.sql("select count(*) from absurd.attempt where task_id = $1", pruned) == 0


def old_id() -> UUID:
    return UUID("018bcfe5-6800-7000-8000-000000000001")


async def test_many_are_purged_by_queue_and_age(queue: Bench, letters: DeadLetters) -> None:
    tasks = [await die(queue, where=where) for where in ("x", "x", "y")]
    await queue.connection.execute(
        "update absurd.dead set died_at = now() - interval '9 d' where task_id = $1", tasks[0]
    )
    assert await letters.purge_many("x", older_s=86400.0) == 1
    assert [row["task_id"] for row in await letters.list()] == [str(tasks[2]), str(tasks[1])]
    assert await letters.purge_many() == 2


async def test_a_dead_parent_that_is_replayed_after_pruning_leaves_its_children_alone(
    queue: Bench, letters: DeadLetters
) -> None:
    parent = await die(queue)
    child = await queue.client.spawn("small", depends_on=[Dependency(parent, "done")])
    assert await queue.sql(PRUNE) == 0, "a live task depends on it"
    await queue.complete((await queue.claim())[0])
    assert await queue.sql(PRUNE) == 2
    assert await letters.replay(parent)
    await queue.complete((await queue.claim())[0])
    assert await queue.states(child) == ["unknown"]
