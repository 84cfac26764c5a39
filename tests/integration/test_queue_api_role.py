"""The API as the role that is meant for it: it may do everything that its routes offer, and is no owner of anything."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import orjson
import pytest
from websockets.asyncio.client import connect

from dsa110_contimg.absurd import setup
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import server_settings
from dsa110_contimg.api.migrations import migrator
from dsa110_contimg.up.servers import EmbeddedPostgres
from fixtures.api_world import settings
from fixtures.live_api import Caller, QueueServer, add_keys, running
from fixtures.queue_bench import QUEUE, open_bench

TASK = {"task_name": "small"}
SCHEDULE = {"name": "hourly", "task_name": "small", "cron_expression": "0 * * * *"}


@pytest.fixture
async def member(postgres: EmbeddedPostgres) -> AsyncIterator[tuple[str, str]]:
    """Addresses of a queue with roles: the owner's, and that of a member of absurd_api."""
    name = f"api_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"create database {name}")
    owner = postgres.database_url(name)
    await setup.init(owner, roles=True)
    await connection.execute(f"create role {name} login password 'x' in role absurd_api")
    parts = urlsplit(owner)
    yield owner, urlunsplit(parts._replace(netloc=f"{name}:x@{parts.hostname}:{parts.port}"))
    await connection.execute(f"drop database {name} with (force)")
    await connection.execute(f"drop role {name}")
    await connection.close()


async def test_the_role_of_the_api_suffices_for_every_call(member: tuple[str, str], tmp_path: Path) -> None:
    owner, url = member
    config = settings(tmp_path, DSA110_PORT="0")
    await asyncio.to_thread(migrator.upgrade, config.database, config.timeouts)
    keys = await add_keys(config)
    queue = AbsurdConfig(enabled=True, database_url=url, max_retries=0)
    served = server_settings(config, queue)
    with running(served) as port:
        async with (
            open_bench(owner, max_retries=0) as bench,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
        ):
            calls = Caller(QueueServer(config, port, keys, served.app), bench, http)
            await do_everything(calls)
            await watch(calls)


async def do_everything(calls: Caller) -> None:
    await calls.write("POST", "/tasks", TASK | {"idempotency_key": "k", "concurrency_key": "c", "fair_key": "f"})
    (claimed,) = await calls.bench.claim()
    await calls.bench.fail(claimed, retryable=False)
    dead = f"/dlq/{claimed['task_id']}"
    await calls.write("PATCH", dead, {"params": {"a": 2}})
    await calls.write("POST", f"{dead}/replay")
    (claimed,) = await calls.bench.claim()
    await calls.bench.fail(claimed, retryable=False)
    await calls.write("POST", "/dlq/replay", {})
    (claimed,) = await calls.bench.claim()
    await calls.bench.fail(claimed, retryable=False)
    await calls.write("POST", f"/tasks/{claimed['task_id']}/retry")
    await calls.write("DELETE", f"/tasks/{claimed['task_id']}")
    workflow = (await calls.write("POST", "/workflows", {"name": "w"}))["workflow_id"]
    await calls.write("POST", "/tasks/with-deps", TASK | {"workflow_id": workflow})
    await calls.write("DELETE", f"/workflows/{workflow}")
    await calls.write("POST", f"/workflows/{workflow}/retry")
    template = {"name": "t", "steps": [TASK]}
    await calls.write("POST", "/templates", template)
    await calls.write("PUT", "/templates/t", template)
    await calls.write("POST", "/templates/t/run")
    await calls.write("DELETE", "/templates/t")
    await calls.operate("POST", "/schedules", SCHEDULE)
    await calls.operate("PATCH", "/schedules/hourly", {"state": "paused"})
    await calls.operate("POST", "/schedules/hourly/trigger")
    await calls.operate("DELETE", "/schedules/hourly")
    await calls.operate("PUT", f"/queues/{QUEUE}/limits", {"rate_per_s": 1})
    await calls.operate("PUT", f"/queues/{QUEUE}/concurrency", {"key": "c", "limit": 3})
    await calls.operate("POST", f"/queues/{QUEUE}/pause")
    await calls.operate("POST", f"/queues/{QUEUE}/resume")
    await calls.done("POST", "/workers/w/heartbeat", scope="worker")
    await calls.operate("POST", "/workers/w/drain")
    await calls.operate("POST", "/prune", {"retention_days": 0})
    await calls.operate("DELETE", "/dlq")
    for path in ("/tasks", "/queues/stats", "/workers", "/workers/metrics", "/metrics", "/metrics/history", "/status",
                 "/workflows", f"/workflows/{workflow}/dag", "/health/detailed"):  # fmt: skip
        await calls.json(path)
    assert (await calls.json("/health"))["status"] == "healthy"
    assert "absurd_database_available 1" in (await calls.ask("GET", "/metrics/prometheus")).text


async def watch(calls: Caller) -> None:
    async with connect(f"ws://127.0.0.1:{calls.server.port}/ws/absurd", proxy=None) as connection:
        async with asyncio.timeout(15):
            while orjson.loads(await connection.recv())["type"] != "listening":
                pass
            task_id = (await calls.write("POST", "/tasks", TASK))["task_id"]
            told = orjson.loads(await connection.recv())
    assert (told["task_id"], told["update"]["status"]) == (task_id, "pending")
