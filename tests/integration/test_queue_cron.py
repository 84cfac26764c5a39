"""Schedules: each time fires once, whoever looks and however often."""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.absurd import setup
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import Database, open_connection
from dsa110_contimg.absurd.cron import Cron, ScheduleError
from dsa110_contimg.absurd.schedules import ScheduleExistsError, Schedules
from dsa110_contimg.absurd.scheduling import TaskScheduler
from dsa110_contimg.absurd.statements import schedules as statements
from fixtures.queue_bench import QUEUE, Bench

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def schedules(queue: Bench) -> AsyncIterator[Schedules]:
    database = Database(queue.url, "test schedules", 2)
    await database.connect()
    yield Schedules(database, queue.client.config)
    await database.close()


@pytest.fixture
async def scheduler(queue: Bench) -> AsyncIterator[TaskScheduler]:
    scheduler = TaskScheduler(queue.client.config)
    await scheduler.connect()
    yield scheduler
    await scheduler.close()


async def sweep(schedules: Schedules, name: str = "sweep", **fields: object) -> None:
    """Create a schedule of every five minutes."""
    values = {"task_name": "housekeeping", "cron_expression": "*/5 * * * *", **fields}
    await schedules.create(name, **values)


async def make_due(queue: Bench) -> None:
    """Let an hour pass since the next time of every schedule."""
    await queue.connection.execute("update absurd.cron set next_at = absurd.clock() - interval '1 hour'")


async def test_a_schedule_whose_time_has_come_spawns_its_task_once_for_all_missed_times(
    queue: Bench, schedules: Schedules, scheduler: TaskScheduler
) -> None:
    created = await schedules.create(
        "sweep", task_name="housekeeping", cron_expression="*/5 * * * *", params={"max_stale_hours": 4}
    )
    assert datetime.fromisoformat(created["next_run_at"]) > datetime.now(UTC)
    assert await scheduler.fire_due() == 0
    await make_due(queue)
    assert await scheduler.fire_due() == 1
    assert await scheduler.fire_due() == 0
    [task] = await queue.client.list_tasks(QUEUE)
    assert (task["task_name"], task["params"]) == ("housekeeping", {"max_stale_hours": 4})
    [schedule] = await schedules.list()
    assert datetime.fromisoformat(schedule["next_run_at"]) > datetime.now(UTC)


async def test_of_many_schedulers_one_fires(queue: Bench, schedules: Schedules) -> None:
    await sweep(schedules)
    others = [TaskScheduler(queue.client.config) for _ in range(3)]
    for other in others:
        await other.connect()
    for tick in range(1, 11):
        await make_due(queue)
        await queue.connection.execute("update absurd.cron set next_at = next_at + make_interval(mins => $1)", tick)
        fired = await asyncio.gather(*(other.fire_due() for other in others))
        assert sum(fired) == 1
        [claimed] = await queue.claim()
        await queue.complete(claimed)
    for other in others:
        await other.close()
    assert await queue.sql("select count(*) from absurd.fire") == 10


async def test_a_scheduler_that_comes_late_with_a_time_already_fired_fires_nothing(
    queue: Bench, schedules: Schedules, scheduler: TaskScheduler
) -> None:
    await sweep(schedules)
    await make_due(queue)
    due = await queue.sql("select next_at from absurd.cron")
    await scheduler.fire_due()
    await queue.complete((await queue.claim())[0])
    after = await queue.sql("select next_at from absurd.cron")
    for late in (due, due.replace(year=2020)):
        fired = await queue.sql(
            "select absurd.fire_cron('sweep', $1, now() + interval '1 h', absurd.new_id(), $1)", late
        )
        assert fired is None
    assert await queue.sql("select next_at from absurd.cron") == after


async def test_a_schedule_is_passed_over_while_its_last_task_has_not_ended(
    queue: Bench, schedules: Schedules, scheduler: TaskScheduler
) -> None:
    await sweep(schedules)
    await make_due(queue)
    await scheduler.fire_due()
    await make_due(queue)
    assert await scheduler.fire_due() == 0
    await queue.complete((await queue.claim())[0])
    await make_due(queue)
    assert await scheduler.fire_due() == 1


async def test_a_paused_schedule_does_not_fire_and_what_passed_meanwhile_is_not_missed(
    queue: Bench, schedules: Schedules, scheduler: TaskScheduler
) -> None:
    await sweep(schedules)
    assert await schedules.pause("sweep")
    await make_due(queue)
    assert await scheduler.fire_due() == 0
    assert await schedules.pause("sweep", paused=False)
    assert await scheduler.fire_due() == 0
    await make_due(queue)
    assert await scheduler.fire_due() == 1


async def test_a_schedule_that_is_paused_at_the_last_moment_does_not_fire(queue: Bench, schedules: Schedules) -> None:
    """The scheduler has read it as active, and calls after somebody has paused it."""
    await sweep(schedules)
    due = await queue.sql("select next_at from absurd.cron")
    await schedules.update("sweep", state="paused")
    await queue.connection.execute("update absurd.cron set next_at = $1", due)
    fired = "select absurd.fire_cron('sweep', $1, $1::timestamptz + interval '5 min', absurd.new_id(), $1)"
    assert await queue.sql(fired, due) is None
    assert await queue.sql("select count(*) from absurd.task") == 0


async def test_a_deleted_schedule_is_gone_and_its_name_free(schedules: Schedules) -> None:
    await sweep(schedules)
    with pytest.raises(ScheduleExistsError, match="sweep"):
        await sweep(schedules)
    assert await schedules.delete("sweep")
    assert not await schedules.delete("sweep")
    assert await schedules.list() == []
    await sweep(schedules)


async def test_one_bad_row_does_not_stop_the_round(
    queue: Bench, schedules: Schedules, scheduler: TaskScheduler
) -> None:
    for name in ("bad", "good"):
        await sweep(schedules, name)
    await queue.connection.execute("update absurd.cron set expr = 'nonsense' where name = 'bad'")
    await make_due(queue)
    assert await scheduler.fire_due() == 1
    bad = await schedules.get("bad")
    assert bad is not None and "nonsense" in bad["last_error"]


async def test_a_schedule_that_can_never_fire_is_refused(schedules: Schedules) -> None:
    with pytest.raises(ScheduleError, match="0 0 31 2"):
        await sweep(schedules, "never", cron_expression="0 0 31 2 *")
    assert await schedules.list() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("policy", "never"), ("state", "asleep"), ("catch_up_limit", 0), ("timeout_sec", -1.0), ("max_retries", -1),
     ("task_name", "")],
)  # fmt: skip
async def test_a_schedule_with_a_value_that_cannot_be_is_refused_by_name(
    schedules: Schedules, field: str, value: object
) -> None:
    with pytest.raises(ScheduleError, match=f"{field} of a schedule is {value!r}"):
        await sweep(schedules, **{field: value})
    await sweep(schedules)
    with pytest.raises(ScheduleError, match=field):
        await schedules.update("sweep", **{field: value})


async def test_the_running_scheduler_fires_sweeps_and_stops_when_asked(queue: Bench, schedules: Schedules) -> None:
    scheduler = TaskScheduler(queue.client.config)
    await sweep(schedules, "soon")
    await queue.connection.execute("update absurd.cron set next_at = absurd.clock() + interval '0.3 s'")
    running = asyncio.create_task(scheduler.run())
    await queue.until(lambda: queue.sql("select count(*) > 0 from absurd.fire"), 3)
    scheduler.request_stop()
    await asyncio.wait_for(running, 2)


async def test_a_trigger_spawns_now_whatever_the_state_and_moves_no_time(queue: Bench, schedules: Schedules) -> None:
    await sweep(schedules, state="paused", params={"a": 1}, headers={"who": "me"})
    due = await queue.sql("select next_at from absurd.cron")
    task = await schedules.trigger("sweep")
    assert task is not None
    spawned = await queue.client.get_task(task)
    assert spawned is not None and (spawned["task_name"], spawned["params"]) == ("housekeeping", {"a": 1})
    assert await queue.sql("select next_at from absurd.cron") == due
    assert await schedules.trigger("nothing") is None


async def test_a_trigger_that_is_repeated_after_a_lost_answer_spawns_once(queue: Bench, schedules: Schedules) -> None:
    await sweep(schedules)
    for _ in range(2):
        await queue.sql("select absurd.trigger_cron('sweep', '01890000-0000-7000-8000-000000000001')")
    assert await queue.sql("select count(*) from absurd.task") == 1


async def test_a_change_of_the_times_starts_the_schedule_anew_and_other_changes_do_not(
    queue: Bench, schedules: Schedules
) -> None:
    await sweep(schedules)
    await make_due(queue)
    due = await queue.sql("select next_at from absurd.cron")
    changed = await schedules.update("sweep", priority=7, params={"a": 1}, description="of the scratch disk")
    assert changed is not None and (changed["priority"], changed["params"]) == (7, {"a": 1})
    assert await queue.sql("select next_at from absurd.cron") == due
    changed = await schedules.update("sweep", cron_expression="0 4 * * *", timezone="America/Los_Angeles")
    assert changed is not None and changed["priority"] == 7
    assert datetime.fromisoformat(changed["next_run_at"]).hour in (11, 12)
    assert await schedules.update("nothing", priority=1) is None
    with pytest.raises(TypeError, match="colour"):
        await schedules.update("sweep", colour="red")
    with pytest.raises(ScheduleError, match="minute"):
        await schedules.update("sweep", cron_expression="61 * * * *")


async def test_two_people_who_change_a_schedule_at_once_both_have_their_way(schedules: Schedules) -> None:
    await sweep(schedules)
    await asyncio.gather(
        *(schedules.update("sweep", **{key: value}) for key, value in [("priority", 7), ("description", "x"),
                                                                      ("timeout_sec", 5.0), ("overlap", True)])
    )  # fmt: skip
    row = await schedules.get("sweep")
    assert row is not None
    assert (row["priority"], row["description"], row["timeout_sec"], row["overlap"]) == (7, "x", 5.0, True)


async def test_schedules_are_listed_by_queue_and_state(schedules: Schedules) -> None:
    await sweep(schedules, "a", queue_name="x")
    await sweep(schedules, "b", queue_name="y")
    await sweep(schedules, "c", queue_name="x", state="disabled")
    assert [row["name"] for row in await schedules.list()] == ["a", "b", "c"]
    assert [row["name"] for row in await schedules.list("x")] == ["a", "c"]
    assert [row["name"] for row in await schedules.list("x", "active")] == ["a"]
    disabled = await schedules.get("c")
    assert disabled is not None and disabled["next_run_at"] is None


async def test_a_schedule_tells_whether_any_worker_polls_its_queue(queue: Bench, schedules: Schedules) -> None:
    await sweep(schedules, "here")
    await sweep(schedules, "nowhere", queue_name="maintenance")
    await queue.claim()  # registers a worker of the usual queue
    assert {row["name"]: row["has_worker"] for row in await schedules.list()} == {"here": True, "nowhere": False}


async def test_a_disabled_schedule_does_not_fire(queue: Bench, schedules: Schedules, scheduler: TaskScheduler) -> None:
    await sweep(schedules, state="disabled")
    await make_due(queue)
    assert await scheduler.fire_due() == 0


async def test_under_skip_a_missed_time_is_left_out(
    queue: Bench, schedules: Schedules, scheduler: TaskScheduler
) -> None:
    await sweep(schedules, cron_expression="0 3 1 1 *", policy="skip")
    await make_due(queue)
    assert await scheduler.fire_due() == 0
    assert await queue.sql("select next_at > now() and last_fire_at is null from absurd.cron")


async def test_under_catch_up_missed_times_wait_for_the_task_of_the_one_before(
    queue: Bench, schedules: Schedules, scheduler: TaskScheduler
) -> None:
    await sweep(schedules, cron_expression="* * * * *", policy="catch_up")
    await queue.connection.execute(
        "update absurd.cron set next_at = date_trunc('minute', absurd.clock()) - interval '2 minutes'"
    )
    for _ in range(3):
        assert await scheduler.fire_due() == 1
        assert await scheduler.fire_due() == 0
        await queue.complete((await queue.claim())[0])
    assert await queue.sql("select count(*) from absurd.fire") >= 3
    gaps = await queue.connection.fetch("select fire_at - lag(fire_at) over (order by fire_at) as gap from absurd.fire")
    assert {gap["gap"] for gap in gaps[1:]} == {timedelta(minutes=1)}


class CountingDatabase(Database):
    """A database that remembers what it was asked."""

    asked: list[str]

    async def fetch(self, statement: str, *args: Any, patience_s: float | None = None) -> list[Any]:
        self.asked = [*getattr(self, "asked", []), statement]
        return await super().fetch(statement, *args, patience_s=patience_s)


async def test_a_schedule_that_cannot_fire_does_not_make_the_scheduler_spin(
    queue: Bench, schedules: Schedules, caplog: pytest.LogCaptureFixture
) -> None:
    await sweep(schedules, "bad")
    await queue.connection.execute("update absurd.cron set expr = 'nonsense'")
    await make_due(queue)
    database = CountingDatabase(queue.url, "test scheduler", 2)
    scheduler = TaskScheduler(queue.client.config, database)
    running = asyncio.create_task(scheduler.run())
    await queue.until(lambda: queue.sql("select last_error is not null from absurd.cron"), 3)
    await asyncio.sleep(1.2)
    scheduler.request_stop()
    await running
    assert sum("bad cannot fire" in record.message for record in caplog.records) == 1
    assert 1 <= database.asked.count(statements.DUE) <= 3


#: A clock that runs as fast as the test likes, for every session of the database.
FAST_CLOCK = """
create table fast_clock (began timestamptz, at timestamptz, speed float8);
create or replace function absurd.clock() returns timestamptz language sql volatile security definer
set search_path = public
as $$ select at + (clock_timestamp() - began) * speed from fast_clock $$
"""
SCHEDULER_PROGRAM = Path(__file__).parents[1] / "fixtures" / "queue_scheduler.py"


@asynccontextmanager
async def fast_queue(url: str, at: datetime, speed: float) -> AsyncIterator[object]:
    """Give a connection to a new queue whose clock starts at ``at`` and runs at ``speed``."""
    await setup.init(url)
    connection = await open_connection(url, "test")
    await connection.execute(FAST_CLOCK)
    await connection.execute("insert into fast_clock values (clock_timestamp(), $1, $2)", at, speed)
    try:
        yield connection
    finally:
        await connection.close()


def start_scheduler(url: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, str(SCHEDULER_PROGRAM), url])


async def fire_through(url: str, start: datetime, count: int, speed: float, seed: int) -> None:
    """Let three scheduler processes, which are killed again and again, fire a schedule of every other minute."""
    cron = Cron("*/2 * * * *", "Europe/Berlin")
    rng = random.Random(seed)
    async with fast_queue(url, start, speed) as connection:
        database = Database(url, "test schedules", 2)
        await database.connect()
        schedules = Schedules(database, AbsurdConfig(database_url=url))
        await sweep(schedules, cron_expression="*/2 * * * *", timezone=cron.timezone, policy="catch_up", overlap=True)
        await database.close()
        first = await connection.fetchval("select next_at from absurd.cron")
        running = [start_scheduler(url) for _ in range(3)]
        try:
            deadline = time.monotonic() + 120.0
            while await connection.fetchval("select count(*) from absurd.fire") < count:
                assert time.monotonic() < deadline, "the schedulers stopped firing"
                await asyncio.sleep(rng.uniform(0.5, 1.5))
                victim = rng.randrange(3)
                running[victim].kill()
                running[victim].wait()
                running[victim] = start_scheduler(url)
        finally:
            for process in running:
                process.kill()
                process.wait()
        rows = await connection.fetch(
            """select (t.headers->>'fire_at')::timestamptz as at, f.fire_at as noted
               from absurd.task t left join absurd.fire f using (task_id) order by at"""
        )
    expected = [first]
    while len(expected) < len(rows):
        expected.append(cron.next(expected[-1]))
    assert [row["at"] for row in rows] == expected, "a time was missed, or fired twice"
    assert [row["noted"] for row in rows] == expected


@pytest.mark.slow
async def test_three_schedulers_under_kills_fire_every_time_once(postgres_database: str) -> None:
    await fire_through(postgres_database, datetime(2026, 3, 29, 0, 30, tzinfo=UTC), 60, 2400.0, seed=1)


@pytest.mark.slow
async def test_three_schedulers_under_kills_fire_500_times_once_through_a_change_of_the_clock(
    postgres_database: str,
) -> None:
    await fire_through(postgres_database, datetime(2026, 10, 24, 20, 0, tzinfo=UTC), 500, 3000.0, seed=2)
