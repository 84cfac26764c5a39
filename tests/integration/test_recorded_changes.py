"""Each request that may change something is in the record once, when it is let in, and not at all when it is not."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.async_repositories import AsyncCredentialRepository
from dsa110_contimg.api.audit import AuditRecord
from dsa110_contimg.api.authorization import declared_scope, writing_routes
from dsa110_contimg.api.database import open_database
from fixtures.api_world import RUN_ID
from fixtures.queue_bench import QUEUE, Bench, open_bench
from fixtures.work_bench import WorkBench, work_bench
from integration.test_reimaging import tell_stages

pytest_plugins = ["fixtures.queue_database"]

STEPS = [{"task_name": "one"}]
SCHEDULE = {"task_name": "health-check", "cron_expression": "15 * * * *"}
REGIONS = {"format": "ds9", "regions": 'fk5\ncircle(188.5,0.0,10")\n'}

#: One request to each route that may change something, in an order in which each has what it needs. A name in braces
#: is one of what is there, or what an earlier reply said.
REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", "/ws/tickets", None),
    ("POST", "/images/bulk-download", {"image_ids": ["1"]}),
    ("POST", "/images/{image_id}/rating", {"rating": 3}),
    ("POST", "/images/{image_id}/masks", REGIONS),
    ("DELETE", "/images/{image_id}/masks/{mask_id}", None),
    ("POST", "/images/{image_id}/regions", REGIONS),
    ("DELETE", "/images/{image_id}/regions/{region_id}", None),
    ("POST", "/images/{image_id}/reimage", {"robust": 0.0}),
    ("POST", "/batches", {"type": "image-qa", "items": ["1"]}),
    ("POST", "/batches/{batch_id}/cancel", None),
    ("DELETE", "/images/{image_id}", None),
    ("POST", "/jobs/{run_id}/rerun", {}),
    ("POST", "/queue/jobs/{job_id}/cancel", None),
    ("POST", "/jobs/bulk-rerun", {"runIds": [RUN_ID]}),
    ("POST", "/jobs/bulk-cancel", {"runIds": [RUN_ID]}),
    ("POST", "/cache/invalidate/{pattern}", None),
    ("POST", "/cache/clear", None),
    ("POST", "/absurd/tasks", {"task_name": "small"}),
    ("POST", "/absurd/spawn", {"task_name": "small"}),
    ("POST", "/absurd/tasks/with-deps", {"task_name": "small"}),
    ("DELETE", "/absurd/tasks/{task_id}", None),
    ("POST", "/absurd/tasks/{task_id}/retry", None),
    ("POST", "/absurd/queues/{name}/pause", None),
    ("POST", "/absurd/queues/{name}/resume", None),
    ("PUT", "/absurd/queues/{name}/limits", {"rate_per_s": 2, "burst": 3, "ageing_s": 60}),
    ("PUT", "/absurd/queues/{name}/concurrency", {"key": "disk", "limit": 2}),
    ("POST", "/absurd/prune", {"retention_days": 7}),
    ("POST", "/absurd/workers/{worker_id}/heartbeat", None),
    ("POST", "/absurd/workers/{worker_id}/drain", None),
    ("POST", "/absurd/templates", {"name": QUEUE, "steps": STEPS}),
    ("PUT", "/absurd/templates/{name}", {"name": QUEUE, "steps": STEPS}),
    ("POST", "/absurd/templates/{name}/run", {}),
    ("DELETE", "/absurd/templates/{name}", None),
    ("POST", "/absurd/schedules", SCHEDULE | {"name": QUEUE}),
    ("POST", "/absurd/scheduled", SCHEDULE | {"name": "other"}),
    ("PATCH", "/absurd/schedules/{name}", {"state": "paused"}),
    ("POST", "/absurd/schedules/{name}/trigger", None),
    ("DELETE", "/absurd/schedules/{name}", None),
    ("POST", "/absurd/workflows", {"name": "observation"}),
    ("DELETE", "/absurd/workflows/{workflow_id}", None),
    ("POST", "/absurd/workflows/{workflow_id}/retry", None),
    ("PATCH", "/absurd/dlq/{dead}", {"params": {"path": "right"}}),
    ("POST", "/absurd/dlq/{dead}/replay", None),
    ("DELETE", "/absurd/dlq/{other_dead}", None),
    ("POST", "/absurd/dlq/replay", {"task_name": "a"}),
    ("DELETE", "/absurd/dlq", None),
]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


@pytest.fixture
async def bench(
    each_database: dict[str, str], redis_url: str, tmp_path: Path, queue: Bench
) -> AsyncIterator[WorkBench]:
    more = {"PIPELINE_CMD_TEMPLATE": "run {ms_path}", **each_database}
    enabled = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path, redis_url, enabled, **more) as opened:
        yield opened


async def record(bench: WorkBench) -> list[AuditRecord]:
    config = bench.world.config
    async with open_database(config.database, config.timeouts) as adapter:
        return await AsyncCredentialRepository(adapter).newest_changes(1000)


def shape(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "{}", path)


async def things(queue: Bench) -> dict[str, str]:
    """Return the name of one of each thing that is there: dead tasks of two kinds, a worker, and what the world has."""
    made = [(await queue.client.spawn(name)) for name in ("broken", "broken", "a")]
    for claimed in await queue.claim(len(made)):
        await queue.fail(claimed, retryable=False)
    names = {"image_id": "1", "run_id": RUN_ID, "pattern": "images", "name": QUEUE, "worker_id": "w"}
    return names | {"dead": str(made[0]), "other_dead": str(made[1])}


async def test_each_route_leaves_one_entry_of_each_request_that_is_let_in_and_none_of_others(
    bench: WorkBench, queue: Bench
) -> None:
    scopes = {
        (method, shape(route.path).removeprefix("/api/v1")): declared_scope(route)
        for method, route in writing_routes(bench.served.app)
        if route.path.startswith("/api/v1/")
    }
    assert {(method, shape(path)) for method, path, _ in REQUESTS} == set(scopes)
    names = await things(queue)
    await tell_stages(bench.world)
    expected = []
    for method, path, body in REQUESTS:
        scope, address = scopes[method, shape(path)], path.format_map(names)
        other = bench.keys["worker" if scope == "ops" else "ops"]
        statuses = [(await bench.ask(method, address, body, X_API_Key=key)).status_code for key in ("", "none", other)]
        assert scope == "read" or statuses == [401, 401, 403], (method, path)
        reply = await bench.ask(method, address, body, X_API_Key=bench.keys[str(scope)])
        assert reply.status_code in (200, 201, 202), (method, path, reply.text)
        expected.append((f"/api/v1{address}", scope, reply.status_code))
        if reply.headers["content-type"] == "application/json":
            names |= ids(path, reply.json())
    entries = (await record(bench))[::-1]
    done = [(entry.path, entry.scope, entry.status) for entry in entries if (entry.status or 0) < 300]
    assert done == expected
    assert {entry.status for entry in entries} == {200, 202, 401, 403}


def ids(path: str, told: dict[str, Any]) -> dict[str, str]:
    """Return the names of what was made, as a reply says them."""
    names = {name: str(told[name]) for name in ("task_id", "workflow_id", "job_id") if told.get(name)}
    made = {"/images/{image_id}/masks": "mask_id", "/images/{image_id}/regions": "region_id", "/batches": "batch_id"}
    return names | ({made[path]: told["id"]} if path in made else {})
