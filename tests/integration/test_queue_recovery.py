"""What happens when a worker dies, freezes, or cannot reach the database."""

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fixtures.queue_bench import Bench, alive, beating_of, kill_like_a_power_cut, open_bench, read_pid

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


async def claimed_by_process(queue: Bench, path: Path, function: str = "write_then_sleep") -> int:
    """Let the worker process start a child that sleeps; return the child's process id."""
    await queue.client.spawn("child", {"function": function, "options": {"path": str(path), "seconds": 600}})
    return await read_pid(path)


async def until_attempt(queue: Bench, attempt: int, limit_s: float = 15.0) -> float:
    """Wait until the one task is in its n-th attempt."""
    return await queue.until(
        lambda: queue.sql("select count(*) > 0 from absurd.lease where attempt = $1", attempt), limit_s
    )


async def two_workers(queue: Bench) -> None:
    """Wait until two workers hold their locks."""
    await queue.until(lambda: queue.sql("select count(*) = 2 from absurd.worker where locked_at is not null"))


@pytest.mark.parametrize("how", ["the worker alone", "with its beating process"])
async def test_the_task_of_a_killed_worker_runs_again_within_two_seconds(
    queue: Bench, tmp_path: Path, how: str
) -> None:
    """Alone: its beating process reports the crash. Together, as when the machine dies: its lock is free."""
    with queue.worker_process() as first:
        child = await claimed_by_process(queue, tmp_path / "pid")
        with queue.worker_process():
            await two_workers(queue)
            if how == "the worker alone":
                await queue.connection.execute("update absurd.worker set locked_at = null")  # its lock says nothing
                first.kill()
            else:
                kill_like_a_power_cut(first)
            took_s = await until_attempt(queue, 2)
    print(f"recovered after {took_s:.2f} s")
    assert took_s <= 2.0
    assert not alive(child), "the child of a killed worker runs on"
    assert await queue.sql("select reason from absurd.attempt") == "crashed"


async def test_what_a_killed_workers_child_had_started_dies_too(queue: Bench, tmp_path: Path) -> None:
    with queue.worker_process() as worker:
        grandchild = await claimed_by_process(queue, tmp_path / "pid", "start_a_grandchild")
        assert alive(grandchild)
        worker.kill()

        await queue.until(lambda: gone(grandchild), 3)


async def test_by_the_lease_alone_the_task_runs_again_when_the_lease_is_over(queue: Bench, tmp_path: Path) -> None:
    """As behind a connection pooler, where a session's lock says nothing: here with a lease of 3 s instead of 10 s."""
    lease = {"ABSURD_LEASE": "3", "ABSURD_HEARTBEAT_INTERVAL": "1"}
    with queue.worker_process(**lease) as first:
        await claimed_by_process(queue, tmp_path / "pid")
        with queue.worker_process(**lease):
            await two_workers(queue)
            await queue.connection.execute("update absurd.worker set locked_at = null")
            kill_like_a_power_cut(first)
            took_s = await until_attempt(queue, 2)
    # The lease counts from the last beat, at most 1 s before the kill; the reaper looks every 0.5 s.
    assert 1.5 <= took_s <= 3.0 + 1.0


async def test_a_worker_frozen_past_its_lease_loses_its_task_and_its_child_and_comes_back(
    queue: Bench, tmp_path: Path
) -> None:
    lease = {"ABSURD_LEASE": "1.5", "ABSURD_HEARTBEAT_INTERVAL": "0.5"}
    with queue.worker_process(**lease) as first:
        child = await claimed_by_process(queue, tmp_path / "pid")
        stale = await queue.sql("select claim from absurd.lease")
        with queue.worker_process(**lease):
            first.send_signal(signal.SIGSTOP)
            await until_attempt(queue, 2, 6)
            await queue.until(lambda: gone(child), 3)  # its beating process sees to that
            first.send_signal(signal.SIGCONT)
            assert await queue.sql("select count(*) from absurd.lease where attempt = 2 and claim > $1", stale) == 1
            await queue.until(lambda: queue.sql(  # the frozen worker is back in service
                "select count(*) = 2 from absurd.worker where state = 'active' and locked_at is not null"
            ))  # fmt: skip


async def test_a_worker_whose_beating_process_hangs_gives_its_tasks_up_when_the_lease_is_over(
    queue: Bench, tmp_path: Path
) -> None:
    lease = {"ABSURD_LEASE": "1.5", "ABSURD_HEARTBEAT_INTERVAL": "0.5", "ABSURD_KILL_GRACE": "1"}
    with queue.worker_process(**lease) as first:
        child = await claimed_by_process(queue, tmp_path / "pid")
        beating = beating_of(first)
        beating.suspend()
        try:
            await queue.until(lambda: gone(child), 4)
            assert alive(first.pid)
        finally:
            beating.resume()


async def test_a_beating_process_that_dies_is_replaced_before_anybody_misses_it(queue: Bench, tmp_path: Path) -> None:
    with queue.worker_process() as first:
        child = await claimed_by_process(queue, tmp_path / "pid")
        with queue.worker_process():
            await two_workers(queue)
            old = beating_of(first)
            old.kill()
            await asyncio.sleep(2.0)  # longer than a free lock or an old beat would be forgiven
            assert beating_of(first).pid != old.pid
            assert alive(child)
            assert await queue.sql("select attempt from absurd.lease") == 1
            first.kill()
            await queue.until(lambda: gone(child), 2)  # the new one knows of the children of before


async def gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    return not alive(pid)


async def test_a_task_that_kills_its_worker_ends_among_the_dead_letters(queue: Bench) -> None:
    task = await queue.client.spawn("crash", max_retries=10)
    for _ in range(2):
        with queue.worker_process() as worker:
            await asyncio.to_thread(worker.wait, 10)
    with queue.worker_process():
        await queue.until_state(task, "failed", 5)
    assert await queue.sql("select reason from absurd.dead where task_id = $1", task) == "crashed"


async def test_sigterm_ends_a_worker_process_cleanly_and_soon(queue: Bench, tmp_path: Path) -> None:
    with queue.worker_process(ABSURD_STOP_GRACE="0.2", ABSURD_KILL_GRACE="1") as worker:
        child = await claimed_by_process(queue, tmp_path / "pid")
        asked_s = time.monotonic()
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 10) == 0
        assert time.monotonic() - asked_s < 4.0
    assert not alive(child)
    assert await queue.sql("select attempt from absurd.ready") == 0, "a soft stop costs no attempt"


def hears_sigterm(pid: int) -> bool:
    """Tell whether a process has a handler for SIGTERM."""
    [caught] = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


async def test_a_worker_waits_for_a_server_that_is_not_up_yet(queue: Bench) -> None:
    with queue.worker_process(ABSURD_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none") as worker:

        async def is_up() -> bool:
            return hears_sigterm(worker.pid)

        await queue.until(is_up)
        with pytest.raises(subprocess.TimeoutExpired):
            await asyncio.to_thread(worker.wait, 1.0)
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 10) == 0


async def test_a_restart_of_the_server_makes_no_living_worker_look_dead(queue: Bench) -> None:
    """After a restart no lock of before is held, but a worker that beats is not given up for that."""
    await queue.sql("select absurd.register_worker('w', 'here', 1, array['q'], 1)")
    await queue.connection.execute(
        "update absurd.worker set locked_at = pg_postmaster_start_time() - interval '1 s', beat_at = absurd.clock()"
    )
    for _ in range(2):
        await queue.sql("select absurd.reap(10, 2)")
        await asyncio.sleep(0.8)
    assert await queue.sql("select state from absurd.worker") == "active"


async def test_only_a_lock_that_stays_free_gives_a_worker_up(queue: Bench) -> None:
    await queue.sql("select absurd.register_worker('w', 'here', 1, array['q'], 1)")
    async with queue.session() as session:
        await session.execute("select absurd.hold_lock('w')")
        await queue.sql("select absurd.reap(10, 2)")
        assert await queue.sql("select unlocked_seen is null from absurd.worker")
    await queue.until_no_lock_is_held()
    await queue.sql("select absurd.reap(10, 2)")
    assert await queue.sql("select state from absurd.worker") == "active", "one look is not enough"
    async with queue.session() as session:
        await session.execute("select absurd.hold_lock('w')")  # connected again
        await asyncio.sleep(0.8)
        await queue.sql("select absurd.reap(10, 2)")
        assert await queue.sql("select state from absurd.worker") == "active"
    await queue.until_no_lock_is_held()
    await queue.sql("select absurd.reap(10, 2)")
    await asyncio.sleep(0.8)
    await queue.sql("select absurd.reap(10, 2)")
    assert await queue.sql("select state from absurd.worker") == "crashed"


def test_the_test_for_a_living_process_knows_a_dead_one() -> None:
    process = subprocess.Popen(["sleep", "60"])
    assert alive(process.pid)
    os.kill(process.pid, 9)
    time.sleep(0.1)
    assert not alive(process.pid)
    process.wait()
