"""Pruning: what has ended long ago goes, and nothing that a live task or a workflow still needs."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from dsa110_contimg.absurd import retention
from dsa110_contimg.absurd.client import Dependency, TaskSpec, UnknownTaskError
from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.absurd.ids import new_id
from fixtures.queue_bench import QUEUE, Bench

pytest_plugins = ["fixtures.queue_database"]

PRUNE = "select absurd.prune_tasks($1, $2, $3, $4)"
NOW = -1.0  # older than in a second: whatever has ended


async def prune(queue: Bench, older_s: float = NOW, where: str | None = None, statuses: list[str] | None = None,
                limit: int = 10000) -> int:  # fmt: skip
    count: int = await queue.sql(PRUNE, older_s, where, statuses, limit)
    return count


async def run_all(queue: Bench) -> None:
    """Complete everything that can run."""
    while claimed := await queue.claim(100):
        for task in claimed:
            await queue.complete(task)


async def count(queue: Bench, table: str) -> int:
    number: int = await queue.sql(f"select count(*) from absurd.{table}")
    return number


async def test_ended_tasks_go_with_all_that_belongs_to_them_and_live_ones_stay(queue: Bench) -> None:
    nodes = [TaskSpec("small", max_retries=1)]
    nodes.append(TaskSpec("small", depends_on=[nodes[0].task_id]))
    await queue.client.spawn_graph("two", nodes)
    await queue.fail((await queue.claim())[0])
    await queue.connection.execute("update absurd.later set run_at = absurd.clock() - interval '1 s'")
    await queue.sql("select absurd.reap(10, 2)")
    await run_all(queue)
    live = await queue.client.spawn("small")
    assert await count(queue, "attempt") == 1
    assert await prune(queue) == 2
    assert await queue.states(live) == ["pending"]
    assert [await count(queue, table) for table in ("task", "edge", "attempt", "workflow")] == [1, 0, 0, 0]


async def test_only_what_is_old_enough_goes(queue: Bench) -> None:
    tasks = [await queue.client.spawn("small") for _ in range(2)]
    await run_all(queue)
    assert await prune(queue, 60.0) == 0
    await age(queue, tasks[0], timedelta(days=8))
    assert await prune(queue, 7 * 86400.0) == 1
    assert await queue.sql("select task_id from absurd.task") == tasks[1]


async def age(queue: Bench, task: UUID, by: timedelta) -> UUID:
    """Make a task look as if it had been spawned and had ended earlier."""
    old = await queue.sql(
        """update absurd.task set created_at = created_at - $2::interval, finished_at = finished_at - $2::interval,
                  task_id = overlay(absurd.first_id(created_at - $2::interval)::text
                                    placing substr(task_id::text, 15) from 15)::uuid
           where task_id = $1 returning task_id""",
        task,
        by,
    )
    assert isinstance(old, UUID)
    return old


async def test_queue_and_outcome_choose(queue: Bench) -> None:
    for where in ("x", "x", "y"):
        await queue.client.spawn("small", queue=where, max_retries=0)
    for where in ("x", "y"):
        [claimed] = await queue.connection.fetch("select * from absurd.claim_task($1, 'w', 1)", where)
        await queue.complete(claimed)
    [claimed] = await queue.connection.fetch("select * from absurd.claim_task('x', 'w', 1)")
    await queue.fail(claimed)
    assert await prune(queue, where="x", statuses=["cancelled"]) == 0
    assert await prune(queue, where="x", statuses=["completed"]) == 1
    assert await prune(queue, where="x") == 1
    assert await queue.sql("select array_agg(queue) from absurd.task") == ["y"]


async def test_a_parent_that_a_live_task_waits_for_or_has_used_stays(queue: Bench) -> None:
    first, second = TaskSpec("small"), TaskSpec("small")
    child = TaskSpec("small", depends_on=[first.task_id, second.task_id])
    for spec in (first, second):
        await queue.client.spawn("small", task_id=spec.task_id)
    await queue.client.spawn("small", task_id=child.task_id, depends_on=child.depends_on)
    [claimed] = await queue.claim()
    await queue.complete(claimed)
    assert await prune(queue) == 0
    await queue.complete((await queue.claim())[0])
    assert await prune(queue) == 0
    await run_all(queue)
    assert await prune(queue) == 3


async def test_an_ended_child_of_a_live_parent_stays(queue: Bench) -> None:
    parent = await queue.client.spawn("small")
    child = await queue.client.spawn("small", depends_on=[parent])
    await queue.client.cancel_task(child)
    assert await prune(queue) == 0
    await run_all(queue)
    assert await prune(queue) == 2


async def test_a_workflow_goes_whole_or_not_at_all(queue: Bench) -> None:
    live, failed, ended = [
        await queue.client.spawn_graph(name, [TaskSpec(name, queue=name, max_retries=0) for _ in range(3)])
        for name in ("live", "failed", "ended")
    ]
    for name, share in (("live", 2), ("failed", 3), ("ended", 3)):
        for i, claimed in enumerate(
            await queue.connection.fetch("select * from absurd.claim_task($1, 'w', $2)", name, share)
        ):
            await (queue.fail(claimed) if (name, i) == ("failed", 0) else queue.complete(claimed))
    assert await prune(queue, statuses=["completed"]) == 3
    assert [bool(await queue.client.get_workflow(flow)) for flow in (live, failed, ended)] == [True, True, False]
    assert await prune(queue) == 3
    assert [bool(await queue.client.get_workflow(flow)) for flow in (live, failed)] == [True, False]
    assert await count(queue, "task") == 3


async def test_a_workflow_is_not_cut_by_the_limit_and_later_ones_are_not_starved(queue: Bench) -> None:
    await queue.client.spawn_graph("stays", [TaskSpec("late", queue="never"), *(TaskSpec("small") for _ in range(4))])
    for name in ("a", "b"):
        await queue.client.spawn_graph(name, [TaskSpec("small") for _ in range(5)])
    for _ in range(4):
        await queue.client.spawn("small")
    await run_all(queue)
    assert [await prune(queue, limit=3) for _ in range(5)] == [5, 5, 3, 1, 0]


async def test_a_workflow_with_a_live_task_outside_that_needs_it_stays(queue: Bench) -> None:
    inside = TaskSpec("small")
    await queue.client.spawn_graph("needed", [inside, TaskSpec("small")])
    await queue.client.spawn("small", queue="other", depends_on=[Dependency(inside.task_id, "done")])
    await run_all(queue)
    assert await prune(queue) == 0


async def test_a_child_that_is_spawned_while_its_parent_is_pruned_finds_it_or_is_refused(queue: Bench) -> None:
    """Both orders: who comes second waits for the first, and then knows."""
    parent = await queue.client.spawn("small")
    await run_all(queue)
    async with queue.session() as other:
        async with other.transaction():
            await other.fetch(
                "select * from absurd.spawn_tasks($1::jsonb)",
                [{"task_id": str(new_id()), "queue": QUEUE, "name": "small", "depends_on": [{"task_id": str(parent)}]}],
            )
            assert await prune(queue) == 0, "the spawning session holds the parent"
        assert await prune(queue) == 0, "the child lives"
        await run_all(queue)
        transaction = other.transaction()
        await transaction.start()
        assert await other.fetchval(PRUNE, NOW, None, None, 100) == 2
        spawning = asyncio.create_task(queue.client.spawn("small", depends_on=[parent]))
        await asyncio.sleep(0.2)
        assert not spawning.done()
        await transaction.commit()
        with pytest.raises(UnknownTaskError, match=str(parent)):
            await spawning


async def test_a_child_that_is_spawned_after_the_first_look_of_the_pruning_keeps_its_parent(queue: Bench) -> None:
    """The pruning has chosen a workflow and waits for its rows, while somebody spawns a child of one of them."""
    nodes = [TaskSpec("small"), TaskSpec("small")]
    await queue.client.spawn_graph("flow", nodes)
    await run_all(queue)
    async with queue.session() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("lock table absurd.task in exclusive mode")
        pruning = asyncio.create_task(prune(queue))
        await asyncio.sleep(0.3)
        assert not pruning.done()
        child = {"task_id": str(new_id()), "queue": QUEUE, "name": "small"}
        parents = [{"task_id": str(nodes[0].task_id), "policy": "done"}]
        await other.fetch("select * from absurd.spawn_tasks($1::jsonb)", [{**child, "depends_on": parents}])
        await transaction.commit()
    assert await pruning == 0
    assert await queue.states(*(node.task_id for node in nodes)) == ["completed", "completed"]


async def test_the_idempotency_key_of_a_pruned_task_is_free(queue: Bench) -> None:
    first = await queue.client.spawn("small", idempotency_key="night 1")
    await run_all(queue)
    assert await queue.client.spawn("small", idempotency_key="night 1") == first
    assert await prune(queue) == 1
    assert await count(queue, "idem") == 0
    assert await queue.client.spawn("small", idempotency_key="night 1") != first


async def test_two_that_prune_at_once_share_the_work_and_cut_nothing(queue: Bench) -> None:
    for _ in range(10):
        await queue.client.spawn_graph("flow", [TaskSpec("small") for _ in range(5)])
    await run_all(queue)

    async def one() -> int:
        async with queue.session() as session:
            total = 0
            for _ in range(8):
                total += await session.fetchval(PRUNE, NOW, None, None, 7)
            return total

    assert sum(await asyncio.gather(one(), one(), one())) == 50
    assert await count(queue, "workflow") == 0


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_pruned_the_rest_runs_to_the_end(queue: Bench, seed: int) -> None:
    """Random DAGs, run step by step, pruned in between."""
    rng = random.Random(seed)
    for i in range(rng.randint(1, 4)):
        nodes: list[TaskSpec] = []
        for _ in range(rng.randint(1, 8)):
            parents = rng.sample(nodes, min(len(nodes), rng.randint(0, 3)))
            edges = [Dependency(p.task_id, rng.choice(["success", "done", "failure"])) for p in parents]  # type: ignore[arg-type]
            nodes.append(TaskSpec("small", depends_on=edges, max_retries=0))
        if rng.random() < 0.7:
            await queue.client.spawn_graph(f"g{i}", nodes)
        else:
            for node in nodes:
                await queue.client.spawn("small", task_id=node.task_id, depends_on=node.depends_on, max_retries=0)
    while claimed := await queue.claim(rng.randint(1, 4)):
        for task in claimed:
            await (queue.complete(task) if rng.random() < 0.6 else queue.fail(task, retryable=False))
        await prune(queue, limit=rng.randint(1, 5))
        await queue.assert_sound()
        assert await queue.sql(
            "select not exists (select from absurd.edge e where not exists (select from absurd.task p "
            "where p.task_id = e.parent) or not exists (select from absurd.task c where c.task_id = e.child))"
        )
    while await prune(queue):
        pass
    assert await count(queue, "blocked") == 0
    assert await count(queue, "task") == 0


# ------------------------------------------------------------------------------------------------------- whole months


async def make_month(queue: Bench, month: datetime) -> str:
    """Make the partition of a month long ago."""
    name = f"task_{month:%Y_%m}"
    await queue.connection.execute(
        f"create table absurd.{name} partition of absurd.task for values from "
        f"('{first_id(month)}') to ('{first_id((month + timedelta(days=32)).replace(day=1))}')"
    )
    return name


def first_id(moment: datetime) -> UUID:
    return UUID(int=int(moment.timestamp() * 1000) << 80)


MONTH = datetime(2020, 3, 1, tzinfo=UTC)


@pytest.fixture
async def month(queue: Bench) -> AsyncIterator[str]:
    """A month of long ago with a failed task, and a workflow of two that are completed."""
    name = await make_month(queue, MONTH)
    ids = [UUID(int=first_id(MONTH + timedelta(days=i)).int | (7 << 76) | (8 << 60) | i) for i in range(1, 4)]
    await queue.client.spawn("small", task_id=ids[0], max_retries=0)
    pair = [TaskSpec("small", task_id=ids[1]), TaskSpec("small", task_id=ids[2], depends_on=[ids[1]])]
    await queue.client.spawn_graph("pair", pair)
    [first, *_] = await queue.claim()
    await queue.fail(first)
    await run_all(queue)
    await queue.connection.execute(f"update absurd.{name} set finished_at = '2020-03-20'")
    yield name
    await queue.connection.execute(f"drop table if exists absurd.{name}")


async def drop_old(queue: Bench) -> int:
    dropped: int = await queue.sql("select absurd.drop_old_partition(86400)")
    return dropped


async def test_an_old_month_is_dropped_whole_and_its_dead_letter_stays(queue: Bench, month: str) -> None:
    young = await queue.client.spawn("small")
    assert await drop_old(queue) == 3
    assert await queue.sql("select to_regclass($1) is null", f"absurd.{month}")
    assert [await count(queue, table) for table in ("task", "edge", "workflow", "dead", "attempt")] == [1, 0, 0, 1, 1]
    assert await queue.states(young) == ["pending"]
    assert await drop_old(queue) == 0


async def test_a_month_that_holds_something_live_or_needed_stays(queue: Bench, month: str) -> None:
    [parent] = [row[0] for row in await queue.connection.fetch(f"select task_id from absurd.{month} limit 1")]
    await queue.client.spawn("small", queue="other", depends_on=[Dependency(parent, "done")])
    assert await drop_old(queue) == 0
    assert await count(queue, month) == 3


async def test_a_month_with_a_part_of_a_workflow_that_lives_on_stays(queue: Bench, month: str) -> None:
    flow = await queue.sql("select workflow_id from absurd.workflow")
    await queue.client.spawn("small", workflow_id=flow)
    assert await drop_old(queue) == 0
    assert await count(queue, month) == 3


async def test_a_month_that_is_busy_is_left_to_the_next_call(queue: Bench, month: str) -> None:
    async with queue.session() as other, other.transaction():
        await other.execute(f"select from absurd.{month}")
        assert await drop_old(queue) == 0
    assert await drop_old(queue) == 3


async def test_everything_old_is_pruned_in_one_call_month_by_month_and_in_batches(queue: Bench, month: str) -> None:
    for _ in range(3):
        await queue.client.spawn("small")
    await run_all(queue)
    database = Database(queue.url, "test retention", 1)
    await database.connect()
    assert await retention.prune(database, 30.0) == 3, "those of the old month"
    assert await queue.sql("select to_regclass($1) is null", f"absurd.{month}")
    assert await retention.prune(database, 0.0, QUEUE, ["failed"]) == 0
    assert await retention.prune(database, 0.0, QUEUE, ["completed"]) == 3
    with pytest.raises(ValueError, match="at least 0"):
        await retention.prune(database, -1.0)
    await database.close()


async def test_fires_and_gone_workers_are_forgotten_after_a_time(queue: Bench) -> None:
    await queue.connection.execute(
        """insert into absurd.fire values ('a', now() - interval '9 d', absurd.new_id()), ('a', now(), absurd.new_id());
           insert into absurd.worker (worker_id, host, pid, queues, slots, started_at, beat_at, state)
           select s, 'h', 1, '{}', 1, now(), now() - interval '9 d', s from unnest(array['active', 'stopped']) s"""
    )
    assert await queue.sql("select absurd.prune_records(86400)") == 2
    assert (await count(queue, "fire"), await count(queue, "worker")) == (1, 1)


async def spawn_onto(queue: Bench, flows: int, rng: random.Random) -> None:
    """Spawn workflows, and tasks that depend on some that may have been pruned by then."""
    before: list[UUID] = []
    for _ in range(flows):
        first = [TaskSpec("small", max_retries=0) for _ in range(3)]
        last = TaskSpec("small", depends_on=[Dependency(spec.task_id, "done") for spec in first], max_retries=0)
        await queue.client.spawn_graph("flow", [*first, last])
        if before and rng.random() < 0.5:
            with contextlib.suppress(UnknownTaskError):
                await queue.client.spawn("small", depends_on=[rng.choice(before)], max_retries=0)
        before = [*before[-5:], last.task_id]


async def end_tasks(queue: Bench, luck: random.Random) -> None:
    """Claim and end tasks for ever, some of them badly."""
    async with queue.session() as session:
        while True:
            for task in await session.fetch("select * from absurd.claim_task($1, 'w', 3)", QUEUE):
                call = "complete_task" if luck.random() < 0.8 else "fail_task"
                await session.fetchval(
                    f"select absurd.{call}($1, $2, $3)", task["task_id"], task["claim"], {"type": "E"}
                )
            await asyncio.sleep(0.005)


async def repeat(queue: Bench, statement: str) -> None:
    """Run a statement for ever."""
    async with queue.session() as session:
        while True:
            await session.fetch(statement)
            await asyncio.sleep(0.003)


async def test_pruning_beside_workers_spawns_and_retries_breaks_nothing(queue: Bench) -> None:
    """Whatever ended is pruned at once, while DAGs are spawned onto it, run, fail and are replayed."""
    statements = [
        "select absurd.prune_tasks(-1, null, null, 3)",
        "select absurd.prune_tasks(-1)",
        "select absurd.replay_dead_letters(p_limit => 2)",
        "select absurd.repair()",
    ]
    busy = [asyncio.create_task(end_tasks(queue, random.Random(seed))) for seed in (1, 2)]
    busy += [asyncio.create_task(repeat(queue, statement)) for statement in statements]

    async def empty() -> bool:
        assert not [task.exception() for task in busy if task.done()]
        return await count(queue, "task") == 0 and await count(queue, "dead") == 0

    await spawn_onto(queue, 40, random.Random(5))
    await queue.until(empty, 60)
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)
    assert [await count(queue, table) for table in ("edge", "workflow", "blocked", "attempt")] == [0, 0, 0, 0]
