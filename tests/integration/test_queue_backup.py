"""A queue that was dumped comes back: on the same server, and on one that never knew its roles."""

import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dsa110_contimg.absurd import setup
from dsa110_contimg.absurd.client import AbsurdClient, TaskSpec
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.up.servers import EmbeddedPostgres
from fixtures.queue_bench import Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


@pytest.fixture
def other_server(tmp_path: Path) -> Any:
    with EmbeddedPostgres(tmp_path / "other", settings={"fsync": "off"}) as server:
        yield server


async def fill(queue: Bench) -> None:
    """Have tasks in every place, a dead letter, a schedule, a template's worth of workflow."""
    client = queue.client
    first = TaskSpec("small")
    await client.spawn_graph("w", [first, TaskSpec("small", depends_on=(first.task_id,))], metadata={"n": 1})
    await client.spawn("small", {"which": "failed"}, priority=9)
    await queue.fail((await queue.claim())[0])
    await queue.claim()
    await client.spawn("small", run_at=datetime.now(UTC) + timedelta(hours=1), idempotency_key="later")
    for _ in range(2):
        await client.spawn("small", concurrency_key="field")
    await client.schedules.create("nightly", task_name="small", cron_expression="0 3 * * *")


async def state_of(url: str) -> dict[str, Any]:
    """Return everything that has to come back."""
    async with AbsurdClient(AbsurdConfig(database_url=url)) as client:
        return {
            "tasks": await client.list_tasks(),
            "workflows": await client.list_workflows(),
            "dead": await client.dead_letters.list(),
            "schedules": await client.schedules.list(),
        }


def program(server: EmbeddedPostgres, name: str, *words: str) -> None:
    """Run a program of the server's own version."""
    ended = subprocess.run([str(server._binaries / name), *words], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
async def test_a_restored_queue_has_every_task_where_it_was_and_goes_on(
    queue: Bench, postgres: EmbeddedPostgres, other_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    await fill(queue)
    before = await state_of(queue.url)
    assert {task["status"] for task in before["tasks"]} == {
        "blocked", "claimed", "failed", "parked", "pending", "scheduled"
    }  # fmt: skip
    dump = str(tmp_path / "absurd.dump")
    program(postgres, "pg_dump", "--format=custom", "--no-unlogged-table-data", f"--file={dump}", queue.url)
    restored = other_server.url
    program(
        other_server, "pg_restore", "--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={restored}", dump
    )
    await setup.init(restored, roles=True)

    assert await state_of(restored) == before
    told = await setup.status(restored)
    assert (told["misplaced"], told["roles"].count("absurd_")) == (0, 4)
    connection = await asyncpg.connect(restored)
    try:
        assert not await connection.fetchval("select has_schema_privilege('pg_monitor', 'absurd', 'usage')")
        granted = "select count(*) from pg_proc where pronamespace = 'absurd'::regnamespace and proacl::text ~ '[{,]=X'"
        assert await connection.fetchval(granted) == 0, "something is granted to PUBLIC"
        assert await connection.fetchval("select count(*) from absurd.event") == 0
    finally:
        await connection.close()
    await assert_it_goes_on(queue, restored)


async def assert_it_goes_on(queue: Bench, restored: str) -> None:
    """The task that ran when the dump was made is taken over by the lease, and everything ends."""
    again = Bench(restored, AbsurdClient(AbsurdConfig(database_url=restored)), queue.connection)
    async with again.client as client:
        claimed = (await client.list_tasks(status="claimed"))[0]
        [workflow] = await client.list_workflows()
        async with again.worker(lease_sec=0.6, heartbeat_interval_sec=0.2):
            await client.wait_workflow(workflow["workflow_id"], 20)
            task = await client.wait(claimed["task_id"], 20)
        assert (task["status"], task["attempt"]) == ("completed", 2)
        assert (await client.spawn("small", idempotency_key="later")).hex in {
            found["task_id"].replace("-", "") for found in await client.list_tasks(status="scheduled")
        }
