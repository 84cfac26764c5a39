"""The client: spawning with every option, looking, waiting, workflows, chains, controls of queues."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from dsa110_contimg.absurd import chains
from dsa110_contimg.absurd.client import AbsurdClient, Dependency, TaskSpec, UnknownTaskError
from dsa110_contimg.absurd.ids import new_id
from dsa110_contimg.absurd.registry import BadParamsError, Tasks, TaskType
from fixtures.queue_bench import QUEUE, Bench, open_bench
from fixtures.queue_worker import gather

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


async def task_of(queue: Bench, task_id: UUID) -> dict[str, Any]:
    task = await queue.client.get_task(task_id)
    assert task is not None
    return task


# --- spawning -------------------------------------------------------------------------------------------------------
async def test_what_a_spawn_says_is_what_the_task_is(queue: Bench) -> None:
    workflow = await queue.client.create_workflow("w", {"note": [1]})
    params = {"nested": {"list": [1, None, "ü"]}}
    task_id = await queue.client.spawn(
        "small", params, queue="other", priority=4, timeout_sec=7.5, max_retries=2, workflow_id=workflow,
        headers={"trace": "t"},
    )  # fmt: skip
    task = await task_of(queue, task_id)
    told = {key: task[key] for key in ("task_name", "params", "queue_name", "priority", "timeout_sec", "max_retries",
                                       "workflow_id", "status", "headers")}  # fmt: skip
    assert told == {
        "task_name": "small", "params": params, "queue_name": "other", "priority": 4, "timeout_sec": 7.5,
        "max_retries": 2, "workflow_id": str(workflow), "status": "pending", "headers": {"trace": "t"},
    }  # fmt: skip


async def test_a_task_for_later_is_scheduled_and_runs_when_its_time_has_come(queue: Bench) -> None:
    later = await queue.client.spawn("small", run_at=datetime.now(UTC) + timedelta(hours=1))
    soon = await queue.client.spawn("small", run_at=datetime.now(UTC) + timedelta(seconds=0.3))
    past = await queue.client.spawn("small", run_at=datetime.now(UTC) - timedelta(hours=1))
    assert await queue.states(later, soon, past) == ["scheduled", "scheduled", "pending"]
    async with queue.worker():
        await queue.client.wait(soon, 10)
    assert await queue.states(later) == ["scheduled"]


async def test_fifty_clients_that_spawn_with_one_key_at_once_make_one_task(queue: Bench) -> None:
    """Whoever asks twice for the same work gets the same task: the key is unique in the database."""

    async def spawn(session: AbsurdClient) -> UUID:
        return await session.spawn("small", {"who": str(id(session))}, idempotency_key="convert 2026-02-11T00:00:10")

    clients = [AbsurdClient(queue.client.config) for _ in range(10)]
    for client in clients:
        await client.connect()
    answers = await asyncio.gather(*(spawn(client) for client in clients for _ in range(5)))
    for client in clients:
        await client.close()
    assert len(set(answers)) == 1
    assert len(await queue.client.list_tasks()) == 1


async def test_a_key_still_leads_to_its_task_after_that_has_ended_and_no_further_than_its_queue(queue: Bench) -> None:
    first = await queue.client.spawn("small", idempotency_key="k")
    await queue.complete((await queue.claim())[0])
    assert await queue.client.spawn("small", idempotency_key="k") == first
    assert await queue.client.spawn("small", idempotency_key="k", queue="other") != first


async def test_many_are_spawned_in_order_and_each_is_said_to_be_new_or_not(queue: Bench) -> None:
    old = TaskSpec("small")
    await queue.client.spawn_many([old])
    keyed = await queue.client.spawn("small", idempotency_key="k")
    new = [TaskSpec("small", {"n": n}, priority=n) for n in range(3)]
    same = TaskSpec("small", idempotency_key="k")
    child = TaskSpec("small", depends_on=(new[0].task_id,))
    spawned = await queue.client.spawn_many([*new, old, same, child])
    assert [(one.task_id, one.created) for one in spawned] == [
        *((spec.task_id, True) for spec in new), (old.task_id, False), (keyed, False), (child.task_id, True),
    ]  # fmt: skip
    assert await queue.client.spawn_many([]) == []


ALL_BUT_THE_ID = (
    "select queue, name, params, rank, max_attempts, timeout_s, retry, workflow_id, has_children, headers, max_crashes "
    "from absurd.task where task_id = $1"
)


@pytest.mark.parametrize("options", [
    {},
    {"priority": 3, "timeout_sec": 2.5, "max_retries": 2, "queue": "q", "backoff_base_sec": 0.5, "max_crashes": 4,
     "retry_on": ("OSError",), "dead_on": ("ValueError",)},
])  # fmt: skip
async def test_many_that_are_alike_are_what_single_spawns_would_have_made(
    queue: Bench, options: dict[str, Any]
) -> None:
    """Tasks that differ in parameters only take a shorter way."""
    workflow = await queue.client.create_workflow("w")
    specs = [TaskSpec("small", {"n": n, "text": "ü\x00'\\\""}, **options) for n in range(30)]
    spawned = await queue.client.spawn_many(specs, workflow_id=workflow)
    assert [(one.task_id, one.created) for one in spawned] == [(spec.task_id, True) for spec in specs]
    for spec in specs[::7]:
        [twin] = await queue.client.spawn_many([TaskSpec("small", spec.params, **options)], workflow_id=workflow)
        one, other = [await queue.connection.fetchrow(ALL_BUT_THE_ID, task) for task in (spec.task_id, twin.task_id)]
        assert tuple(one) == tuple(other)
    ready = "select count(*), min(rank), max(rank), min(queue) from absurd.ready"
    assert tuple(await queue.connection.fetchrow(ready)) == (
        35, -options.get("priority", 0), -options.get("priority", 0), options.get("queue", QUEUE)
    )  # fmt: skip


async def test_many_that_are_alike_can_be_sent_again(queue: Bench) -> None:
    specs = [TaskSpec("small") for _ in range(25)]
    await queue.client.spawn_many(specs[:20])
    again = await queue.client.spawn_many(specs)
    assert [one.created for one in again] == [False] * 20 + [True] * 5
    assert len(await queue.client.list_tasks()) == 25


async def test_many_wake_an_idle_worker_and_are_told_to_listeners(queue: Bench) -> None:
    async with queue.worker(worker_poll_interval_sec=60.0) as _:
        updates = queue.client.listen()
        await anext(updates)
        specs = [TaskSpec("small") for _ in range(25)]
        await queue.client.spawn_many(specs)
        await queue.client.wait(specs[-1].task_id, 20)
        told = {(await anext(updates))["task_id"] for _ in range(25)}
    assert told == {str(spec.task_id) for spec in specs}


@dataclass(frozen=True)
class Image:
    ms_path: str
    cell_arcsec: float = 9.0


async def image(params: Image) -> dict[str, Any]:
    return {"made_of": params.ms_path}


async def test_a_client_that_knows_the_tasks_refuses_wrong_parameters_and_takes_limits_from_their_types(
    queue: Bench,
) -> None:
    settings = {"timeout_sec": 40.0, "max_retries": 7, "retry_on": (OSError,), "dead_on": ("ValueError",)}
    known = Tasks(TaskType("imaging", image, **settings))
    async with AbsurdClient(queue.client.config, registry=known) as client:
        with pytest.raises(BadParamsError, match="ms_path is 7"):
            await client.spawn_many([TaskSpec("imaging", {"ms_path": "a"}), TaskSpec("imaging", {"ms_path": 7})])
        typed = await client.spawn("imaging", Image("a.ms"))
        other = await client.spawn("imaging", {"ms_path": "a.ms"}, timeout_sec=1.0, max_retries=0)
        unknown = await client.spawn("of another program", {"ms_path": 7})
    assert len(await queue.client.list_tasks()) == 3
    task = await task_of(queue, typed)
    assert task["params"] == {"ms_path": "a.ms", "cell_arcsec": 9.0}
    assert (task["timeout_sec"], task["max_retries"]) == (40.0, 7)
    retry = await queue.sql("select retry from absurd.task where task_id = $1", typed)
    assert "OSError" in retry["retry_on"] and retry["dead_on"] == ["ValueError"]
    task = await task_of(queue, other)
    assert (task["timeout_sec"], task["max_retries"]) == (1.0, 0)
    assert (await task_of(queue, unknown))["params"] == {"ms_path": 7}


async def test_what_goes_in_as_an_object_comes_out_as_an_object_whatever_the_call(queue: Bench) -> None:
    """In the earlier queue schedules, workflows and tasks with parents raised, and what was read was a text."""
    client, thing = queue.client, {"a": {"b": [1, None, "ü"]}}
    parent = await client.spawn("small", thing, headers=thing)
    child = await client.spawn("small", thing, depends_on=[parent])
    workflow = await client.create_workflow("w", thing)
    await client.schedules.create("nightly", task_name="small", cron_expression="0 3 * * *", params=thing)
    [claimed] = await queue.claim()
    await queue.complete(claimed, thing)
    found, later = await task_of(queue, parent), await task_of(queue, child)
    flow, schedule = await client.get_workflow(workflow), await client.schedules.get("nightly")
    assert flow is not None and schedule is not None
    came_out = [
        claimed["params"], found["params"], found["headers"], found["result"], later["params"], flow["metadata"],
        schedule["params"],
    ]  # fmt: skip
    assert came_out == [thing] * len(came_out)


# --- looking --------------------------------------------------------------------------------------------------------
async def test_each_state_lists_its_tasks_and_no_others(queue: Bench) -> None:
    client = queue.client
    done, failed, claimed = [await client.spawn("small") for _ in range(3)]
    retrying = await client.spawn("small", max_retries=1)
    for row in await queue.claim(limit=4):
        if row["task_id"] == done:
            await queue.complete(row)
        elif row["task_id"] != claimed:
            await queue.fail(row)
    skipped = await client.spawn("small", depends_on=[failed])
    blocked = await client.spawn("small", depends_on=[claimed])
    cancelled = await client.spawn("small")
    await client.cancel_task(cancelled)
    scheduled = await client.spawn("small", run_at=datetime.now(UTC) + timedelta(hours=1))
    pending, parked = [await client.spawn("small", concurrency_key="c") for _ in range(2)]
    expected = {
        "completed": done, "failed": failed, "claimed": claimed, "retrying": retrying, "skipped": skipped,
        "blocked": blocked, "cancelled": cancelled, "scheduled": scheduled, "pending": pending, "parked": parked,
    }  # fmt: skip
    listed = {status: await client.list_tasks(status=status) for status in expected}
    assert {status: [(row["task_id"], row["status"]) for row in rows] for status, rows in listed.items()} == {
        status: [(str(task), status)] for status, task in expected.items()
    }
    assert len(await client.list_tasks()) == len(expected)
    with pytest.raises(ValueError, match=r"no task has the status 'done'; there are blocked, cancelled, claimed"):
        await client.list_tasks(status="done")


async def test_pages_of_tasks_follow_each_other_without_gap_or_overlap_while_tasks_are_added(queue: Bench) -> None:
    made = [await queue.client.spawn("small" if n % 2 else "big", queue="a" if n < 8 else "b") for n in range(10)]
    seen: list[str] = []
    after = None
    while page := await queue.client.list_tasks("a", name="big", limit=2, after=after):
        assert len(page) <= 2
        seen += [row["task_id"] for row in page]
        after = UUID(page[-1]["task_id"])
        await queue.client.spawn("big", queue="a")
    assert seen == [str(made[n]) for n in (6, 4, 2, 0)]


async def test_waiting_ends_with_the_task_however_it_ends(queue: Bench) -> None:
    task = await queue.client.spawn("small", {"n": 1})
    waiting = asyncio.create_task(queue.client.wait(task, 10))
    [claimed] = await queue.claim()
    await queue.complete(claimed, {"answer": 42})
    ended = await waiting
    assert (ended["status"], ended["result"]) == ("completed", {"answer": 42})
    other = await queue.client.spawn("small")
    waiting = asyncio.create_task(queue.client.wait(other, 10))
    await queue.client.cancel_task(other)
    assert (await waiting)["status"] == "cancelled"


async def test_waiting_gives_up_after_its_time_and_at_once_for_what_does_not_exist(queue: Bench) -> None:
    task = await queue.client.spawn("small")
    with pytest.raises(TimeoutError):
        await queue.client.wait(task, 0.1)
    with pytest.raises(UnknownTaskError, match="has no task"):
        await queue.client.wait(new_id(), 10)
    with pytest.raises(UnknownTaskError, match="has no workflow"):
        await queue.client.wait_workflow(new_id(), 10)


async def test_waiting_works_while_no_event_reaches_the_client(queue: Bench) -> None:
    task = await queue.client.spawn("small")
    await queue.connection.execute("delete from absurd.audience")  # of listeners of other tests
    waiting = asyncio.create_task(queue.client.wait(task, 10))
    await queue.until(lambda: queue.sql("select count(*) = 1 from absurd.audience"))
    await queue.connection.execute("delete from absurd.audience")  # nothing is told any more
    await queue.complete((await queue.claim())[0])
    assert (await waiting)["status"] == "completed"
    assert await queue.sql('select count(*) from absurd.event where body @> \'[{"status": "completed"}]\'') == 0


# --- workflows ------------------------------------------------------------------------------------------------------
async def workflow_in(queue: Bench, *states: str) -> UUID:
    """Make a workflow whose tasks are in these states."""
    workflow = await queue.client.create_workflow(" ".join(states) or "empty")
    hours = timedelta(hours=1)
    for state in states:
        if state in ("blocked", "skipped"):
            parent = await queue.client.spawn("small", run_at=datetime.now(UTC) + hours)
            task = await queue.client.spawn("small", depends_on=[parent], workflow_id=workflow)
            if state == "skipped":
                await queue.client.cancel_task(parent)
            continue
        at = datetime.now(UTC) + hours if state == "scheduled" else None
        task = await queue.client.spawn(
            "small", workflow_id=workflow, priority=-9 if state == "pending" else 9, max_retries=1, run_at=at
        )
        if state in ("claimed", "completed", "failed", "retrying"):
            [claimed] = await queue.claim()
            assert claimed["task_id"] == task
            if state == "completed":
                await queue.complete(claimed)
            elif state != "claimed":
                await queue.fail(claimed, retryable=state == "retrying")
        elif state == "cancelled":
            await queue.client.cancel_task(task)
    return workflow


WORKFLOWS = [
    ((), "pending"),
    (("pending", "blocked"), "pending"),
    (("scheduled",), "pending"),
    (("claimed", "blocked"), "running"),
    (("completed", "pending"), "running"),
    (("retrying",), "running"),
    (("failed", "skipped", "blocked"), "running"),
    (("completed", "completed"), "completed"),
    (("completed", "failed", "skipped"), "failed"),
    (("cancelled", "skipped"), "cancelled"),
    (("failed", "cancelled"), "failed"),
]


async def test_the_status_of_a_workflow_follows_from_its_tasks_and_is_nowhere_stored(queue: Bench) -> None:
    """In the earlier queue a workflow stayed pending for ever: nothing counted the ends of its tasks."""
    made = {await workflow_in(queue, *states): status for states, status in WORKFLOWS}
    listed = await queue.client.list_workflows()
    assert [row["workflow_id"] for row in listed] == [str(workflow) for workflow in reversed(made)]
    assert {row["workflow_id"]: row["status"] for row in listed} == {str(key): value for key, value in made.items()}
    for workflow, status in made.items():
        found = await queue.client.get_workflow(workflow)
        assert found is not None
        assert found["status"] == status
    columns = await queue.connection.fetch(
        "select attname from pg_attribute where attrelid = 'absurd.workflow'::regclass and attnum > 0"
    )
    assert "status" not in {row["attname"] for row in columns}


async def test_the_newest_workflow_is_listed_first_whatever_its_id(queue: Bench) -> None:
    """Observations name their workflows by what they are of: those ids have no order."""
    made = [UUID(int=number) for number in (5, 9, 1, 7)]
    for workflow in made:
        await queue.client.spawn_workflow("observation", [TaskSpec("flagging")], workflow_id=workflow)
    first = await queue.client.list_workflows(limit=3)
    rest = await queue.client.list_workflows(limit=3, after=UUID(first[-1]["workflow_id"]))
    assert [UUID(row["workflow_id"]) for row in (*first, *rest)] == made[::-1]


async def test_workflows_are_listed_by_status_and_page_with_their_counts(queue: Bench) -> None:
    for _ in range(3):
        await workflow_in(queue, "completed", "claimed", "blocked")
        await workflow_in(queue, "failed", "skipped")
    first = await queue.client.list_workflows("running", limit=2)
    rest = await queue.client.list_workflows("running", limit=2, after=UUID(first[-1]["workflow_id"]))
    assert [len(first), len(rest)] == [2, 1]
    assert len({row["workflow_id"] for row in first + rest}) == 3
    [row] = rest
    counts = {key: row[key] for key in row if key.endswith("_tasks")}
    assert counts == {
        "total_tasks": 3, "completed_tasks": 1, "failed_tasks": 0, "cancelled_tasks": 0, "skipped_tasks": 0,
        "running_tasks": 1, "retrying_tasks": 0, "blocked_tasks": 1, "pending_tasks": 0,
    }  # fmt: skip
    assert row["started_at"] is not None and row["completed_at"] is None
    ended = (await queue.client.list_workflows("failed", limit=1))[0]
    assert ended["completed_at"] >= ended["started_at"]


async def test_the_dag_of_a_workflow_tells_depth_roots_leaves_and_dependents(queue: Bench) -> None:
    outside = await queue.client.spawn("small")
    a = TaskSpec("a")
    b = TaskSpec("b", depends_on=(a.task_id, outside))
    c = TaskSpec("c", depends_on=(b.task_id,))
    d = TaskSpec("d", depends_on=(a.task_id, Dependency(c.task_id, "done")))
    workflow = await queue.client.spawn_graph("diamond", [d, c, b, a])
    dag = await queue.client.workflow_dag(workflow)
    assert dag is not None
    assert (dag["name"], dag["status"], dag["total_depth"]) == ("diamond", "pending", 3)
    ids = {spec.name: str(spec.task_id) for spec in (a, b, c, d)}
    assert (dag["root_tasks"], dag["leaf_tasks"]) == ([ids["a"]], [ids["d"]])
    nodes = {node["task_name"]: node for node in dag["nodes"]}
    assert [node["task_name"] for node in dag["nodes"]] == ["a", "b", "c", "d"]
    assert {name: node["depth"] for name, node in nodes.items()} == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert sorted(nodes["a"]["dependents"]) == sorted([ids["b"], ids["d"]])
    assert sorted(nodes["b"]["depends_on"]) == sorted([ids["a"], str(outside)])
    assert await queue.client.ready_tasks(workflow) == [a.task_id]
    assert await queue.client.workflow_dag(new_id()) is None


async def test_a_cancelled_workflow_can_be_run_again(queue: Bench) -> None:
    a = TaskSpec("small")
    b = TaskSpec("small", depends_on=(a.task_id,))
    workflow = await queue.client.spawn_graph("w", [a, b])
    assert await queue.client.cancel_workflow(workflow) >= 1
    assert (await queue.client.wait_workflow(workflow, 5))["status"] == "cancelled"
    assert await queue.client.cancel_workflow(workflow) == 0
    assert await queue.client.retry_workflow(workflow) >= 1
    assert await queue.states(a.task_id, b.task_id) == ["pending", "blocked"]
    async with queue.worker():
        assert (await queue.client.wait_workflow(workflow, 10))["status"] == "completed"


async def test_a_thousand_tasks_with_three_thousand_dependencies_are_two_statements(queue: Bench) -> None:
    specs: list[TaskSpec] = []
    for n in range(1000):
        specs.append(TaskSpec("small", depends_on=[specs[p].task_id for p in {n - 1, n // 2, n // 3} if 0 <= p < n]))
    sent = []
    fetch = queue.client._database.fetch

    class Counting:
        async def fetch(self, statement: str, *args: Any) -> Any:
            sent.append(statement)
            return await fetch(statement, *args)

    client = AbsurdClient(queue.client.config, Counting())  # type: ignore[arg-type]
    workflow = await client.spawn_graph("big", specs)
    assert len(sent) <= 2
    found = await queue.client.workflow_dag(workflow)
    assert found is not None
    assert (len(found["nodes"]), found["total_depth"]) == (1000, 999)


# --- chains ---------------------------------------------------------------------------------------------------------
async def test_a_chain_advances_to_its_end_and_each_step_is_offered_what_the_earlier_ones_gave(queue: Bench) -> None:
    """In the earlier queue no chain ever advanced: the worker was given an executor that knew nothing of chains."""
    spawned = {}
    for name in (*chains.CHAINS, *chains.ALIASES):
        last = chains.find_chain(name).task_names[-1]
        spawned[name] = await queue.client.spawn_chain(name, {"a": 1}, step_params={last: {"last": True}})
    every_step = {step for chain in chains.CHAINS.values() for step in chain.task_names}
    async with queue.worker(dict.fromkeys(every_step, gather)):
        ended = {name: await queue.client.wait_workflow(workflow, 20) for name, workflow in spawned.items()}
    for name, workflow in ended.items():
        names = chains.find_chain(name).task_names
        assert (workflow["status"], workflow["name"]) == ("completed", chains.find_chain(name).name)
        assert workflow["metadata"] == {"chain": workflow["name"]}
        assert tuple(task["task_name"] for task in workflow["tasks"]) == names
        for place, task in enumerate(workflow["tasks"]):
            assert set(task["result"]["parents"]) == set(names[:place])
            assert task["params"] == {"a": 1} | ({"last": True} if place == len(names) - 1 else {})
        starts = [task["started_at"] for task in workflow["tasks"]]
        assert starts == sorted(starts)


async def test_the_steps_after_one_that_failed_are_skipped_and_those_that_take_any_end_run(queue: Bench) -> None:
    steps = ["small", chains.Step("fail", {"permanent": True}), "small", chains.Step("gather", policy="done")]
    workflow = await queue.client.spawn_chain(steps)
    async with queue.worker():
        ended = await queue.client.wait_workflow(workflow, 10)
    assert [task["status"] for task in ended["tasks"]] == ["completed", "failed", "skipped", "completed"]
    assert ended["status"] == "failed"


async def test_a_chain_with_a_key_is_spawned_once(queue: Bench) -> None:
    for _ in range(2):
        await queue.client.spawn_chain("quick-imaging", idempotency_key="night 1")
    assert len(await queue.client.list_tasks()) == 3


# --- queues ---------------------------------------------------------------------------------------------------------
async def test_a_paused_queue_gives_nothing_until_it_is_resumed(queue: Bench) -> None:
    task = await queue.client.spawn("small")
    await queue.client.pause_queue(QUEUE)
    async with queue.worker():
        await asyncio.sleep(0.3)
        assert await queue.states(task) == ["pending"]
        await queue.client.resume_queue(QUEUE)
        await queue.client.wait(task, 10)


async def test_a_limited_queue_starts_what_its_bucket_holds(queue: Bench) -> None:
    await queue.client.set_queue_limits(QUEUE, rate_per_s=0.001, burst=2)
    await queue.client.spawn_many([TaskSpec("small") for _ in range(5)])
    async with queue.worker():
        await queue.until(lambda: queue.sql("select count(*) = 2 from absurd.task where outcome is not null"))
        await asyncio.sleep(0.2)
        assert await queue.sql("select count(*) from absurd.ready") == 3
        await queue.client.set_queue_limits(QUEUE)
        await queue.until(lambda: queue.sql("select count(*) = 5 from absurd.task where outcome is not null"))


async def test_only_so_many_tasks_of_a_key_run_at_once_as_the_limit_says(queue: Bench) -> None:
    await queue.client.set_concurrency(QUEUE, "field 3C48", 2)
    await queue.client.spawn_many([TaskSpec("small", concurrency_key="field 3C48") for _ in range(5)])
    assert len(await queue.claim(limit=9)) == 2
    await queue.client.set_concurrency(QUEUE, "field 3C48", 4)
    assert len(await queue.claim(limit=9)) == 2


async def test_a_worker_that_is_to_be_drained_is_told_so_with_its_next_beat(queue: Bench) -> None:
    await queue.claim(worker="here-1")
    found = await queue.client.get_worker("here-1")
    assert found is not None and found["pid"] == 1
    assert await queue.client.get_worker("nobody") is None
    assert not await queue.client.drain_worker("nobody")
    assert await queue.client.drain_worker("here-1")
    verdicts = await queue.connection.fetch("select verdict from absurd.heartbeat('here-1', '{}', 10)")
    assert [row["verdict"] for row in verdicts] == ["drain"]


async def test_ended_tasks_are_pruned_by_age_queue_and_state_and_waiting_ones_never(queue: Bench) -> None:
    old = new_id().int - (10 * 86400 * 1000 << 80)  # ids of ten days ago
    specs = [TaskSpec("small", task_id=UUID(int=old + n), queue=name) for n, name in enumerate((QUEUE, QUEUE, "other"))]
    done, failed, other = [one.task_id for one in await queue.client.spawn_many(specs)]
    for row in await queue.claim(limit=2):
        await (queue.complete(row) if row["task_id"] == done else queue.fail(row))
    await queue.client.cancel_task(other)
    waiting = await queue.client.spawn("small")
    assert await queue.client.prune_tasks() == 0, "they are younger than a week"
    await queue.connection.execute("update absurd.task set finished_at = finished_at - interval '8 days'")
    assert await queue.client.prune_tasks(queue_name="other") == 1
    assert await queue.client.prune_tasks(statuses=["completed"]) == 1
    assert await queue.states(done, failed, other, waiting) == ["unknown", "failed", "unknown", "pending"]
    assert await queue.client.prune_tasks() == 1
    assert await queue.states(waiting) == ["pending"]
