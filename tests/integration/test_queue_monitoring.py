"""What the queue says about itself, compared with what was done to it."""

import json
import math
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from dsa110_contimg.absurd.client import Dependency, TaskSpec
from dsa110_contimg.absurd.connection import Database, QueueUnavailableError
from dsa110_contimg.absurd.histograms import BUCKETS, ERROR_RATIO, bucket_of
from dsa110_contimg.absurd.monitoring import HistoryError, Monitor
from dsa110_contimg.absurd.statements import monitoring as statements
from fixtures.queue_bench import QUEUE, Bench

pytest_plugins = ["fixtures.queue_database"]


async def finish_some(queue: Bench) -> None:
    """Leave 3 completed, 1 failed, 1 cancelled, 1 skipped, 1 retrying, 1 pending, 1 claimed, 1 blocked task."""
    spawn = queue.client.spawn
    for _ in range(3):
        await spawn("good")
        await queue.complete((await queue.claim())[0])
    bad = await spawn("bad", max_retries=0)
    await spawn("child", depends_on=[bad])
    await queue.fail((await queue.claim())[0])
    await queue.client.cancel_task(await spawn("dull"))
    await spawn("again")
    await queue.fail((await queue.claim())[0])
    running = await spawn("good")
    await queue.claim()
    await spawn("child", depends_on=[Dependency(running, "done")])
    await spawn("good")


async def test_totals_tell_what_was_done(queue: Bench) -> None:
    await finish_some(queue)
    told = await queue.client.monitor.metrics(QUEUE)
    expected = {
        "total_spawned": 10, "total_completed": 3, "total_failed": 1, "total_cancelled": 1, "total_skipped": 1,
        "total_retried": 1, "total_timed_out": 0, "total_crashed": 0, "total_claimed": 6,
        "current_pending": 1, "current_claimed": 1, "current_blocked": 1, "current_retrying": 1,
        "current_scheduled": 0, "current_parked": 0,
    }  # fmt: skip
    assert {key: told[key] for key in expected} == expected


async def test_totals_are_told_by_task_name_and_add_up(queue: Bench) -> None:
    await finish_some(queue)
    rows = {row["task_name"]: row for row in await queue.client.monitor.metrics_by_task()}
    assert set(rows) == {"good", "bad", "child", "dull", "again"}
    assert (rows["good"]["total_completed"], rows["good"]["current_claimed"], rows["good"]["current_pending"]) == (
        3,
        1,
        1,
    )
    whole = await queue.client.monitor.metrics()
    for key in ("total_spawned", "total_failed", "total_skipped", "current_blocked", "throughput_5min"):
        assert sum(row[key] for row in rows.values()) == pytest.approx(whole[key])


async def test_a_task_that_is_run_again_counts_once(queue: Bench) -> None:
    task = await queue.client.spawn("bad", max_retries=0)
    await queue.fail((await queue.claim())[0])
    await queue.client.retry_task(task)
    told = await queue.client.monitor.metrics(QUEUE)
    assert (told["total_spawned"], told["total_failed"], told["current_pending"]) == (1, 0, 1)
    assert told["error_rate_1min"] is None


async def test_success_and_error_rates_are_shares_of_what_ran(queue: Bench) -> None:
    await finish_some(queue)
    told = await queue.client.monitor.metrics(QUEUE)
    assert told["success_rate_15min"] == pytest.approx(0.75)
    assert told["error_rate_15min"] == pytest.approx(0.25)
    assert told["throughput_15min"] == pytest.approx(3 / 900, rel=0.2)


async def test_of_a_queue_where_nothing_ran_no_rate_or_time_is_made_up(queue: Bench) -> None:
    told = await queue.client.monitor.metrics("nowhere")
    assert told["total_spawned"] == 0
    assert told["throughput_1min"] == 0.0
    for key in (
        "success_rate_1min",
        "error_rate_15min",
        "avg_wait_time_sec",
        "p95_execution_time_sec",
        "oldest_pending_sec",
    ):
        assert told[key] is None


NOON = datetime(2026, 11, 22, 12, 30, 30, tzinfo=UTC)


@pytest.fixture
async def frozen(queue: Bench) -> AsyncIterator[Monitor]:
    """A monitor for whom it is half past twelve and thirty seconds."""
    mark = "&" if "?" in queue.url else "?"
    database = Database(f"{queue.url}{mark}absurd.fake_now={quote(NOON.isoformat())}", "monitor", 2)
    await database.connect()
    await queue.connection.execute(f"set absurd.fake_now = '{NOON.isoformat()}'")
    yield Monitor(database)
    await queue.connection.execute("reset absurd.fake_now")
    await database.close()


async def put_stat(queue: Bench, ago: timedelta, run_s: Sequence[float] = (), failed: int = 0, shard: int = 1) -> None:
    """Store the statistics of a minute: tasks that waited half as long as they ran."""
    runs, waits = [0] * BUCKETS, [0] * BUCKETS
    for time_s in run_s:
        runs[bucket_of(time_s)] += 1
        waits[bucket_of(time_s / 2.0)] += 1
    await queue.connection.execute(
        "insert into absurd.stat (queue, name, minute, shard, completed, failed, run_s, wait_s, run_hist, wait_hist) "
        "values ($1, 'imaging', date_trunc('minute', $2::timestamptz), $3, $4, $5, $6, $7, $8, $9)",
        QUEUE, NOON - ago, shard, len(run_s), failed, sum(run_s), sum(run_s) / 2.0, runs, waits,
    )  # fmt: skip


async def test_the_minute_in_which_a_window_begins_counts_by_its_share(queue: Bench, frozen: Monitor) -> None:
    await put_stat(queue, timedelta(seconds=10), [1.0] * 6)  # since 12:30:00
    await put_stat(queue, timedelta(minutes=1), [1.0] * 12, failed=4)  # half of it lies in the last minute
    await put_stat(queue, timedelta(minutes=5), [1.0] * 10)  # half of it in the last five
    await put_stat(queue, timedelta(minutes=6), [1.0] * 1000)
    told = await frozen.metrics(QUEUE)
    assert told["throughput_1min"] == pytest.approx((6 + 6) / 60)
    assert told["throughput_5min"] == pytest.approx((6 + 12 + 5) / 300)
    assert told["throughput_15min"] == pytest.approx((6 + 12 + 10 + 1000) / 900)
    assert told["error_rate_1min"] == pytest.approx(2 / 14)
    assert told["failures_1min"] == pytest.approx(2 / 60)


async def test_times_are_those_of_the_last_day(queue: Bench, frozen: Monitor) -> None:
    rng = random.Random(1)
    times_s = sorted(rng.lognormvariate(2.0, 1.0) for _ in range(500))
    await put_stat(queue, timedelta(hours=2), times_s[::2])
    await put_stat(queue, timedelta(hours=20), times_s[1::2], shard=2)
    await put_stat(queue, timedelta(hours=25), [5000.0] * 5000)
    told = await frozen.metrics(QUEUE)
    assert told["avg_execution_time_sec"] == pytest.approx(sum(times_s) / 500)
    assert told["avg_wait_time_sec"] == pytest.approx(sum(times_s) / 1000)
    for name, q in {"p50": 0.5, "p95": 0.95, "p99": 0.99}.items():
        exact_s = times_s[math.ceil(q * 500) - 1]
        assert exact_s / ERROR_RATIO <= told[f"{name}_execution_time_sec"] <= exact_s * ERROR_RATIO
        assert exact_s / 2 / ERROR_RATIO <= told[f"{name}_wait_time_sec"] <= exact_s / 2 * ERROR_RATIO


async def test_python_and_sql_count_a_time_in_the_same_bucket(queue: Bench) -> None:
    rng = random.Random(2)
    times_s = [rng.lognormvariate(0.0, 5.0) for _ in range(500)] + [0.0, 0.001, 0.0014, 3600.0, 1e6]
    for time_s in times_s:
        counts = await queue.sql("select absurd.histogram(array[$1::float8])", time_s)
        assert (len(counts), sum(counts)) == (BUCKETS, 1)
        assert counts.index(1) == bucket_of(time_s), time_s


async def test_counting_what_flushes_have_noted_changes_no_figure(queue: Bench, frozen: Monitor) -> None:
    await queue.connection.execute("select set_config('absurd.fake_now', $1, false)", NOON.isoformat())
    for name in ("good", "bad", "good"):
        for _ in range(3):
            await queue.client.spawn(name)
        await queue.connection.execute("update absurd.ready set run_at = absurd.clock() - interval '200 s'")
        claims = await queue.claim(3)
        await queue.connection.execute("update absurd.lease set started_at = absurd.clock() - interval '10 s'")
        arguments = [row["task_id"] for row in claims], [row["claim"] for row in claims]
        await queue.connection.execute(
            "select absurd.flush('w', $1, $2, array['1', '2', '3']::jsonb[], '{}', 0)", *arguments
        )
        before = await frozen.metrics(), await frozen.history(None, 6, "5m"), await frozen.metrics_by_task()
        assert await queue.sql("select count(*) from absurd.tally") == (2 if name == "bad" else 1)
        if name == "bad":
            await queue.sql("select absurd.reap(1e6, 2)")
            assert await queue.sql("select count(*) from absurd.tally") == 0
        after = await frozen.metrics(), await frozen.history(None, 6, "5m"), await frozen.metrics_by_task()
        assert flat(after) == pytest.approx(flat(before))
    assert (await frozen.metrics())["total_completed"] == 9
    assert (await frozen.metrics())["avg_execution_time_sec"] == pytest.approx(10.0)
    await queue.sql("select absurd.reap(1e6, 2)")
    assert await queue.sql("select sum(completed) from absurd.stat") == 9
    assert await queue.sql("select sum(x) from absurd.stat s, unnest(s.wait_hist) x") == 9
    await queue.connection.execute("reset absurd.fake_now")


async def test_the_oldest_pending_task_is_the_oldest_however_many_came_later(queue: Bench) -> None:
    first = await queue.client.spawn("imaging")
    await queue.connection.execute("update absurd.ready set run_at = run_at - interval '1 hour'")
    await queue.client.spawn_graph("many", [TaskSpec("imaging", priority=n) for n in range(150)])
    told = await queue.client.monitor.metrics(QUEUE)
    assert told["oldest_pending_sec"] == pytest.approx(3600.0, abs=30.0)
    health = await queue.client.monitor.health(QUEUE)
    assert health["age_oldest_pending_sec"] == pytest.approx(3600.0, abs=30.0)
    assert str(first)  # the newest page of a list would not hold it


async def test_a_place_in_the_line_of_a_fair_key_is_no_waiting_time(queue: Bench) -> None:
    await queue.client.spawn("imaging")
    await queue.connection.execute("update absurd.ready set run_at = run_at + interval '5 hours'")
    told = await queue.client.monitor.metrics(QUEUE)
    assert 0.0 <= told["oldest_pending_sec"] < 30.0


async def test_looking_twice_counts_nothing_twice(queue: Bench) -> None:
    await finish_some(queue)
    monitor = queue.client.monitor
    first, second = await monitor.metrics(QUEUE), await monitor.metrics(QUEUE)
    for key in ("total_spawned", "avg_wait_time_sec", "p50_wait_time_sec", "total_crashed", "total_timed_out"):
        assert first[key] == second[key]


async def test_timeouts_and_crashes_are_counted_by_what_happened_not_by_words(queue: Bench) -> None:
    await queue.client.spawn("wordy", max_retries=0)
    claimed = (await queue.claim())[0]
    error = {"type": "ValueError", "message": "timeout of the crashed thing"}
    await queue.sql("select absurd.fail_task($1, $2, $3)", claimed["task_id"], claimed["claim"], error)
    await queue.client.spawn("late", max_retries=0)
    claimed = (await queue.claim())[0]
    error = {"type": "TimeoutError", "message": "over", "reason": "timeout"}
    await queue.sql("select absurd.fail_task($1, $2, $3)", claimed["task_id"], claimed["claim"], error)
    await queue.client.spawn("poison")
    await queue.claim(worker="mortal")
    await queue.sql("update absurd.worker set beat_at = beat_at - interval '1 hour' where worker_id = 'mortal'")
    assert await queue.sql("select absurd.reap(10, 2)") == 1
    told = await queue.client.monitor.metrics(QUEUE)
    assert (told["total_timed_out"], told["total_crashed"], told["total_failed"]) == (1, 1, 2)


# ------------------------------------------------------------------------------------------------------------ history
async def test_history_is_what_was_stored_and_null_where_nothing_ran(queue: Bench, frozen: Monitor) -> None:
    await put_stat(queue, timedelta(minutes=10), [2.0, 4.0], failed=2)
    await put_stat(queue, timedelta(hours=2), [8.0])
    told = await frozen.history(QUEUE, 3, "1h")
    assert told["timestamps"] == [f"2026-11-22T{hour}:00:00+00:00" for hour in (10, 11, 12)]
    series = told["series"]
    assert series["completed"] == [1, 0, 2]
    assert series["failed"] == [0, 0, 2]
    assert series["success_rate"] == [100.0, None, 50.0]
    assert series["avg_latency"] == [8.0, None, 3.0]
    assert series["avg_wait"] == [4.0, None, 1.5]
    assert series["p95_latency"][1] is None
    assert series["p95_latency"][0] == pytest.approx(8.0, rel=ERROR_RATIO - 1.0)
    assert series["throughput"] == pytest.approx([1 / 3600, 0.0, 2 / (30 * 60 + 30)])


@pytest.mark.parametrize(
    ("resolution", "hours", "steps"), [("5m", 1, 12), ("15m", 6, 24), ("1h", 24, 24), ("6h", 168, 28)]
)
async def test_every_resolution_has_its_steps(frozen: Monitor, resolution: str, hours: int, steps: int) -> None:
    told = await frozen.history(None, hours, resolution)
    assert len(told["timestamps"]) == steps
    assert all(len(series) == steps for series in told["series"].values())
    assert set(told["series"]["success_rate"]) == {None}


@pytest.mark.parametrize(("hours", "resolution"), [(0, "1h"), (169, "1h"), (24, "2h")])
async def test_a_history_that_is_not_kept_is_refused(queue: Bench, hours: int, resolution: str) -> None:
    with pytest.raises(HistoryError, match="there is no history"):
        await queue.client.monitor.history(None, hours, resolution)


async def test_folding_old_statistics_changes_no_figure(queue: Bench, frozen: Monitor) -> None:
    rng = random.Random(3)
    for minutes in (*range(0, 300, 7), *range(601, 60 * 24 * 20, 601)):
        times_s = [rng.lognormvariate(1.0, 1.0) for _ in range(3)]
        for shard in (1, 2):
            await put_stat(queue, timedelta(minutes=minutes), times_s, failed=minutes % 2, shard=shard + minutes)
    before = await frozen.metrics(), await frozen.history(None, 168, "15m"), await frozen.history(None, 6, "5m")
    rows = await queue.sql("select count(*) from absurd.stat")
    assert await queue.sql("select absurd.fold_stats()") > 0
    assert await queue.sql("select count(*) from absurd.stat") < rows * 0.7
    assert await queue.sql("select count(*) from absurd.stat where minute = '-infinity'") == 1
    after = await frozen.metrics(), await frozen.history(None, 168, "15m"), await frozen.history(None, 6, "5m")
    assert flat(after) == pytest.approx(flat(before))
    assert await queue.sql("select absurd.fold_stats()") == 0  # not twice for the same five minutes


def flat(told: Any) -> dict[str, Any]:
    """Return nested figures as one mapping."""
    if isinstance(told, dict | tuple | list):
        pairs = told.items() if isinstance(told, dict) else enumerate(told)
        return {f"{key}.{name}": value for key, inner in pairs for name, value in flat(inner).items()}
    return {"": told}


# ------------------------------------------------------------------------------------------------- workers and health
async def test_workers_tell_what_they_run_and_in_which_condition_they_are(queue: Bench) -> None:
    await queue.client.spawn("imaging")
    claimed = (await queue.claim(worker="a"))[0]
    await queue.sql("select absurd.report_progress($1, $2, 0.4, 'gridding')", claimed["task_id"], claimed["claim"])
    for name, age_s in (("b", 30), ("c", 100), ("d", 200)):
        await queue.sql("select absurd.register_worker($1, 'here', 1, array['other'], 2)", name)
        await queue.sql(
            "update absurd.worker set beat_at = beat_at - make_interval(secs => $2) where worker_id = $1", name, age_s
        )
    workers = {row["worker_id"]: row for row in await queue.client.monitor.workers()}
    assert [workers[name]["condition"] for name in "abcd"] == ["active", "idle", "stale", "crashed"]
    task = workers["a"]["tasks"][0]
    assert (task["task_name"], task["progress"], task["message"]) == ("imaging", 0.4, "gridding")
    assert (task["task_id"], workers["b"]["tasks"]) == (str(claimed["task_id"]), [])
    told = await queue.client.monitor.worker_metrics()
    counts = {key: value for key, value in told.items() if key.endswith("_workers")}
    assert counts == {
        "total_workers": 4, "active_workers": 1, "idle_workers": 1, "timed_out_workers": 1, "crashed_workers": 1,
    }  # fmt: skip
    assert told["avg_tasks_per_worker"] == 0.25


async def test_health_judges_a_queue_by_its_own_workers(queue: Bench) -> None:
    await queue.client.spawn("imaging")
    await queue.sql("select absurd.register_worker('a', 'here', 1, array['other'], 2)")
    assert (await queue.client.monitor.health("other"))["status"] == "healthy"
    verdict = await queue.client.monitor.health(QUEUE)
    assert (verdict["status"], verdict["message"]) == ("critical", "there is no worker")
    alerts = await queue.client.monitor.alerts(QUEUE)
    assert [(alert["level"], alert["message"]) for alert in alerts] == [("critical", "there is no worker")]


async def test_health_says_how_long_nothing_was_completed(queue: Bench, frozen: Monitor) -> None:
    await queue.sql("select absurd.register_worker('a', 'here', 1, array[$1], 2)", QUEUE)
    assert (await frozen.health(QUEUE))["last_task_completed_sec_ago"] is None
    await put_stat(queue, timedelta(minutes=10), [1.0])
    verdict = await frozen.health(QUEUE)
    assert (verdict["status"], verdict["last_task_completed_sec_ago"]) == ("healthy", 570.0)
    await queue.client.spawn("imaging")
    await queue.sql("update absurd.ready set run_at = $1", NOON - timedelta(minutes=7))
    verdict = await frozen.health(QUEUE)
    assert verdict["alerts"][0]["message"] == "tasks wait and nothing has been completed for 420 s"
    assert verdict["alerts"][0]["timestamp"] == NOON.isoformat()


async def test_the_pipeline_tells_how_far_each_stage_is(queue: Bench) -> None:
    await finish_some(queue)
    told = await queue.client.monitor.pipeline_status()
    assert told["stages"]["good"] == {"pending": 1, "running": 1, "completed": 3, "failed": 0}
    assert told["stages"]["child"] == {"pending": 1, "running": 0, "completed": 0, "failed": 0}
    assert told["total"] == {"pending": 3, "running": 1, "completed": 3, "failed": 1}
    assert (told["worker_count"], told["worker_active"], told["is_healthy"]) == (1, 1, True)


class AwayDatabase(Database):
    """A database that does not answer."""

    async def fetch(self, statement: str, *args: Any, patience_s: float | None = None) -> list[Any]:
        raise QueueUnavailableError("it does not answer")


async def test_a_queue_whose_database_is_away_is_down_and_no_figure_is_exported() -> None:
    monitor = Monitor(AwayDatabase("postgresql://x", "test"))
    verdict = await monitor.health()
    assert (verdict["status"], verdict["database_available"], verdict["queue_depth"]) == ("down", False, None)
    exported = (await monitor.prometheus()).splitlines()
    assert "absurd_health_status 3.0" in exported
    assert "absurd_database_available 0.0" in exported
    assert not [line for line in exported if line.startswith(("absurd_tasks", "absurd_queue_depth", "absurd_workers"))]


# --------------------------------------------------------------------------------------------------------------- cost
QUESTIONS: dict[str, tuple[Any, ...]] = {
    "LIVE": (None,), "TOTALS": (None,), "TIMES": (None,), "RATES": (None,), "HISTORY": (None, 300.0, 0.0),
    "HEALTH": (None,), "LIST_WORKERS": (), "DEAD": (), "COUNTERS": (), "QUEUES": (None,), "KEYS": (None,),
}  # fmt: skip


async def remember_a_crowd(queue: Bench) -> None:
    """Leave statistics that tell of thousands of live tasks, as autovacuum does that came by in a busy moment."""
    await queue.connection.execute(
        "insert into absurd.lease (task_id, claim, attempt, crashes, worker_id, started_at) "
        "select absurd.new_id(), n, 1, 0, 'w', now() from generate_series(1, 3000) n"
    )
    await queue.connection.execute(
        "insert into absurd.blocked select absurd.new_id(), 1 from generate_series(1, 3000)",
    )
    await queue.connection.execute(
        "insert into absurd.later select now(), absurd.new_id(), 0, 0, 'retry' from generate_series(1, 3000)",
    )
    for table in ("lease", "blocked", "later"):
        await queue.connection.execute(f"analyze absurd.{table}")
        await queue.connection.execute(f"delete from absurd.{table}")


@pytest.mark.parametrize("crowded", [False, True], ids=["statistics of now", "statistics of a crowd"])
async def test_no_question_becomes_dearer_with_the_tasks_that_have_ended(queue: Bench, crowded: bool) -> None:
    async def blocks() -> dict[str, int]:
        found = {}
        for name, arguments in QUESTIONS.items():
            explain = f"explain (analyze, buffers, format json) {getattr(statements, name)}"
            plan = json.loads(await queue.sql(explain, *arguments))[0]["Plan"]
            found[name] = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        return found

    if crowded:
        await remember_a_crowd(queue)
    await finish_some(queue)
    before = await blocks()
    await queue.connection.execute(
        "insert into absurd.task (task_id, queue, name, params, rank, max_attempts, has_children, created_at, "
        "started_at, finished_at, outcome, attempts) select absurd.new_id(), $1, 'good', '{}', 0, 4, false, now(), "
        "now(), now(), 'completed', 1 from generate_series(1, 20000)",
        QUEUE,
    )
    await queue.connection.execute("analyze absurd.task")
    after = await blocks()
    assert {name: after[name] for name in after if after[name] > before[name] + 20} == {}


async def test_the_clock_is_not_asked_for_each_row_of_the_statistics(queue: Bench) -> None:
    for minutes in range(200):
        await put_stat(queue, timedelta(minutes=minutes), [1.0])
    await queue.connection.execute("set track_functions = 'all'")
    for name in ("TOTALS", "TIMES", "RATES", "HISTORY"):
        asked = "select coalesce(max(calls), 0) from pg_stat_xact_user_functions where funcname = 'clock'"
        async with queue.connection.transaction():
            await queue.connection.fetch(getattr(statements, name), *QUESTIONS[name])
            assert await queue.sql(asked) <= 3, name


# ---------------------------------------------------------------------------------------------------------- one task
async def test_an_abbreviated_id_is_found_by_its_beginning_and_its_end(queue: Bench) -> None:
    tasks = [await queue.client.spawn("imaging") for _ in range(3)]
    monitor = queue.client.monitor
    wanted = str(tasks[1])
    assert await monitor.find_tasks(wanted) == [tasks[1]]
    assert await monitor.find_tasks(wanted.upper()) == [tasks[1]]
    assert await monitor.find_tasks(f"{wanted[:8]}…{wanted[-6:]}") == [tasks[1]]
    assert await monitor.find_tasks(f"{wanted[:8]}...{wanted[-6:]}") == [tasks[1]]
    assert len(await monitor.find_tasks(wanted[:4])) == 2
    assert await monitor.find_tasks("ffffffff") == []
    assert await monitor.find_tasks("'; drop table") == []


async def test_a_task_tells_its_failed_attempts_and_its_relatives(queue: Bench) -> None:
    parent = await queue.client.spawn("imaging", max_retries=0)
    child = await queue.client.spawn("report", depends_on=[Dependency(parent, "done")])
    await queue.fail((await queue.claim())[0])
    attempt = (await queue.client.monitor.attempts(parent))[0]
    assert (attempt["attempt"], attempt["reason"], attempt["error"]["message"]) == (1, "error", "m")
    relative = (await queue.client.monitor.relatives(child))[0]
    assert (relative["kind"], relative["policy"], relative["task_id"]) == ("parent", "done", str(parent))
    assert [row["kind"] for row in await queue.client.monitor.relatives(parent)] == ["child"]
