"""The model can fail: a queue from which one condition was taken out disagrees with it soon.

Those that hide in an interleaving of two sessions are in ``test_interleavings.py``.
"""

import pytest

from dsa110_contimg.absurd.connection import open_connection
from model.planting import Bug, planted
from model.twin import Twin, Walk, walk

pytest_plugins = ["fixtures.queue_database"]


#: Found within two seconds; the others are left to the long run.
QUICK = {
    "a completion is matched by the task's id only", "a failure is accepted without the fence",
    "a child is released one parent early", "what waits is promoted before its time", "an idempotency key is forgotten",
    "the beat tells nothing of lost claims", "one attempt too many",
}  # fmt: skip

BUGS = [
    Bug("a completion is matched by the task's id only", "complete_claims",
        "g.task_id and l.claim = g.claim", "g.task_id"),
    Bug("a failure is accepted without the fence", "fail_task", "and claim = p_claim", ""),
    Bug("a release is accepted without the fence", "release_task", "and claim = p_claim", ""),
    Bug("progress is accepted without the fence", "report_progress", "and claim = p_claim", ""),
    Bug("a crash is not counted", "end_attempts", "l.crashes + 1)", "l.crashes)"),
    Bug("a child is released one parent early", "settle", "r.remaining <= 0", "r.remaining <= 1"),
    Bug("a failed parent does not break its child", "breaks", "p_outcome <> 'completed'", "p_outcome = 'skipped'"),
    Bug("what waits is promoted before its time", "promote", "where x.run_at <= p_now", "where true"),
    Bug("a permit is kept when an attempt fails", "end_attempts",
        "l.conc_key is not null and v_verdicts[l.ordinality::int] <> 'pending'",
        "l.conc_key is not null and v_verdicts[l.ordinality::int] = 'cancelled'"),
    Bug("permits are handed out without a limit", "hand_out", "c.max_running - c.running as n", "99 as n"),
    Bug("an idempotency key is forgotten", "reserve_keys", "where k.task_id <> n.task_id;", "where false;"),
    Bug("the beat tells nothing of lost claims", "heartbeat",
        "where not exists (select from lease", "where false and not exists (select from lease"),
    Bug("a soft stop costs an attempt", "release_leases", "l.attempt - 1", "l.attempt"),
    Bug("one attempt too many", "end_attempts", ">= t.max_attempts", "> t.max_attempts"),
    Bug("a retried task stays among the dead letters", "retry_tasks",
        "delete from dead where task_id = any(v_all);", ""),
    Bug("a running task that is cancelled is tried again", "end_attempts",
        "when l.cancel then 'cancelled'", "when false then 'cancelled'"),
]  # fmt: skip


async def first_disagreement(twin: Twin) -> Walk | None:
    """Walk until queue and model differ, at most 4 000 steps."""
    for seed in range(10):
        result = await walk(twin, seed, 400)
        if result.error:
            return result
    return None


@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, id=bug.name, marks=() if bug.name in QUICK else pytest.mark.slow) for bug in BUGS],
)
async def test_a_planted_bug_is_found(bug: Bug, queue_database: str) -> None:
    connection = await open_connection(queue_database, "planted")
    twin = Twin(connection)
    try:
        async with planted(connection, bug):
            found = await first_disagreement(twin)
            assert found is not None, "4 000 steps did not find it"
            print(f"seed {found.seed}, step {found.steps}: {found.error}")
        assert (await walk(twin, found.seed, found.steps)).error is None, "the queue without the bug disagrees, too"
    finally:
        await twin.reset()
        connection.terminate()
