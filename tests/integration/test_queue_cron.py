"""Schedules: each time fires once, whoever looks and however often."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.absurd.cron import ScheduleError
from dsa110_contimg.absurd.schedules import ScheduleExistsError, Schedules
from dsa110_contimg.absurd.scheduling import TaskScheduler
from fixtures.queue_bench import QUEUE, Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database) as bench:
        yield bench


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


async def test_the_running_scheduler_fires_sweeps_and_stops_when_asked(queue: Bench, schedules: Schedules) -> None:
    scheduler = TaskScheduler(queue.client.config)
    await sweep(schedules, "soon")
    await queue.connection.execute("update absurd.cron set next_at = absurd.clock() + interval '0.3 s'")
    running = asyncio.create_task(scheduler.run())
    await queue.until(lambda: queue.sql("select count(*) > 0 from absurd.fire"), 3)
    scheduler.request_stop()
    await asyncio.wait_for(running, 2)
