"""Each transition of a task, and that nobody without the current claim can make one."""

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest
from uuid6 import uuid7

from dsa110_contimg.absurd.client import TaskSpec
from fixtures.queue_bench import QUEUE, Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database) as bench:
        yield bench


async def spawn_one(queue: Bench, max_retries: int = 3, **settings: float) -> UUID:
    """Spawn a task without back-off."""
    spec = TaskSpec("small", {"n": 1}, max_retries=max_retries, backoff_base_sec=1e-6, **settings)  # type: ignore[arg-type]
    await queue.client.spawn_graph("one", [spec])
    return spec.task_id


async def claim_again(queue: Bench) -> list[asyncpg.Record]:
    """Let the back-off end and claim."""
    await queue.sql("select absurd.reap(10, 2)")
    return await queue.claim()


async def test_a_task_is_pending_then_claimed_then_completed_with_its_result(queue: Bench) -> None:
    task = await queue.client.spawn("small", {"ms_path": "/data/a.ms"}, priority=3)
    assert await queue.states(task) == ["pending"]
    [claimed] = await queue.claim()
    assert claimed["params"] == {"ms_path": "/data/a.ms"}
    assert await queue.states(task) == ["claimed"]
    assert await queue.complete(claimed, {"noise_jy": 1e-4})
    row = await queue.client.get_task(task)
    assert row is not None
    assert (row["status"], row["result"], row["priority"], row["retry_count"]) == (
        "completed",
        {"noise_jy": 1e-4},
        3,
        1,
    )
    assert row["created_at"] <= row["claimed_at"] <= row["completed_at"]


async def test_the_largest_priority_runs_first_and_equal_ones_in_the_order_of_spawning(queue: Bench) -> None:
    tasks = [await queue.client.spawn("small", {}, priority=priority) for priority in (0, 5, 0, 9)]
    claimed = [row["task_id"] for _ in tasks for row in await queue.claim(limit=1)]
    assert claimed == [tasks[3], tasks[1], tasks[0], tasks[2]]


async def test_two_sessions_never_claim_the_same_task(queue: Bench) -> None:
    await queue.client.spawn("small")
    async with queue.session() as other:
        await other.execute("begin")
        first = await other.fetch("select * from absurd.claim_task($1, 'other', 5)", QUEUE)
        second = await queue.claim(limit=5)
        await other.execute("commit")
    assert (len(first), len(second)) == (1, 0)


async def test_a_worker_claims_only_the_names_that_it_knows(queue: Bench) -> None:
    await queue.client.spawn("imaging")
    rows = await queue.connection.fetch("select * from absurd.claim_task($1, 'w', 5, array['flagging'])", QUEUE)
    assert rows == []


async def test_completion_heartbeat_progress_and_failure_of_a_stale_claim_are_refused(queue: Bench) -> None:
    task = await spawn_one(queue)
    [stale] = await queue.claim(worker="slow")
    assert await queue.sql("select absurd.take_over($1, $2, 2)", task, stale["claim"])
    [current] = await queue.claim(worker="quick")
    assert current["attempt"] == 2
    assert not await queue.complete(stale, {"by": "slow"})
    assert await queue.fail(stale) is None
    assert not await queue.sql("select absurd.report_progress($1, $2, 0.5, 'x')", task, stale["claim"])
    assert not await queue.sql("select absurd.release_task($1, $2)", task, stale["claim"])
    verdicts = await queue.connection.fetch(
        "select * from absurd.heartbeat('slow', array[$1::bigint], 10)", stale["claim"]
    )
    assert [tuple(row) for row in verdicts] == [(stale["claim"], "lost")]
    assert await queue.states(task) == ["claimed"]
    assert await queue.complete(current, {"by": "quick"})
    assert not await queue.complete(current, {"by": "quick, again"})
    row = await queue.client.get_task(task)
    assert row is not None and row["result"] == {"by": "quick"}


async def test_a_failed_attempt_is_retried_until_none_is_left_and_each_is_kept(queue: Bench) -> None:
    task = await spawn_one(queue, max_retries=1)
    [first] = await queue.claim()
    assert await queue.fail(first) == "retrying"
    assert await queue.states(task) == ["retrying"]
    [second] = await claim_again(queue)
    assert second["attempt"] == 2
    assert await queue.fail(second) == "failed"
    row = await queue.client.get_task(task)
    assert row is not None and (row["status"], row["error"], row["attempt"]) == ("failed", "E: m", 2)
    assert await queue.sql("select count(*) from absurd.attempt where task_id = $1", task) == 2
    assert await queue.sql("select reason from absurd.dead where task_id = $1", task) == "error"


async def test_an_error_that_cannot_pass_fails_the_task_at_its_first_attempt(queue: Bench) -> None:
    task = await spawn_one(queue, max_retries=5)
    [claimed] = await queue.claim()
    assert await queue.fail(claimed, retryable=False) == "failed"
    assert await queue.states(task) == ["failed"]


async def test_the_back_off_doubles_up_to_its_cap_with_full_jitter(queue: Bench) -> None:
    rows = await queue.connection.fetch(
        """select n, max(absurd.backoff(n, '{"base_s": 1, "cap_s": 5}')) as longest,
                  min(absurd.backoff(n, '{"base_s": 1, "cap_s": 5}')) as shortest
           from generate_series(1, 6) n, generate_series(1, 400) group by n order by n"""
    )
    limits = [1, 2, 4, 5, 5, 5]
    for row, limit in zip(rows, limits, strict=True):
        # Of 400 even draws the largest is below 0.97 of the limit once in 200,000 runs, and the smallest above 0.03.
        assert 0.97 * limit < row["longest"] <= limit
        assert row["shortest"] < 0.03 * limit


async def test_a_task_waits_out_its_back_off_by_the_clock_of_the_server(queue: Bench) -> None:
    await queue.connection.execute("set absurd.fake_now = '2026-01-01T00:00:00Z'")
    spec = TaskSpec("small", backoff_base_sec=1e9, backoff_cap_sec=60.0)
    await queue.client.spawn_graph("one", [spec])
    [claimed] = await queue.claim()
    await queue.fail(claimed)
    await queue.connection.execute("set absurd.fake_now = '2025-12-31T23:59:59Z'")
    await queue.sql("select absurd.promote(absurd.clock())")
    assert await queue.states(spec.task_id) == ["retrying"]
    await queue.connection.execute("set absurd.fake_now = '2026-01-01T00:01:01Z'")
    await queue.sql("select absurd.promote(absurd.clock())")
    assert await queue.states(spec.task_id) == ["pending"]
    await queue.connection.execute("reset absurd.fake_now")


async def test_a_task_that_is_given_back_has_not_used_an_attempt(queue: Bench) -> None:
    await spawn_one(queue)
    [claimed] = await queue.claim()
    assert await queue.sql("select absurd.release_task($1, $2)", claimed["task_id"], claimed["claim"])
    [again] = await queue.claim()
    assert (claimed["attempt"], again["attempt"]) == (1, 1)
    assert again["claim"] > claimed["claim"]


async def test_a_task_that_killed_two_workers_is_poison_and_dies(queue: Bench) -> None:
    task = await spawn_one(queue, max_retries=10)
    for end in ("pending", "failed"):
        [claimed] = await queue.claim()
        await queue.sql("select absurd.take_over($1, $2, 2)", task, claimed["claim"])
        assert await queue.states(task) == [end]
    assert await queue.sql("select reason from absurd.dead where task_id = $1", task) == "crashed"


async def test_a_crash_of_the_worker_does_not_use_up_a_retry(queue: Bench) -> None:
    await spawn_one(queue, max_retries=0)
    [first] = await queue.claim()
    await queue.sql("select absurd.take_over($1, $2, 5)", first["task_id"], first["claim"])
    [second] = await queue.claim()
    assert second["attempt"] == 2
    assert await queue.fail(second) == "failed"


async def test_an_attempt_that_nobody_ends_after_its_deadline_is_ended_by_the_reaper(queue: Bench) -> None:
    task = await spawn_one(queue, timeout_sec=0.001)
    await queue.claim()
    await queue.connection.execute("update absurd.lease set deadline = absurd.clock() - interval '31 s'")
    assert await queue.sql("select absurd.reap(10, 2)") == 1
    assert await queue.states(task) == ["retrying"]
    assert await queue.sql("select reason from absurd.attempt where task_id = $1", task) == "timeout"


@pytest.mark.parametrize("state", ["pending", "retrying", "blocked"])
async def test_a_task_that_does_not_run_is_cancelled_at_once(queue: Bench, state: str) -> None:
    spec = TaskSpec("small", backoff_base_sec=1e6)
    child = TaskSpec("small", depends_on=(spec.task_id,))
    await queue.client.spawn_graph("two", [spec, child])
    if state == "retrying":
        await queue.fail((await queue.claim())[0])
    task = child.task_id if state == "blocked" else spec.task_id
    assert await queue.states(task) == [state]
    assert await queue.client.cancel_task(task)
    assert await queue.states(task) == ["cancelled"]
    assert not await queue.client.cancel_task(task)


async def test_a_running_task_is_asked_to_stop_and_ends_as_cancelled(queue: Bench) -> None:
    task = await spawn_one(queue)
    [claimed] = await queue.claim(worker="w")
    assert await queue.client.cancel_task(task)
    assert await queue.states(task) == ["claimed"]
    verdicts = await queue.connection.fetch(
        "select * from absurd.heartbeat('w', array[$1::bigint], 10)", claimed["claim"]
    )
    assert [tuple(row) for row in verdicts] == [(claimed["claim"], "cancel")]
    assert await queue.fail(claimed) == "cancelled"
    assert await queue.states(task) == ["cancelled"]


@pytest.mark.parametrize("how", ["take_over($1, $2, 9)", "release_task($1, $2)"])
async def test_a_cancel_is_not_forgotten_when_the_worker_dies_or_stops(queue: Bench, how: str) -> None:
    task = await spawn_one(queue)
    [claimed] = await queue.claim()
    await queue.client.cancel_task(task)
    await queue.sql(f"select absurd.{how}", task, claimed["claim"])
    assert await queue.states(task) == ["cancelled"]


async def test_what_is_done_before_the_cancel_reached_it_stays_done(queue: Bench) -> None:
    task = await spawn_one(queue)
    [claimed] = await queue.claim()
    await queue.client.cancel_task(task)
    assert await queue.complete(claimed)
    assert await queue.states(task) == ["completed"]


async def test_cancel_and_retry_of_an_unknown_task_say_no(queue: Bench) -> None:
    assert not await queue.client.cancel_task(uuid7())
    assert not await queue.client.retry_task(uuid7())


async def test_a_dead_task_runs_again_with_all_its_attempts(queue: Bench) -> None:
    task = await spawn_one(queue, max_retries=0)
    await queue.fail((await queue.claim())[0])
    assert await queue.client.retry_task(task)
    assert await queue.sql("select count(*) from absurd.dead") == 0
    [again] = await queue.claim()
    assert again["attempt"] == 1
    assert not await queue.client.retry_task(task)
    assert await queue.complete(again)
    assert (await queue.client.get_queue_stats(QUEUE))["failed"] == 0


async def test_spawning_the_same_id_twice_makes_one_task(queue: Bench) -> None:
    task = uuid7()
    for _ in range(2):
        assert await queue.client.spawn("small", {"n": 1}, task_id=task) == task
    [claimed] = await queue.claim(limit=5)
    await queue.complete(claimed)
    await queue.client.spawn("small", {"n": 1}, task_id=task)
    assert await queue.states(task) == ["completed"]


async def test_a_spawn_that_is_rolled_back_never_runs(queue: Bench) -> None:
    await queue.connection.execute("begin")
    await queue.sql("select absurd.spawn_task($1, 'small')", QUEUE)
    await queue.connection.execute("rollback")
    assert await queue.claim() == []


async def test_a_task_can_be_spawned_from_plain_sql_with_an_id_in_the_order_of_time(queue: Bench) -> None:
    before = uuid7()
    task = await queue.sql("select absurd.spawn_task($1, 'small', '{\"n\": 1}', p_max_retries => 0)", QUEUE)
    assert before.int >> 80 <= task.int >> 80 <= uuid7().int >> 80
    assert UUID(int=task.int).version == 7
    [claimed] = await queue.claim()
    assert claimed["params"] == {"n": 1}


async def test_a_lease_that_its_living_worker_does_not_know_of_goes_back(queue: Bench) -> None:
    task = await spawn_one(queue)
    await queue.claim(worker="w")  # the answer got lost
    await queue.sql("select count(*) from absurd.heartbeat('w', '{}', 10)")
    assert await queue.states(task) == ["claimed"], "its answer may still be on the way"
    await queue.connection.execute("update absurd.lease set started_at = started_at - interval '11 s'")
    await queue.sql("select count(*) from absurd.heartbeat('w', '{}', 10)")
    assert await queue.states(task) == ["pending"]


async def test_the_counts_of_a_queue_follow_every_transition(queue: Bench) -> None:
    for _ in range(4):
        await queue.client.spawn("small", {}, max_retries=0)
    blocked = await queue.client.spawn("small", depends_on=[await queue.client.spawn("other")])
    [done, failed, running, *_] = await queue.claim(limit=3)
    await queue.complete(done)
    await queue.fail(failed)
    await queue.client.cancel_task(blocked)
    counts = await queue.client.get_queue_stats(QUEUE)
    assert running is not None
    assert counts == {
        "queue_name": QUEUE, "pending": 2, "claimed": 1, "completed": 1, "failed": 1, "cancelled": 1, "retrying": 0,
        "blocked": 0, "skipped": 0, "scheduled": 0, "parked": 0, "total": 6,
    }  # fmt: skip
    assert await queue.client.list_queue_stats() == [counts]
    assert (await queue.client.get_queue_stats("no-such-queue"))["total"] == 0


async def test_nothing_of_the_queue_is_open_to_everybody_and_every_function_has_a_fixed_search_path(
    queue: Bench,
) -> None:
    loose = await queue.connection.fetch(
        """select proname from pg_proc where pronamespace = 'absurd'::regnamespace
           and (proconfig is null or not exists (select from unnest(proconfig) c where c like 'search_path=%')
                or has_function_privilege('public', oid, 'execute'))"""
    )
    assert loose == []
    assert not await queue.sql("select has_schema_privilege('public', 'absurd', 'usage')")
    tables = await queue.connection.fetch(
        """select relname from pg_class where relnamespace = 'absurd'::regnamespace and relkind in ('r', 'v', 'p')
           and has_table_privilege('public', oid, 'select')"""
    )
    assert tables == []


async def test_new_tasks_lie_in_the_partition_of_their_month(queue: Bench) -> None:
    task = await queue.client.spawn("small")
    partition = await queue.sql("select tableoid::regclass::text from absurd.task where task_id = $1", task)
    month = await queue.sql("select to_char(now() at time zone 'UTC', 'YYYY_MM')")
    assert partition == f"absurd.task_{month}"
