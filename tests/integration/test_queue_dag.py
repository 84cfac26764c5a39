"""Tasks that depend on others: nobody starts too early, nobody waits for ever, whatever ends at the same moment."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from dsa110_contimg.absurd.client import Dependency, TaskSpec, UnknownTaskError
from dsa110_contimg.absurd.dependencies import DependencyCycleError
from dsa110_contimg.absurd.ids import new_id
from fixtures.queue_bench import QUEUE, Bench, open_bench

WAITING_FOR_A_LOCK = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like $1"

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


async def spawn(queue: Bench, *specs: TaskSpec) -> UUID:
    """Spawn a workflow."""
    return await queue.client.spawn_graph("test", specs)


async def spawn_child(connection: Any, parent: UUID) -> UUID:
    """Spawn a child of ``parent`` on a connection of the caller."""
    task: UUID = await connection.fetchval(
        "select absurd.spawn_task($1, 'small', p_depends_on => array[$2::uuid])", QUEUE, parent
    )
    return task


async def complete_on(connection: Any, claimed: Any) -> bool:
    """Complete a claimed task on a connection of the caller."""
    answer: bool = await connection.fetchval(
        "select absurd.complete_task($1, $2, null)", claimed["task_id"], claimed["claim"]
    )
    return answer


async def wait_for_lock(queue: Bench, call: str) -> None:
    """Wait until a session waits for a lock in this call."""

    async def waiting() -> bool:
        return bool(await queue.sql(WAITING_FOR_A_LOCK, f"%{call}%"))

    await queue.until(waiting)


async def test_a_child_starts_after_every_parent_has_completed_and_not_before(queue: Bench) -> None:
    a, b = TaskSpec("small"), TaskSpec("small")
    c = TaskSpec("small", depends_on=(a.task_id, b.task_id))
    await spawn(queue, c, a, b)
    [first, second] = await queue.claim(limit=5)
    await queue.complete(first)
    assert await queue.states(c.task_id) == ["blocked"]
    assert await queue.claim() == []
    await queue.complete(second)
    assert [row["task_id"] for row in await queue.claim()] == [c.task_id]


@pytest.mark.parametrize("earlier_children", [0, 1])
async def test_a_completion_that_waits_for_the_spawn_of_a_child_releases_that_child(
    queue: Bench, earlier_children: int
) -> None:
    """The lost wake-up: the completion began before the child was committed, and must see it all the same."""
    parent = await queue.client.spawn("small")
    for _ in range(earlier_children):
        await spawn_child(queue.connection, parent)
    [claimed] = await queue.claim()
    async with queue.session() as spawning, queue.session() as completing:
        await spawning.execute("begin")
        child = await spawn_child(spawning, parent)
        completion = asyncio.create_task(complete_on(completing, claimed))
        await wait_for_lock(queue, "complete_task")
        await spawning.execute("commit")
        assert await completion
    assert await queue.states(parent, child) == ["completed", "pending"]


@pytest.mark.parametrize("earlier_children", [0, 1])
async def test_a_child_spawned_while_its_parent_completes_starts_at_once(queue: Bench, earlier_children: int) -> None:
    parent = await queue.client.spawn("small")
    for _ in range(earlier_children):
        await spawn_child(queue.connection, parent)
    [claimed] = await queue.claim()
    async with queue.session() as spawning, queue.session() as completing:
        await completing.execute("begin")
        await complete_on(completing, claimed)
        spawned = asyncio.create_task(spawn_child(spawning, parent))
        await wait_for_lock(queue, "spawn_task")
        await completing.execute("commit")
        child = await spawned
    assert await queue.states(parent, child) == ["completed", "pending"]


async def test_the_repair_sweep_finds_a_wake_up_that_was_lost(queue: Bench) -> None:
    """The sweep must be able to find what the two tests above say never happens."""
    parent = await queue.client.spawn("small")
    child = await spawn_child(queue.connection, parent)
    await queue.claim()
    await queue.connection.execute("delete from absurd.lease")  # the parent ends, and its child is not told
    await queue.connection.execute("update absurd.task set outcome = 'completed' where task_id = $1", parent)
    assert await queue.states(child) == ["blocked"]
    assert await queue.sql("select absurd.repair()") == 1
    assert await queue.states(child) == ["pending"]


async def test_the_repair_sweep_finds_a_task_that_waits_for_nothing(queue: Bench) -> None:
    parent = await queue.client.spawn("small")
    child = await spawn_child(queue.connection, parent)
    await queue.connection.execute("update absurd.edge set consumed = true")
    assert await queue.sql("select absurd.repair()") == 1
    assert await queue.states(child) == ["pending"]
    await queue.connection.execute("update absurd.edge set consumed = false")
    await queue.complete((await queue.claim())[0])


@pytest.mark.parametrize("first", ["retry", "completion"])
async def test_a_task_that_is_retried_while_its_parent_completes_starts(queue: Bench, first: str) -> None:
    """The cancelled child has left `blocked`, so the completion finds nothing there to wait for."""
    parent = await queue.client.spawn("small")
    child = await spawn_child(queue.connection, parent)
    await queue.client.cancel_task(child)
    [claimed] = await queue.claim()
    async with queue.session() as one, queue.session() as two:
        retry = ("select absurd.retry_task($1)", child)
        completion = ("select absurd.complete_task($1, $2, null)", parent, claimed["claim"])
        early, late = (retry, completion) if first == "retry" else (completion, retry)
        await one.execute("begin")
        assert await one.fetchval(*early)
        other = asyncio.create_task(two.fetchval(*late))
        await wait_for_lock(queue, "complete_task" if first == "retry" else "retry_task")
        await one.execute("commit")
        assert await other
    assert await queue.states(parent, child) == ["completed", "pending"]


async def test_two_last_parents_that_end_at_the_same_moment_release_the_child_once(queue: Bench) -> None:
    a, b = TaskSpec("small"), TaskSpec("small")
    c = TaskSpec("small", depends_on=(a.task_id, b.task_id))
    await spawn(queue, a, b, c)
    [first, second] = await queue.claim(limit=2)
    async with queue.session() as left, queue.session() as right:
        await left.execute("begin")
        await complete_on(left, first)
        other = asyncio.create_task(complete_on(right, second))
        await wait_for_lock(queue, "complete_task")
        await left.execute("commit")
        assert await other
    assert await queue.states(c.task_id) == ["pending"]
    assert len(await queue.claim(limit=5)) == 1


async def test_a_child_of_two_hundred_parents_that_end_in_eight_sessions_starts_once(queue: Bench) -> None:
    parents = [TaskSpec("small") for _ in range(200)]
    child = TaskSpec("small", depends_on=[parent.task_id for parent in parents])
    await spawn(queue, *parents, child)
    claimed = await queue.claim(limit=500)
    assert len(claimed) == 200

    async def end(share: list[Any]) -> None:
        async with queue.session() as session:
            for row in share:
                assert await complete_on(session, row)

    await asyncio.gather(*(end(claimed[n::8]) for n in range(8)))
    assert [row["task_id"] for row in await queue.claim(limit=5)] == [child.task_id]


async def test_a_child_of_a_thousand_parents_that_end_in_flushes_of_six_sessions_starts_once(queue: Bench) -> None:
    parents = [TaskSpec("small") for _ in range(1000)]
    child = TaskSpec("small", depends_on=[parent.task_id for parent in parents])
    await spawn(queue, *parents, child)
    released: list[UUID] = []

    async def work() -> None:
        async with queue.session() as session:
            ended: list[Any] = []
            while True:
                rows = await session.fetch(
                    "select * from absurd.flush('w', $1, $2, $3, array[$4], 40)",
                    [row["task_id"] for row in ended], [row["claim"] for row in ended], [None] * len(ended), QUEUE,
                )  # fmt: skip
                assert "stale" not in {row["verdict"] for row in rows}
                if not ended and not rows:
                    return
                ended = [row for row in rows if row["verdict"] == "claimed"]
                released.extend(row["task_id"] for row in ended if row["task_id"] == child.task_id)

    await asyncio.gather(*(work() for _ in range(6)))
    await work()
    assert released == [child.task_id]
    assert await queue.states(child.task_id) == ["completed"]


async def test_a_flush_that_waits_for_the_spawn_of_a_child_releases_that_child(queue: Bench) -> None:
    """The lost wake-up, of one task among several of a flush."""
    await queue.client.spawn("small")
    parent = await queue.client.spawn("small")
    claimed = await queue.claim(limit=2)
    async with queue.session() as spawning, queue.session() as flushing:
        await spawning.execute("begin")
        child = await spawn_child(spawning, parent)
        flush = asyncio.create_task(
            flushing.fetch(
                "select * from absurd.flush('w', $1, $2, array['1', '2']::jsonb[], '{}', 0)",
                [row["task_id"] for row in claimed], [row["claim"] for row in claimed],
            )
        )  # fmt: skip
        await wait_for_lock(queue, "absurd.flush")
        await spawning.execute("commit")
        assert [row["verdict"] for row in await flush] == ["completed", "completed"]
    assert await queue.states(parent, child) == ["completed", "pending"]


async def test_a_flush_skips_those_that_waited_for_a_failure(queue: Bench) -> None:
    a = TaskSpec("small")
    alarm = TaskSpec("alarm", depends_on=(Dependency(a.task_id, "failure"),))
    after = TaskSpec("after", depends_on=(Dependency(alarm.task_id, "done"),))
    await spawn(queue, a, alarm, after)
    [claimed] = await queue.claim()
    await queue.connection.fetch(
        "select * from absurd.flush('w', $1, $2, array[null]::jsonb[], '{}', 0)", [a.task_id], [claimed["claim"]]
    )
    assert await queue.states(alarm.task_id, after.task_id) == ["skipped", "pending"]


async def test_a_task_that_is_cancelled_while_it_is_claimed_is_asked_to_stop(queue: Bench) -> None:
    """The cancel finds the task in no place, because the claim is about to commit; it must look again."""
    task = await queue.client.spawn("small")
    async with queue.session() as claiming, queue.session() as cancelling:
        await claiming.execute("begin")
        [claimed] = await claiming.fetch("select * from absurd.claim_task($1, 'w', 1)", QUEUE)
        cancel = asyncio.create_task(cancelling.fetchval("select absurd.cancel_task($1)", task))
        await wait_for_lock(queue, "cancel_task")
        await claiming.execute("commit")
        assert await cancel
    assert await queue.sql("select cancel from absurd.lease where task_id = $1", task)
    assert await queue.fail(claimed) == "cancelled"


async def test_the_failure_of_a_task_skips_all_that_needed_it(queue: Bench) -> None:
    a = TaskSpec("small")
    b = TaskSpec("small", depends_on=(a.task_id,))
    c = TaskSpec("small", depends_on=(b.task_id,))
    other = TaskSpec("small")
    d = TaskSpec("small", depends_on=(c.task_id, other.task_id))
    workflow = await spawn(queue, a, b, c, d, other)
    await queue.fail((await queue.claim())[0])
    assert await queue.states(a.task_id, b.task_id, c.task_id, d.task_id) == ["failed", "skipped", "skipped", "skipped"]
    [still_running] = await queue.claim(limit=5)
    assert still_running["task_id"] == other.task_id
    await queue.complete(still_running)
    assert (await queue.client.wait_workflow(workflow, 1))["status"] == "failed"


async def test_a_child_that_waits_for_any_end_runs_after_failure_skip_and_cancel(queue: Bench) -> None:
    a = TaskSpec("small")
    b = TaskSpec("small", depends_on=(a.task_id,))
    c = TaskSpec("small")
    last = TaskSpec("finish", depends_on=[Dependency(spec.task_id, "done") for spec in (a, b, c)])
    await spawn(queue, a, b, c, last)
    [claimed] = await queue.claim()
    await queue.fail(claimed)
    assert await queue.states(last.task_id) == ["blocked"]
    await queue.client.cancel_task(c.task_id)
    assert [row["task_id"] for row in await queue.claim()] == [last.task_id]


@pytest.mark.parametrize(("fails", "states"), [(True, ["failed", "pending"]), (False, ["completed", "skipped"])])
async def test_a_child_that_waits_for_failure_runs_only_then(queue: Bench, fails: bool, states: list[str]) -> None:
    a = TaskSpec("small")
    b = TaskSpec("alarm", depends_on=(Dependency(a.task_id, "failure"),))
    await spawn(queue, a, b)
    [claimed] = await queue.claim()
    await (queue.fail(claimed) if fails else queue.complete(claimed))
    assert await queue.states(a.task_id, b.task_id) == states


async def test_a_child_of_a_task_that_has_ended_is_settled_at_its_spawn(queue: Bench) -> None:
    done, dead = await queue.client.spawn("small"), await queue.client.spawn("small")
    [first, second] = await queue.claim(limit=2)
    await queue.complete(first)
    await queue.fail(second)
    released = await queue.client.spawn("small", depends_on=[done])
    skipped = await queue.client.spawn("small", depends_on=[done, dead])
    after_all = await queue.client.spawn("small", depends_on=[Dependency(skipped, "done"), Dependency(dead, "done")])
    assert await queue.states(released, skipped, after_all) == ["pending", "skipped", "pending"]


async def test_a_new_child_of_an_ended_task_does_not_release_the_older_children(queue: Bench) -> None:
    ended, running = await queue.client.spawn("small"), await queue.client.spawn("small")
    older = await queue.client.spawn("small", depends_on=[ended, running])
    await queue.complete((await queue.claim())[0])
    await queue.client.spawn("small", depends_on=[ended])
    assert await queue.states(older) == ["blocked"]


async def test_a_cycle_is_refused_by_the_names_of_its_tasks(queue: Bench) -> None:
    one, two = new_id(), new_id()
    specs = [TaskSpec("flag", task_id=one, depends_on=(two,)), TaskSpec("solve", task_id=two, depends_on=(one,))]
    with pytest.raises(DependencyCycleError, match=r"(flag -> solve|solve -> flag)"):
        await spawn(queue, *specs)
    assert await queue.client.list_tasks() == []


async def test_sql_cannot_store_a_cycle_either(queue: Bench) -> None:
    one, two = str(new_id()), str(new_id())
    nodes = [
        {"task_id": one, "queue": "q", "name": "a", "depends_on": [{"task_id": two}]},
        {"task_id": two, "queue": "q", "name": "b", "depends_on": [{"task_id": one}]},
    ]
    with pytest.raises(Exception, match="depends on"):
        await queue.sql("select count(*) from absurd.spawn_tasks($1)", nodes)


async def test_a_dependency_that_does_not_exist_is_refused_and_nothing_is_spawned(queue: Bench) -> None:
    with pytest.raises(UnknownTaskError, match="imaging"):
        await spawn(queue, TaskSpec("flagging"), TaskSpec("imaging", depends_on=(new_id(),)))
    assert await queue.client.list_tasks() == []


async def test_spawning_a_graph_again_changes_nothing(queue: Bench) -> None:
    a = TaskSpec("small")
    b = TaskSpec("small", depends_on=(a.task_id,))
    workflow = await spawn(queue, a, b)
    await queue.complete((await queue.claim())[0])
    assert await queue.client.spawn_graph("test", [a, b], workflow_id=workflow) == workflow
    assert await queue.states(a.task_id, b.task_id) == ["completed", "pending"]
    assert await queue.sql("select count(*) from absurd.workflow") == 1


async def test_a_workflow_tells_its_derived_status_and_its_tasks_in_order(queue: Bench) -> None:
    a = TaskSpec("convert")
    b = TaskSpec("flag", depends_on=(a.task_id,))
    workflow = await spawn(queue, b, a)

    async def status() -> str:
        found = await queue.client.get_workflow(workflow)
        assert found is not None and [task["task_name"] for task in found["tasks"]] == ["convert", "flag"]
        return str(found["status"])

    assert await status() == "pending"
    [claimed] = await queue.claim()
    assert await status() == "running"
    await queue.complete(claimed)
    assert await status() == "running"
    await queue.complete((await queue.claim())[0])
    assert await status() == "completed"
    assert await queue.client.get_workflow(new_id()) is None


async def test_retrying_a_failed_task_brings_back_what_it_had_skipped_and_what_waited_for_its_end(queue: Bench) -> None:
    a = TaskSpec("small")
    b = TaskSpec("small", depends_on=(a.task_id,))
    last = TaskSpec("finish", depends_on=(Dependency(a.task_id, "done"), Dependency(b.task_id, "done")))
    workflow = await spawn(queue, a, b, last)
    await queue.fail((await queue.claim())[0])
    await queue.complete((await queue.claim())[0], {"run": "failed"})
    assert await queue.states(a.task_id, b.task_id, last.task_id) == ["failed", "skipped", "completed"]
    assert await queue.client.retry_task(a.task_id)
    assert await queue.states(a.task_id, b.task_id, last.task_id) == ["pending", "blocked", "blocked"]
    for _ in range(3):
        [claimed] = await queue.claim(limit=5)
        await queue.complete(claimed)
    assert (await queue.client.wait_workflow(workflow, 1))["status"] == "completed"
    assert (await queue.client.get_queue_stats(QUEUE))["completed"] == 3


async def test_a_cancelled_task_runs_when_it_is_retried_though_its_parent_failed_meanwhile(queue: Bench) -> None:
    parent = TaskSpec("small")
    child = TaskSpec("small", depends_on=(parent.task_id,))
    await spawn(queue, parent, child)
    assert await queue.client.cancel_task(child.task_id)
    await queue.fail((await queue.claim())[0])
    assert await queue.client.retry_task(child.task_id)
    assert await queue.states(parent.task_id, child.task_id) == ["failed", "pending"]


async def test_retrying_one_of_two_failed_parents_leaves_the_child_skipped(queue: Bench) -> None:
    a, b = TaskSpec("small"), TaskSpec("small")
    c = TaskSpec("small", depends_on=(a.task_id, b.task_id))
    await spawn(queue, a, b, c)
    for claimed in await queue.claim(limit=2):
        await queue.fail(claimed)
    assert await queue.client.retry_task(a.task_id)
    assert await queue.states(a.task_id, b.task_id, c.task_id) == ["pending", "failed", "skipped"]


@pytest.mark.parametrize("seed", range(4))
async def test_random_graphs_with_random_ends_come_to_the_end_that_the_rules_give(queue: Bench, seed: int) -> None:
    """A model of 15 lines against the queue: each task's end follows from those of its parents."""
    chance = random.Random(seed)
    specs: list[TaskSpec] = []
    for n in range(40):
        parents = chance.sample(specs, min(n, chance.randrange(4)))
        policies = [chance.choice(["success", "success", "done", "failure"]) for _ in parents]
        edges = [Dependency(p.task_id, policy) for p, policy in zip(parents, policies, strict=True)]  # type: ignore[arg-type]
        specs.append(TaskSpec("small", depends_on=edges, task_id=new_id() if chance.random() < 0.5 else UUID(
            int=chance.getrandbits(128)
        )))  # fmt: skip
    wanted_ends = {spec.task_id: chance.choice(["completed", "completed", "failed"]) for spec in specs}
    expected: dict[UUID, str] = {}
    for spec in specs:
        breaks = {"success": {"failed", "skipped"}, "done": set(), "failure": {"completed", "skipped"}}
        broken = any(expected[edge.task_id] in breaks[edge.policy] for edge in spec.parents())
        expected[spec.task_id] = "skipped" if broken else wanted_ends[spec.task_id]

    await spawn(queue, *specs)

    async def work() -> None:
        async with queue.session() as session:
            for _ in range(500):
                rows = await session.fetch("select * from absurd.claim_task($1, 'w', 2)", QUEUE)
                for row in rows:
                    if wanted_ends[row["task_id"]] == "completed":
                        await complete_on(session, row)
                    else:
                        await session.fetchval(
                            "select absurd.fail_task($1, $2, '{}', false)", row["task_id"], row["claim"]
                        )
                if not rows and not await session.fetchval("select count(*) from absurd.blocked"):
                    return

    await asyncio.gather(*(work() for _ in range(4)))
    found = {spec.task_id: state for spec in specs for state in await queue.states(spec.task_id)}
    assert found == expected


async def test_two_ends_whose_skipped_levels_cross_do_not_wait_for_each_other(queue: Bench) -> None:
    a, b, skipped, gate, low, high = sorted(new_id() for _ in range(6))
    await spawn(
        queue,
        TaskSpec("small", task_id=a),
        TaskSpec("small", task_id=b),
        TaskSpec("small", task_id=skipped, depends_on=(Dependency(a, "failure"),)),
        TaskSpec("small", task_id=gate, depends_on=(Dependency(skipped, "done"),)),
        TaskSpec("small", task_id=low, depends_on=(Dependency(skipped, "done"), Dependency(b, "failure"))),
        TaskSpec("small", task_id=high, depends_on=(a, low)),
    )
    claimed = {row["task_id"]: row for row in await queue.claim(2)}
    async with queue.session() as holder, queue.session() as first, queue.session() as second:
        async with holder.transaction():
            await holder.execute("select from absurd.blocked where task_id = $1 for update", gate)
            ends = [asyncio.create_task(complete_on(first, claimed[a]))]  # stops at the gate
            await wait_for_lock(queue, "complete_task")
            ends.append(asyncio.create_task(complete_on(second, claimed[b])))

            async def second_is_over_or_waits() -> bool:
                return ends[1].done() or await queue.sql(WAITING_FOR_A_LOCK, "%complete_task%") == 2

            await queue.until(second_is_over_or_waits)
        assert await asyncio.gather(*ends) == [True, True]
    assert await queue.states(skipped, gate, low, high) == ["skipped", "pending", "skipped", "skipped"]
