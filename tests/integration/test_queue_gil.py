"""A handler that holds the interpreter's lock far beyond the lease keeps its task, and its worker stays alive."""

import ctypes
import time
from collections.abc import AsyncIterator

import pytest

from fixtures.queue_bench import Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]

LEASE = {"ABSURD_LEASE": "1", "ABSURD_HEARTBEAT_INTERVAL": "0.3"}


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


async def run_beside_a_reaper(queue: Bench, seconds: float) -> None:
    """Run a task that holds the lock in one worker, with another that would take it over."""
    with queue.worker_process(**LEASE):
        task = await queue.client.spawn("hold_the_gil", {"seconds": seconds})
        await queue.until_state(task, "claimed")
        with queue.worker_process(**LEASE):
            await queue.until_state(task, "completed", seconds + 15.0)
            given_up = await queue.sql("select count(*) from absurd.worker where state = 'crashed'")
    row = await queue.client.get_task(task)
    assert row is not None
    assert row["attempt"] == 1
    assert await queue.sql("select count(*) from absurd.attempt") == 0, "the task was taken over from a living worker"
    assert given_up == 0


@pytest.mark.slow
async def test_a_task_that_holds_the_gil_for_four_leases_is_not_taken_over(queue: Bench) -> None:
    await run_beside_a_reaper(queue, 4.0)


@pytest.mark.slow
async def test_a_task_that_holds_the_gil_for_thirty_leases_is_not_taken_over(queue: Bench) -> None:
    await run_beside_a_reaper(queue, 30.0)


def test_the_call_that_the_tests_rely_on_does_hold_the_gil() -> None:
    import threading

    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.01)

    thread = threading.Thread(target=tick)
    thread.start()
    ctypes.PyDLL(None).usleep(ctypes.c_uint(500_000))
    done.set()
    thread.join()
    assert max(b - a for a, b in zip(ticks, [*ticks[1:], time.monotonic()], strict=True)) > 0.4
