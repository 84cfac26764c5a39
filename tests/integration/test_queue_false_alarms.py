"""A worker that was given up and lives keeps what it claims afterwards; no task pays for the mistake twice."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from fixtures.queue_bench import Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]

REAP = "select absurd.reap(10, 2)"


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


async def given_up_by_its_lock(queue: Bench) -> None:
    """Let the worker ``w`` claim a task, lose its lock for a second, and be given up."""
    await queue.client.spawn("small")
    await queue.claim()
    async with queue.session() as session:
        await session.execute("select absurd.hold_lock('w')")
    await queue.until_no_lock_is_held()
    await queue.sql(REAP)
    await asyncio.sleep(0.8)
    assert await queue.sql(REAP) == 1, "what it held is taken over"
    assert await queue.sql("select state from absurd.worker") == "crashed"


async def claim_without_registering(queue: Bench) -> int:
    """Claim as a worker does that has not heard yet that it was given up; return the claim."""
    return int(await queue.sql("select claim from absurd.claim_task('dsa110-pipeline', 'w', 1)"))


async def test_what_a_worker_claims_after_it_was_given_up_by_mistake_stays_with_it(queue: Bench) -> None:
    await given_up_by_its_lock(queue)
    claim = await claim_without_registering(queue)
    assert await queue.sql(REAP) == 0
    assert await queue.sql("select count(*) from absurd.attempt") == 1, "one false alarm counts once"
    rows = await queue.connection.fetch("select verdict from absurd.heartbeat('w', $1::bigint[], 10)", [claim])
    assert [row["verdict"] for row in rows] == ["unknown"]
    await queue.sql("select absurd.register_worker('w', 'here', 1, array['dsa110-pipeline'], 1)")
    assert await queue.sql(REAP) == 0
    assert await queue.sql("select crashes from absurd.lease where claim = $1", claim) == 1


async def test_a_worker_that_was_given_up_and_stays_silent_loses_what_it_claimed_afterwards(queue: Bench) -> None:
    await given_up_by_its_lock(queue)
    await claim_without_registering(queue)
    await queue.connection.execute("update absurd.worker set beat_at = beat_at - interval '11 s'")
    assert await queue.sql(REAP) == 1


async def test_a_reported_crash_takes_everything_at_once(queue: Bench) -> None:
    """Also what was claimed after its lock had been seen free, but before anybody had given it up."""
    await queue.client.spawn("small")
    await queue.claim()
    await queue.connection.execute("update absurd.worker set unlocked_seen = absurd.clock() - interval '0.3 s'")
    await queue.sql("select absurd.leave('w', 'crashed')")
    assert await queue.sql(REAP) == 1
