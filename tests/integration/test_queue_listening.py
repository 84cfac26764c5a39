"""Following the event log: nothing is missed and nothing told twice, whatever happens to the connection."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.absurd import setup
from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.events import EventLog
from dsa110_contimg.up.servers import EmbeddedPostgres
from fixtures.queue_bench import QUEUE, Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]

CUT = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'absurd events'"


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


@pytest.fixture
async def log(queue: Bench) -> AsyncIterator[EventLog]:
    """A log of its own, which listens."""
    made = EventLog(queue.url, kept=64)
    assert (await take(made.follow()))["type"] == "listening"
    yield made
    await made.stop()


async def take(updates: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    """Return the next update."""
    return await asyncio.wait_for(anext(updates), 10)


async def spawn_some(queue: Bench, n: int) -> list[str]:
    return [str(await queue.client.spawn("small")) for _ in range(n)]


async def test_a_listener_is_told_the_life_of_a_task_in_order_with_ids(queue: Bench) -> None:
    updates = queue.client.listen()
    assert (await take(updates))["type"] == "listening"
    async with queue.worker():
        task = await queue.client.spawn("small")
        told = [await take(updates) for _ in range(3)]
    assert [update["status"] for update in told] == ["pending", "claimed", "completed"]
    assert {(update["type"], update["task_id"], update["queue"], update["name"]) for update in told} == {
        ("task_update", str(task), QUEUE, "small")
    }
    assert len({update["id"] for update in told}) == 3


async def test_whoever_comes_back_with_the_id_of_the_last_update_gets_those_after_it(
    queue: Bench, log: EventLog
) -> None:
    updates = log.follow()
    await take(updates)
    tasks = await spawn_some(queue, 5)
    told = [await take(updates) for _ in range(5)]
    again = log.follow(told[1]["id"])
    assert [(await take(again))["task_id"] for _ in range(3)] == tasks[2:]
    more = await spawn_some(queue, 1)
    assert (await take(again))["task_id"] == more[0]


async def test_the_log_keeps_as_many_updates_as_promised_and_few_more_in_little_memory(
    queue: Bench, log: EventLog
) -> None:
    updates = log.follow()
    await take(updates)
    told = []
    for _ in range(80):
        await spawn_some(queue, 1)
        told.append(await take(updates))
    assert (await take(log.follow(told[16]["id"])))["type"] == "task_update"
    assert (await take(log.follow(told[7]["id"])))["type"] == "resync"
    assert all(mine is other for mine, other in zip(told[0], told[79], strict=True)), "a key is made once for all"


@pytest.mark.parametrize("unknown", ["999999999-0", "nonsense"])
async def test_whoever_comes_with_an_id_that_is_not_known_is_sent_to_the_tables(
    queue: Bench, log: EventLog, unknown: str
) -> None:
    updates = log.follow(unknown)
    assert (await take(updates))["type"] == "resync"
    [task] = await spawn_some(queue, 1)
    assert (await take(updates))["task_id"] == task


async def test_a_reader_that_is_too_slow_is_sent_to_the_tables(queue: Bench, log: EventLog) -> None:
    updates = log.follow()
    await take(updates)
    tasks = await spawn_some(queue, 1)
    assert (await take(updates))["task_id"] == tasks[0]
    await spawn_some(queue, 150)
    await queue.until(lambda: asyncio.sleep(0, log.end >= 151))
    assert (await take(updates))["type"] == "resync"
    [task] = await spawn_some(queue, 1)
    assert (await take(updates))["task_id"] == task


async def test_a_connection_that_was_cut_costs_a_listener_nothing(queue: Bench, log: EventLog) -> None:
    updates = log.follow()
    await take(updates)
    tasks = []
    for _ in range(4):
        await queue.sql(CUT)
        tasks += await spawn_some(queue, 5)
    told = [(await take(updates))["task_id"] for _ in range(len(tasks))]
    assert sorted(told) == sorted(tasks)
    assert log.last_id is not None


async def test_a_row_that_is_committed_after_rows_with_higher_numbers_is_told_all_the_same(
    queue: Bench, log: EventLog
) -> None:
    updates = log.follow()
    await take(updates)
    async with queue.session() as slow:
        await slow.execute("begin")
        late = str(await slow.fetchval("select absurd.spawn_task($1, 'small')", QUEUE))
        early = await spawn_some(queue, 2)
        await slow.execute("commit")
    told = [await take(updates) for _ in range(3)]
    assert [update["task_id"] for update in told] == [*early, late]
    numbers = [int(update["id"].partition("-")[0]) for update in told]
    assert numbers[2] < numbers[0]
    resumed = log.follow(told[1]["id"])
    assert (await take(resumed))["task_id"] == late


async def test_a_log_that_is_opened_later_knows_what_happened_shortly_before(queue: Bench, log: EventLog) -> None:
    updates = log.follow()
    await take(updates)
    tasks = await spawn_some(queue, 3)
    told = [await take(updates) for _ in range(3)]
    second = EventLog(queue.url)
    seen: list[str] = []
    async for update in second.follow(told[0]["id"]):
        seen.append(update["task_id"])
        if update["task_id"] == tasks[-1]:
            break
    await second.stop()
    assert [task for task in seen if task in tasks[1:]] == tasks[1:]


async def test_more_ends_at_once_than_are_told_one_by_one_send_listeners_to_the_tables(
    queue: Bench, log: EventLog
) -> None:
    updates = log.follow()
    await take(updates)
    await queue.sql(
        "select count(*) from absurd.spawn_tasks((select jsonb_agg(jsonb_build_object('task_id', absurd.new_id(), "
        "'queue', 'q', 'name', 'small')) from generate_series(1, 600)))"
    )
    assert (await take(updates))["type"] == "resync"


async def test_a_log_that_was_opened_before_there_was_a_queue_says_so_once_and_listens_as_soon_as_there_is_one(
    postgres_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = EventLog(postgres_database)
    listening = asyncio.create_task(take(log.follow()))
    async with asyncio.timeout(5):
        while "the events of the queue cannot be read" not in caplog.text:  # noqa: ASYNC110 - a text tells nobody
            await asyncio.sleep(0.01)
    await asyncio.sleep(1.0)  # five tries, or more
    await setup.init(postgres_database)
    assert (await listening)["type"] == "listening"
    assert caplog.text.count("the events of the queue cannot be read") == 1
    await log.stop()


async def test_events_are_asked_for_again_in_time(queue: Bench) -> None:
    await queue.connection.execute("delete from absurd.audience")
    log = EventLog(queue.url, asked_s=0.6, again_s=0.2)
    updates = log.follow()
    await take(updates)
    await asyncio.sleep(1.5)
    [task] = await spawn_some(queue, 1)
    assert (await take(updates))["task_id"] == task
    await log.stop()


async def test_a_log_that_is_stopped_as_an_event_comes_ends() -> None:
    """``asyncio.wait_for`` lost the cancellation when the event came in the same round of the loop, and all hung."""
    log = EventLog("postgresql://nowhere")
    log._asked_at = time.monotonic()
    numbers: asyncio.Queue[int | None] = asyncio.Queue()
    listening = asyncio.create_task(log._listen(Silent(), numbers))
    for rounds in range(4):
        await asyncio.sleep(0)
        if rounds == 2:
            numbers.put_nowait(1)
    listening.cancel()
    done, _ = await asyncio.wait({listening}, timeout=5)
    assert done == {listening}
    assert listening.cancelled()


class Silent:
    """A connection whose rows are gone."""

    async def fetch(self, *_: Any) -> list[Any]:
        return []


@pytest.mark.slow
async def test_every_listener_is_sent_to_the_tables_after_the_server_was_restarted(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "own", settings={"fsync": "off"}) as server:
        await setup.init(server.url)
        config = AbsurdConfig(database_url=server.url)
        async with AbsurdClient(config) as client:
            updates = client.listen()
            assert (await take(updates))["type"] == "listening"
            first = await client.spawn("small")
            before = await take(updates)
            assert before["task_id"] == str(first)
            await asyncio.to_thread(restart, server)
            assert (await asyncio.wait_for(anext(updates), 30))["type"] == "resync"
            task = await client.spawn("small")
            after = await take(updates)
            assert after["task_id"] == str(task)
            assert after["id"] != before["id"]
            assert (await take(client.listen(before["id"])))["type"] == "resync"


def restart(server: EmbeddedPostgres) -> None:
    """Stop the server as a power cut would, and start it again."""
    (pid, *_) = (server.data / "postmaster.pid").read_text().split()
    os.kill(int(pid), signal.SIGQUIT)
    server.stop()
    server.start()
