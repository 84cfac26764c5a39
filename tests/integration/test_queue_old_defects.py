"""What the earlier queue's workers did wrong, one test for each: see the numbers of its list of defects."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.absurd.client import TaskSpec
from dsa110_contimg.api.config import DatabaseConfig
from dsa110_contimg.api.migrations.migrator import Migrator
from fixtures.queue_bench import QUEUE, Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


async def test_5_the_retries_of_the_task_count_and_not_those_of_the_worker(queue: Bench) -> None:
    few = TaskSpec("fail", max_retries=1, backoff_base_sec=0.01)
    more = TaskSpec("fail", {"times": 3}, max_retries=3, backoff_base_sec=0.01)
    async with queue.worker(max_retries=2):
        await queue.client.spawn_graph("retries", [few, more])
        await queue.until_state(few.task_id, "failed")
        await queue.until_state(more.task_id, "completed")
    attempts = "select count(*) from absurd.attempt where task_id = $1"
    assert (await queue.sql(attempts, few.task_id), await queue.sql(attempts, more.task_id)) == (2, 3)
    assert await queue.sql("select attempts from absurd.dead") == 2, "the dead letters are reached"


async def test_6_a_coroutine_that_takes_too_long_is_ended_and_tried_again(queue: Bench) -> None:
    spec = TaskSpec("small", {"sleep_s": 60.0}, timeout_sec=0.3, max_retries=1, backoff_base_sec=0.01)
    async with queue.worker():
        await queue.client.spawn_graph("slow", [spec])
        await queue.until_state(spec.task_id, "failed", 5)
    reasons = await queue.connection.fetch("select reason, error->>'message' as message from absurd.attempt")
    assert [row["reason"] for row in reasons] == ["timeout", "timeout"]
    assert {row["message"] for row in reasons} == {"the attempt took longer than its 0.3 s and was ended"}


async def test_7_a_worker_says_again_and_again_that_it_lives(queue: Bench) -> None:
    beats: set[Any] = set()

    async def several() -> bool:
        beats.add(await queue.sql("select beat_at from absurd.worker where state = 'active'"))
        return len(beats - {None}) >= 3

    async with queue.worker(lease_sec=1.0, heartbeat_interval_sec=0.1):
        await queue.until(several, 5)


async def test_8_the_result_of_a_worker_that_lost_its_task_is_refused(
    queue: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async with queue.worker(heartbeat_interval_sec=5.0):
        task = await queue.client.spawn("small", {"sleep_s": 0.5, "who": "slow"})
        await queue.until_state(task, "claimed")
        await queue.connection.execute("update absurd.lease set claim = nextval('absurd.claim_number')")  # taken over
        await queue.until(lambda: refused(caplog), 5)
        [fenced] = await queue.connection.fetch("select task_id, claim from absurd.lease")
        assert await queue.complete(fenced, {"who": "the new one"})
    row = await queue.client.get_task(task)
    assert row is not None and row["result"] == {"who": "the new one"}


async def refused(caplog: pytest.LogCaptureFixture) -> bool:
    """Tell whether the worker has been told that it was too late."""
    return "came too late" in caplog.text


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ({"status": "error", "errors": ["no calibrator", "no beam"]}, "ReportedError: no calibrator; no beam"),
        ({"status": "error", "message": "disk full"}, "ReportedError: disk full"),
        ({"status": "error"}, "ReportedError: echo returned an error"),
    ],
)
async def test_10_an_error_that_a_handler_returns_is_a_failed_attempt(
    queue: Bench, returned: Mapping[str, Any], says: str
) -> None:
    async with queue.worker():
        task = await queue.client.spawn("echo", returned)
        await queue.until_state(task, "failed")
    row = await queue.client.get_task(task)
    assert row is not None and row["error"] == says


async def test_11_the_module_runs_the_pipelines_tasks_and_completes_none_that_it_does_not_know(
    queue: Bench, tmp_path: Path
) -> None:
    environment = {
        **os.environ, "ABSURD_ENABLED": "true", "ABSURD_DATABASE_URL": queue.url, "DSA110_STATE_DIR": str(tmp_path),
        "ABSURD_STOP_GRACE": "0.2",
    }  # fmt: skip
    products = DatabaseConfig(backend="sqlite", products_path=tmp_path / "products.sqlite3")
    await asyncio.to_thread(Migrator(products).upgrade)
    unknown = await queue.client.spawn("make-coffee")
    known = await queue.client.spawn("imaging", {"run_id": 7})
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dsa110_contimg.absurd", "--concurrency", "1", env=environment
    )
    try:
        await queue.until_state(known, "failed", 20)
        row = await queue.client.get_task(known)
        assert row is not None and row["error"].startswith("BadParamsError: task imaging: params lacks ")
        assert await queue.states(unknown) == ["pending"]
        assert await queue.sql("select slots from absurd.worker where state = 'active'") == 1
    finally:
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 20) == 0


async def test_12_what_a_worker_in_another_process_does_reaches_who_listens(queue: Bench) -> None:
    seen: list[Any] = []
    listening = asyncio.Event()

    async def listen() -> None:
        async for event in queue.client.listen():
            listening.set()
            seen.append(event.get("status"))
            if event.get("status") == "completed":
                return

    following = asyncio.create_task(listen())
    await listening.wait()
    with queue.worker_process():
        await queue.client.spawn("small")
        await asyncio.wait_for(following, 15)
    assert seen[-3:] == ["pending", "claimed", "completed"]


async def test_a_drained_worker_finishes_what_it_runs_however_long_and_ends(queue: Bench) -> None:
    with queue.worker_process(
        ABSURD_HEARTBEAT_INTERVAL="0.2", ABSURD_STOP_GRACE="0.1", ABSURD_WORKER_CONCURRENCY="1"
    ) as worker:
        running = await queue.client.spawn("small", {"sleep_s": 1.2})
        await queue.until_state(running, "claimed")
        waiting = await queue.client.spawn("small")
        name = await queue.sql("select worker_id from absurd.lease")
        assert await queue.sql("select absurd.drain_worker($1)", name)
        assert await asyncio.to_thread(worker.wait, 10) == 0
    assert await queue.states(running, waiting) == ["completed", "pending"]
    assert await queue.sql("select state from absurd.worker") == "stopped"


async def test_a_paused_queue_hands_nothing_out_until_it_is_resumed(queue: Bench) -> None:
    async with queue.worker(worker_queues=(QUEUE, "other"), worker_poll_interval_sec=0.2):
        await queue.sql("select absurd.pause_queue($1, true)", QUEUE)
        paused = await queue.client.spawn("small")
        other = await queue.client.spawn("small", queue="other")
        await queue.until_state(other, "completed")
        await asyncio.sleep(0.5)
        assert await queue.states(paused) == ["pending"]
        await queue.sql("select absurd.pause_queue($1, false)", QUEUE)
        await queue.until_state(paused, "completed")
