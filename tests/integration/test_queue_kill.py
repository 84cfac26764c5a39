"""The kill test: workers die at random moments, and still every task is completed exactly once."""

import asyncio
import os
import random
import subprocess
import time
from collections.abc import AsyncIterator

import pytest

from dsa110_contimg.absurd.client import TaskSpec
from fixtures.queue_bench import QUEUE, Bench, open_bench

TASKS = 500
WORKERS = 2
KILLS = 20
LIMIT_S = 60.0

#: Every accepted end of a task is written down, by the database itself.
HISTORY = """
create table public.accepted (task_id uuid, outcome text, at timestamptz default clock_timestamp());
create function public.note_end() returns trigger language plpgsql as $$
begin insert into public.accepted values (new.task_id, new.outcome); return new; end $$;
create trigger note_end after update of outcome on absurd.task for each row
when (new.outcome is not null) execute function public.note_end();
"""

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


async def kill_at_random(
    queue: Bench, workers: list["subprocess.Popen[bytes]"], chance: random.Random, environment: dict[str, str]
) -> None:
    """Kill a random worker 20 times, at random moments, and start another in its place at once."""
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.05, 1.1))
        place = chance.randrange(WORKERS)
        workers[place].kill()
        workers[place].wait()
        workers[place] = queue.start_worker_process(**environment)


@pytest.mark.slow
async def test_no_task_is_lost_or_completed_twice_when_workers_are_killed(queue: Bench) -> None:
    seed = int(os.environ.get("DSA110_TEST_SEED", random.randrange(2**32)))
    print(f"DSA110_TEST_SEED={seed}")
    chance = random.Random(seed)
    await queue.connection.execute(HISTORY)
    specs = [TaskSpec("small", {"n": n, "sleep_s": chance.uniform(0.05, 0.3)}) for n in range(TASKS)]
    for later, earlier in zip(specs[1::5], specs[0::5], strict=False):  # every fifth task waits for another
        object.__setattr__(later, "depends_on", (earlier.task_id,))
    started = time.monotonic()
    await queue.client.spawn_graph("kill test", specs)
    environment = {"ABSURD_MAX_CRASHES": "1000", "ABSURD_WORKER_CONCURRENCY": "4"}
    workers = [queue.start_worker_process(**environment) for _ in range(WORKERS)]
    try:
        await kill_at_random(queue, workers, chance, environment)

        async def drained() -> bool:
            counts = await queue.client.get_queue_stats(QUEUE)
            return counts["completed"] + counts["failed"] >= TASKS

        await queue.until(drained, LIMIT_S - (time.monotonic() - started))
        took_s = time.monotonic() - started
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    history = await queue.connection.fetch("select task_id, outcome from accepted")
    assert {row["task_id"] for row in history} == {spec.task_id for spec in specs}, "a task was lost"
    assert len(history) == TASKS, "a task was completed twice"
    assert {row["outcome"] for row in history} == {"completed"}
    taken_over = await queue.sql("select count(*) from absurd.attempt where reason = 'crashed'")
    assert taken_over > 0, "no kill hit a running task: this run proves nothing"
    print(f"{TASKS} tasks, {KILLS} kills, {taken_over} attempts lost with their worker, {took_s:.1f} s")
