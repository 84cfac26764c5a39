"""The worker: runs handlers, ends what must end, and stops without harm."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dsa110_contimg.absurd import setup
from dsa110_contimg.absurd.client import TaskSpec
from dsa110_contimg.absurd.worker import AbsurdWorker
from fixtures.queue_bench import QUEUE, Bench, alive, child_path, open_bench, read_pid

GRACE = {"kill_grace_sec": 1.0}

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", child_path()["PYTHONPATH"])
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


async def spawn_child_task(
    queue: Bench, function: str, path: Path, seconds: float = 600.0, **settings: float
) -> TaskSpec:
    """Spawn a task that runs one of the functions for children."""
    options = {"path": str(path), "seconds": seconds}
    spec = TaskSpec("child", {"function": function, "options": options}, **settings)  # type: ignore[arg-type]
    await queue.client.spawn_graph("child", [spec])
    return spec


async def test_a_workflow_runs_through_and_parents_results_reach_the_child(queue: Bench) -> None:
    first = TaskSpec("small", {"n": 7})
    last = TaskSpec("gather", depends_on=(first.task_id,))
    async with queue.worker():
        workflow = await queue.client.spawn_graph("two", [first, last])
        ended = await queue.client.wait_workflow(workflow, 10)
    assert ended["status"] == "completed"
    expected = {"small": {"status": "completed", "result": {"params": {"n": 7}, "attempt": 1}, "error": None}}
    assert ended["tasks"][1]["result"] == {"parents": expected}


async def test_a_task_that_fails_at_first_is_retried_to_its_success(queue: Bench) -> None:
    spec = TaskSpec("fail", {"times": 2}, max_retries=2, backoff_base_sec=0.01)
    async with queue.worker():
        await queue.client.spawn_graph("flaky", [spec])
        await queue.until_state(spec.task_id, "completed")
    reasons = await queue.connection.fetch("select error->>'message' from absurd.attempt order by attempt")
    assert [row[0] for row in reasons] == ["attempt 1", "attempt 2"]


async def test_an_exception_that_says_it_is_not_retryable_fails_the_task_at_once(queue: Bench) -> None:
    async with queue.worker():
        task = await queue.client.spawn("fail", {"permanent": True}, max_retries=5)
        await queue.until_state(task, "failed")
    row = await queue.client.get_task(task)
    assert row is not None
    assert (row["error"], row["attempt"]) == ("Permanent: never again", 1)
    assert "in fail" in row["error_detail"]["traceback"]


async def test_a_child_runs_the_stage_and_its_result_is_the_tasks(queue: Bench, tmp_path: Path) -> None:
    async with queue.worker():
        spec = await spawn_child_task(queue, "write_then_sleep", tmp_path / "pid", 0.0)
        await queue.until_state(spec.task_id, "completed")
    row = await queue.client.get_task(spec.task_id)
    assert row is not None and row["result"] == {"slept": 0.0}


async def test_a_child_killed_from_outside_is_a_failed_attempt_with_the_signal_in_its_reason(
    queue: Bench, tmp_path: Path
) -> None:
    async with queue.worker():
        spec = await spawn_child_task(queue, "write_then_sleep", tmp_path / "pid")
        os.kill(await read_pid(tmp_path / "pid"), 9)
        await queue.until_state(spec.task_id, "failed")
    row = await queue.client.get_task(spec.task_id)
    assert row is not None and "SIGKILL" in row["error"]


async def test_the_timeout_kills_a_child_that_holds_the_gil(queue: Bench, tmp_path: Path) -> None:
    async with queue.worker(**GRACE):
        spec = await spawn_child_task(queue, "hold_the_gil", tmp_path / "pid", timeout_sec=4.0)
        pid = await read_pid(tmp_path / "pid")
        await queue.until_state(spec.task_id, "failed")
        assert not alive(pid)
    row = await queue.client.get_task(spec.task_id)
    assert row is not None and row["error_detail"]["reason"] == "timeout"
    assert row["error"] == "TimeoutError: the attempt took longer than its 4 s and was ended"


async def test_cancel_kills_a_running_child_within_its_grace_and_a_second(queue: Bench, tmp_path: Path) -> None:
    async with queue.worker(**GRACE):
        spec = await spawn_child_task(queue, "hold_the_gil", tmp_path / "pid")
        pid = await read_pid(tmp_path / "pid")
        assert await queue.client.cancel_task(spec.task_id)
        assert await queue.until_state(spec.task_id, "cancelled") < GRACE["kill_grace_sec"] + 1.0
        assert not alive(pid)


async def test_a_cancel_whose_notification_is_lost_arrives_with_the_next_beat(queue: Bench, tmp_path: Path) -> None:
    async with queue.worker(heartbeat_interval_sec=0.3, **GRACE):
        spec = await spawn_child_task(queue, "write_then_sleep", tmp_path / "pid")
        await read_pid(tmp_path / "pid")
        await queue.connection.execute("update absurd.lease set cancel = true")
        await queue.until_state(spec.task_id, "cancelled", 3)


async def test_no_grandchild_outlives_its_task(queue: Bench, tmp_path: Path) -> None:
    async with queue.worker(**GRACE):
        spec = await spawn_child_task(queue, "start_a_grandchild", tmp_path / "pid", 0.2)
        grandchild = await read_pid(tmp_path / "pid")
        await queue.until_state(spec.task_id, "completed")

        async def gone() -> bool:
            return not alive(grandchild)

        await queue.until(gone, 3)


async def test_a_soft_stop_gives_a_running_task_back_without_an_attempt(queue: Bench, tmp_path: Path) -> None:
    async with queue.worker(stop_grace_sec=0.1, **GRACE) as worker:
        spec = await spawn_child_task(queue, "write_then_sleep", tmp_path / "pid")
        pid = await read_pid(tmp_path / "pid")
        worker.request_stop()
        await queue.until_state(spec.task_id, "pending", 5)
    assert not alive(pid)
    assert await queue.sql("select count(*) from absurd.lease") == 0
    [claimed] = await queue.claim()
    assert claimed["attempt"] == 1
    states = {row["worker_id"]: row["state"] for row in await queue.client.list_workers()}
    assert states[worker.worker_id] == "stopped"


async def test_a_soft_stop_lets_a_task_that_is_nearly_done_finish(queue: Bench) -> None:
    async with queue.worker(stop_grace_sec=5.0) as worker:
        task = await queue.client.spawn("small", {"sleep_s": 0.5})
        await queue.until_state(task, "claimed")
        worker.request_stop()
        await queue.until_state(task, "completed", 3)


async def test_a_worker_runs_as_many_tasks_at_once_as_it_is_told(queue: Bench) -> None:
    for _ in range(5):
        await queue.client.spawn("small", {"sleep_s": 0.4})
    most = 0
    async with queue.worker(worker_concurrency=2):

        async def drained() -> bool:
            nonlocal most
            counts = await queue.client.get_queue_stats(QUEUE)
            most = max(most, counts["claimed"])
            return bool(counts["completed"] == 5)

        await queue.until(drained)
    assert most == 2


async def test_a_worker_finds_work_by_polling_when_every_notification_is_lost(queue: Bench) -> None:
    await queue.connection.execute(
        """create or replace function absurd.wake(p_queues text[]) returns void language sql
           set search_path = pg_catalog, absurd, pg_temp as $$ select $$"""
    )
    async with queue.worker(worker_poll_interval_sec=0.5):
        await queue.until(lambda: queue.sql("select count(*) > 0 from absurd.worker where locked_at is not null"))
        task = await queue.client.spawn("small")
        assert await queue.until_state(task, "completed") < 0.5 * 1.2 + 0.5
    await setup.init(queue.url)  # puts the function back


async def test_an_idle_worker_is_woken_by_the_spawn_long_before_it_polls(queue: Bench) -> None:
    async with queue.worker(worker_poll_interval_sec=60.0):
        await queue.until(lambda: queue.sql("select count(*) > 0 from absurd.worker where locked_at is not null"))
        assert await queue.until_state(await queue.client.spawn("small"), "completed") < 2.0


async def test_the_worker_works_on_after_the_server_cut_all_its_connections(queue: Bench) -> None:
    async with queue.worker() as worker:
        running = await queue.client.spawn("small", {"sleep_s": 1.0})
        await queue.until_state(running, "claimed")
        cut = await queue.sql(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like $1",
            f"absurd%{worker.worker_id}",
        )
        assert cut >= 4
        await queue.until_state(running, "completed")
        task = await queue.client.spawn("small")
        await queue.until_state(task, "completed")
    row = await queue.client.get_task(running)
    assert row is not None and row["attempt"] == 1, "a cut connection is no lost worker"


async def test_progress_reaches_listeners_and_the_task(queue: Bench, tmp_path: Path) -> None:
    seen = []
    listening = asyncio.Event()

    async def follow() -> None:
        async for event in queue.client.listen():
            listening.set()
            seen.append((event["type"], event.get("status"), event.get("progress")))
            if event.get("status") == "completed":
                return

    async with queue.worker():
        following = asyncio.create_task(follow())
        await listening.wait()
        await spawn_child_task(queue, "write_then_sleep", tmp_path / "pid", 0.0)
        await asyncio.wait_for(following, 10)
    assert seen == [
        ("listening", None, None),
        ("task_update", "pending", None),
        ("task_update", "claimed", None),
        ("task_update", "claimed", 1.0),
        ("task_update", "completed", None),
    ]


async def test_a_result_that_json_cannot_carry_fails_the_task_for_good(queue: Bench) -> None:
    async def strange(task: object, context: object) -> dict[str, object]:
        return {"what": object()}

    worker = AbsurdWorker(queue.client.config, {"strange": strange})
    running = asyncio.create_task(worker.run())
    task = await queue.client.spawn("strange", max_retries=3)
    await queue.until_state(task, "failed")
    worker.request_stop()
    await running
    row = await queue.client.get_task(task)
    assert row is not None and "object has no JSON form" in row["error"]


async def test_a_result_that_the_database_refuses_fails_its_own_task_and_harms_no_other(queue: Bench) -> None:
    await queue.connection.execute(
        "alter table absurd.task add constraint no_bad check (not coalesce(result ? 'bad', false))"
    )
    try:
        tasks = [await queue.client.spawn("echo", {"bad" if n == 2 else "good": n}) for n in range(5)]
        async with queue.worker(worker_concurrency=5):
            for n, task in enumerate(tasks):
                await queue.until_state(task, "failed" if n == 2 else "completed")
        row = await queue.client.get_task(tasks[2])
        assert row is not None and row["error"].startswith("CheckViolationError: ")
    finally:
        await queue.connection.execute("alter table absurd.task drop constraint no_bad")


async def test_results_wait_for_a_database_that_does_not_know_its_functions_for_a_moment(queue: Bench) -> None:
    """As in the middle of a schema that somebody has set up wrongly: nothing of it is the result's fault."""
    async with queue.worker(worker_poll_interval_sec=0.2, heartbeat_interval_sec=0.3):
        task = await queue.client.spawn("small", {"sleep_s": 0.5})
        await queue.until_state(task, "claimed")
        await queue.connection.execute("alter schema absurd rename to hidden")
        await asyncio.sleep(1.0)
        await queue.connection.execute("alter schema hidden rename to absurd")
        await queue.until_state(task, "completed")
        seen = await queue.sql("select beat_at from absurd.worker")
        await queue.until(lambda: queue.sql("select beat_at > $1 from absurd.worker", seen))


async def test_a_handler_that_blocks_the_event_loop_does_not_cost_the_lease(queue: Bench) -> None:
    async def busy(task: object, context: object) -> dict[str, object]:
        ends = asyncio.get_running_loop().time() + 4.0
        while asyncio.get_running_loop().time() < ends:
            sum(range(1000))
        return {}

    worker = AbsurdWorker(replace(queue.client.config, lease_sec=2.0, heartbeat_interval_sec=0.2), {"busy": busy})
    running = asyncio.create_task(worker.run())
    task = await queue.client.spawn("busy")
    await queue.until_state(task, "completed")
    worker.request_stop()
    await running
    row = await queue.client.get_task(task)
    assert row is not None and row["attempt"] == 1
