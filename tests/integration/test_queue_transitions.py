"""Each transition of a task, and that nobody without the current claim can make one."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dsa110_contimg.absurd.client import TaskSpec
from dsa110_contimg.absurd.ids import new_id
from fixtures.queue_bench import LOSE_WORKER, QUEUE, TAKE_OVER, Bench

pytest_plugins = ["fixtures.queue_database"]


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
    await queue.sql(TAKE_OVER, task, stale["claim"], 2)
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
    row = await queue.client.get_task(task)
    assert row is not None and (row["status"], row["error"]) == ("retrying", "E: m"), "why it waits is what one asks"
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
        await queue.sql(TAKE_OVER, task, claimed["claim"], 2)
        assert await queue.states(task) == [end]
    assert await queue.sql("select reason from absurd.dead where task_id = $1", task) == "crashed"


async def test_a_crash_of_the_worker_does_not_use_up_a_retry(queue: Bench) -> None:
    await spawn_one(queue, max_retries=0)
    [first] = await queue.claim()
    await queue.sql(TAKE_OVER, first["task_id"], first["claim"], 5)
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


@pytest.mark.parametrize("how", [LOSE_WORKER, "select absurd.release_task($1, $2)"], ids=["dies", "stops"])
async def test_a_cancel_is_not_forgotten_when_the_worker_dies_or_stops(queue: Bench, how: str) -> None:
    task = await spawn_one(queue)
    [claimed] = await queue.claim()
    await queue.client.cancel_task(task)
    await queue.sql(how, task, claimed["claim"])
    assert await queue.states(task) == ["cancelled"]


async def test_what_is_done_before_the_cancel_reached_it_stays_done(queue: Bench) -> None:
    task = await spawn_one(queue)
    [claimed] = await queue.claim()
    await queue.client.cancel_task(task)
    assert await queue.complete(claimed)
    assert await queue.states(task) == ["completed"]


async def test_cancel_and_retry_of_an_unknown_task_say_no(queue: Bench) -> None:
    assert not await queue.client.cancel_task(new_id())
    assert not await queue.client.retry_task(new_id())


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


async def test_a_spawn_that_is_repeated_while_the_first_is_under_way_waits_for_it_and_makes_nothing(
    queue: Bench,
) -> None:
    tasks, batch = [new_id() for _ in range(3)], "select absurd.spawn_batch($1, array_fill('{}'::text, array[3]), $2)"
    like = {"queue": QUEUE, "name": "small"}
    async with queue.session() as first:
        transaction = first.transaction()
        await transaction.start()
        assert await first.fetchval(batch, tasks, like) == tasks
        repeated = asyncio.create_task(queue.connection.fetchval(batch, tasks, like))

        async def waits() -> bool:
            return bool(await first.fetchval("select count(*) from pg_locks where not granted"))

        await queue.until(waits)
        await transaction.commit()
        assert await repeated == []
    assert await queue.states(*tasks) == ["pending"] * 3


async def test_spawning_the_same_id_twice_makes_one_task(queue: Bench) -> None:
    task = new_id()
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
    before = new_id()
    task = await queue.sql("select absurd.spawn_task($1, 'small', '{\"n\": 1}', p_max_retries => 0)", QUEUE)
    assert before.int >> 80 <= task.int >> 80 <= new_id().int >> 80
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


# ----------------------------------------------------------------------------------------- later, snoozed, told apart


async def spawn_node(queue: Bench, **more: Any) -> UUID:
    """Spawn a task with fields that only some tasks have."""
    fields = {"task_id": str(new_id()), "queue": QUEUE, "name": "small", "retry": {"base_s": 1e-6}, **more}
    task: UUID = await queue.sql("select task_id from absurd.spawn_tasks($1)", [fields])
    return task


async def test_a_task_for_later_is_scheduled_and_becomes_ready_when_its_time_has_come(queue: Bench) -> None:
    await queue.connection.execute("set absurd.fake_now = '2026-01-01T00:00:00Z'")
    task = await spawn_node(queue, run_at="2026-01-01T00:10:00Z")
    at_once = await spawn_node(queue, run_at="2025-12-31T00:00:00Z")
    child = await spawn_node(queue, run_at="2026-01-01T00:10:00Z", depends_on=[{"task_id": str(at_once)}])
    assert await queue.states(task, at_once, child) == ["scheduled", "pending", "blocked"]
    await queue.complete((await queue.claim())[0])
    assert await queue.states(child) == ["scheduled"]
    for at, state in (("00:09:59", "scheduled"), ("00:10:00", "pending")):
        await queue.connection.execute(f"set absurd.fake_now = '2026-01-01T{at}Z'")
        await queue.sql("select absurd.reap(1e9, 2)")
        assert await queue.states(task, child) == [state, state]
    await queue.connection.execute("reset absurd.fake_now")


async def test_a_snoozed_task_comes_again_later_and_has_used_no_attempt(queue: Bench) -> None:
    task = await spawn_node(queue)
    [claimed] = await queue.claim()
    assert await queue.sql("select absurd.snooze_task($1, $2, 1e6)", task, claimed["claim"])
    assert await queue.states(task) == ["scheduled"]
    assert not await queue.sql("select absurd.snooze_task($1, $2, 1)", task, claimed["claim"])
    await queue.sql("select absurd.promote(absurd.clock() + interval '30 days')")
    [again] = await queue.claim()
    assert again["attempt"] == 1
    assert await queue.sql("select count(*) from absurd.attempt") == 0


async def test_a_snooze_does_not_forget_a_cancel(queue: Bench) -> None:
    task = await spawn_node(queue)
    [claimed] = await queue.claim()
    await queue.client.cancel_task(task)
    assert await queue.sql("select absurd.snooze_task($1, $2, 1)", task, claimed["claim"])
    assert await queue.states(task) == ["cancelled"]


@pytest.mark.parametrize(
    ("retry", "error", "state"),
    [
        ({}, {"type": "OSError"}, "retrying"),
        ({"dead_on": ["ValueError"]}, {"type": "OSError"}, "retrying"),
        ({"dead_on": ["ValueError"]}, {"type": "ValueError"}, "failed"),
        (
            {"dead_on": ["ValueError"]},
            {"type": "JSONDecodeError", "types": ["JSONDecodeError", "ValueError"]},
            "failed",
        ),
        ({"retry_on": ["OSError"]}, {"type": "TimeoutError", "types": ["TimeoutError", "OSError"]}, "retrying"),
        ({"retry_on": ["OSError"]}, {"type": "KeyError"}, "failed"),
        (
            {"retry_on": ["OSError"], "dead_on": ["TimeoutError"]},
            {"type": "TimeoutError", "types": ["OSError"]},
            "failed",
        ),
        ({"retry_on": []}, {"message": "an error without a type"}, "retrying"),
    ],
)
async def test_the_type_of_an_error_decides_whether_it_is_worth_another_attempt(
    queue: Bench, retry: dict[str, Any], error: dict[str, Any], state: str
) -> None:
    task = await spawn_node(queue, retry=retry)
    [claimed] = await queue.claim()
    assert await queue.sql("select absurd.fail_task($1, $2, $3)", task, claimed["claim"], error) == state


async def test_a_failure_may_say_when_to_try_again(queue: Bench) -> None:
    task = await spawn_node(queue)
    [claimed] = await queue.claim()
    await queue.sql("select absurd.fail_task($1, $2, '{}', null, 1000)", task, claimed["claim"])
    wait_s = await queue.sql("select extract(epoch from retry_at - absurd.clock()) from absurd.tasks")
    assert 990 < wait_s <= 1000


async def test_a_task_says_itself_how_many_workers_it_may_kill(queue: Bench) -> None:
    fragile, tough = await spawn_node(queue, max_crashes=1), await spawn_node(queue, max_crashes=3)
    for claimed in await queue.claim(limit=2):
        await queue.sql(TAKE_OVER, claimed["task_id"], claimed["claim"], 2)
    assert await queue.states(fragile, tough) == ["failed", "pending"]


async def test_headers_are_handed_to_the_worker_and_kept(queue: Bench) -> None:
    task = await spawn_node(queue, headers={"trace": "00-4bf9"})
    [claimed] = await queue.connection.fetch("select * from absurd.flush('w', '{}', '{}', '{}', array[$1], 1)", QUEUE)
    assert claimed["headers"] == {"trace": "00-4bf9"}
    assert await queue.sql("select headers from absurd.tasks where task_id = $1", task) == {"trace": "00-4bf9"}


async def test_a_worker_that_is_to_drain_learns_it_with_its_next_beat(queue: Bench) -> None:
    await queue.claim(worker="w")
    assert await queue.sql("select absurd.drain_worker('w')")
    verdicts = await queue.connection.fetch("select * from absurd.heartbeat('w', '{}', 10)")
    assert [tuple(row) for row in verdicts] == [(None, "drain")]
    assert not await queue.sql("select absurd.drain_worker('nobody')")


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"queue": ""}, {"max_attempts": 0}, {"timeout_s": 0}, {"max_crashes": 0}]
)
async def test_a_task_that_cannot_be_is_refused_by_name_with_all_that_were_spawned_with_it(
    queue: Bench, wrong: dict[str, Any]
) -> None:
    right = {"task_id": str(new_id()), "queue": QUEUE, "name": "small"}
    with pytest.raises(asyncpg.CheckViolationError, match="give a queue, a name"):
        await queue.sql(
            "select count(*) from absurd.spawn_tasks($1)", [right, {**right, "task_id": str(new_id()), **wrong}]
        )
    assert await queue.client.list_tasks() == []


# ----------------------------------------------------------------------------------------------- whole workflows, flush


async def test_a_workflow_is_cancelled_and_retried_as_a_whole(queue: Bench) -> None:
    done, runs, waits = TaskSpec("small"), TaskSpec("small"), TaskSpec("small")
    last = TaskSpec("small", depends_on=(runs.task_id, waits.task_id))
    workflow = await queue.client.spawn_graph("four", [done, runs, waits, last])
    other = await queue.client.spawn("small")
    finished, running = await queue.claim(limit=2)
    await queue.complete(finished)
    assert await queue.sql("select absurd.cancel_workflow($1)", workflow) == 3
    assert await queue.fail(running) == "cancelled"
    ids = [spec.task_id for spec in (done, runs, waits, last)]
    assert await queue.states(*ids, other) == ["completed", "cancelled", "cancelled", "cancelled", "pending"]
    assert await queue.sql("select absurd.cancel_workflow($1)", workflow) == 0
    assert await queue.sql("select absurd.retry_workflow($1)", workflow) == 3
    assert await queue.states(*ids) == ["completed", "pending", "pending", "blocked"]


async def test_a_flush_tells_of_each_completion_whether_it_counted_and_claims_in_the_same_breath(queue: Bench) -> None:
    tasks = [await queue.client.spawn("small") for _ in range(4)]
    first, second = await queue.claim(limit=2)
    await queue.complete(second)
    rows = await queue.connection.fetch(
        "select * from absurd.flush('w', $1, $2, array['1', '2']::jsonb[], array[$3], 1)",
        [first["task_id"], second["task_id"]], [first["claim"], second["claim"]], QUEUE,
    )  # fmt: skip
    assert [(row["verdict"], row["task_id"]) for row in rows] == [
        ("completed", tasks[0]), ("stale", tasks[1]), ("claimed", tasks[2]),
    ]  # fmt: skip
    assert await queue.sql("select result from absurd.task where task_id = $1", tasks[0]) == 1
    assert await queue.sql("select result from absurd.task where task_id = $1", tasks[1]) is None


async def test_a_completion_under_the_claim_of_another_task_is_stale(queue: Bench) -> None:
    for _ in range(2):
        await queue.client.spawn("small")
    first, second = await queue.claim(limit=2)
    rows = await queue.connection.fetch(
        "select verdict from absurd.flush('w', $1, $2, array['1', '2']::jsonb[], '{}', 0)",
        [first["task_id"], second["task_id"]], [second["claim"], first["claim"]],
    )  # fmt: skip
    assert [row["verdict"] for row in rows] == ["stale", "stale"]


async def test_a_busy_session_sees_a_task_of_higher_priority_at_its_next_look_from_the_front(queue: Bench) -> None:
    """Claims go on behind the last one (that keeps them cheap) until the front is looked at again."""
    for _ in range(6):
        await queue.client.spawn("small")

    async def claim_one() -> Any:
        rows = await queue.connection.fetch("select * from absurd.flush('w', '{}', '{}', '{}', array[$1], 1)", QUEUE)
        return rows[0]["task_id"] if rows else None

    await queue.connection.execute("set absurd.rescan_s = 1000")
    await claim_one()
    urgent = await queue.client.spawn("small", priority=9)
    assert await claim_one() != urgent
    await queue.connection.execute("set absurd.rescan_s = 0")
    assert await claim_one() == urgent
    await queue.connection.execute("set absurd.rescan_s = 1000")
    found = [await claim_one() for _ in range(4)]
    late = await queue.client.spawn("small", priority=9)
    assert None not in found
    assert await claim_one() == late, "nothing lies behind: the front is looked at in the same call"
    await queue.connection.execute("reset absurd.rescan_s")


async def test_waiting_and_running_times_are_counted_in_the_histograms_of_their_minute(queue: Bench) -> None:
    tasks = [await queue.client.spawn("small") for _ in range(4)]
    await queue.connection.execute("update absurd.ready set run_at = absurd.clock() - interval '200 s'")
    claimed = await queue.claim(limit=4)
    await queue.connection.execute("update absurd.lease set started_at = started_at - interval '100 s'")
    for row in claimed[:3]:
        await queue.complete(row)
    await queue.fail(claimed[3], retryable=False)
    row = await queue.connection.fetchrow(
        """select sum(completed) as completed, sum(failed) as failed, sum(wait_s) as wait_s, sum(run_s) as run_s,
                  sum((select sum(x) from unnest(wait_hist) x)) as waits, sum(wait_hist[34]) as near_100_s,
                  sum(run_hist[34]) as run_100_s from absurd.stats"""
    )
    assert row is not None and len(tasks) == 4
    assert (row["completed"], row["failed"], row["waits"], row["near_100_s"], row["run_100_s"]) == (3, 1, 3, 3, 3)
    assert 299 < row["wait_s"] < 390 and 299 < row["run_s"] < 390


async def test_attempts_that_did_not_succeed_are_counted_by_their_reasons(queue: Bench) -> None:
    task = await spawn_node(queue, max_attempts=9)
    error, late = "select absurd.fail_task($1, $2, '{}')", 'select absurd.fail_task($1, $2, \'{"reason": "timeout"}\')'
    for call in (error, late, LOSE_WORKER):
        [claimed] = await claim_again(queue)
        await queue.sql(call, task, claimed["claim"])
    row = await queue.connection.fetchrow(
        "select sum(retried) as retried, sum(timed_out) as timed_out, sum(crashed) as crashed from absurd.stats"
    )
    assert row is not None and tuple(row) == (3, 1, 1)
