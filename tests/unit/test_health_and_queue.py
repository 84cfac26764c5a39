"""Health and the queue's service over stand-ins that fail, hang and recover."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from dsa110_contimg.absurd.connection import QueueUnavailableError
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.exceptions import (
    DatabaseSchemaError,
    QueueDisabledError,
    RecordNotFoundError,
    ServiceUnavailableError,
)
from dsa110_contimg.api.services.absurd_service import AbsurdService
from dsa110_contimg.api.services_monitor import HealthMonitor, free_space


class Schema:
    """Knows the state of a database: fine, failing or hanging."""

    def __init__(self, error: Exception | None = None, hangs: bool = False) -> None:
        self.error = error
        self.hangs = hangs

    async def get_revision(self) -> str | None:
        """Return the revision."""
        return "0001"

    async def require_current(self) -> None:
        """Fail, hang or do nothing."""
        if self.hangs:
            await asyncio.sleep(60)
        if self.error:
            raise self.error


async def queue_is_well() -> dict[str, str]:
    return {"status": "healthy", "message": "", "queue": "q"}


def monitor(tmp_path: Path, schema: Schema, queue_check: Any = queue_is_well) -> HealthMonitor:
    config = APIConfig.from_env(
        {
            "DSA110_STATE_DIR": str(tmp_path), "DSA110_PRODUCTS_DIR": str(tmp_path),
            "REDIS_URL": "redis://127.0.0.1:9/0", "DSA110_TIMEOUT_HEALTH_CHECK": "0.3",
        }
    )  # fmt: skip
    return HealthMonitor(config, schema, queue_check)


async def test_all_is_well_without_redis(tmp_path: Path) -> None:
    told = await monitor(tmp_path, Schema()).detailed()
    assert (told["databases"], told["redis"]["status"]) == ({"products": "ok"}, "unavailable")
    free = told["disk"][str(tmp_path)]
    assert told["status"] == ("degraded" if free["status"] == "critical" else "healthy")


async def test_a_part_that_hangs_delays_and_hides_no_other(tmp_path: Path) -> None:
    began = asyncio.get_running_loop().time()
    told = await monitor(tmp_path, Schema(hangs=True)).detailed()
    assert asyncio.get_running_loop().time() - began < 1.0
    assert (told["status"], told["databases"]["products"]) == ("degraded", "error: no answer within 0.3 s")
    assert told["absurd"]["status"] == "healthy"


async def test_a_check_that_fails_in_an_unforeseen_way_is_a_result(tmp_path: Path) -> None:
    async def broken() -> dict[str, str]:
        raise ZeroDivisionError

    told = await monitor(tmp_path, Schema(), broken).detailed()
    assert (told["status"], told["absurd"]) == ("degraded", {"status": "error", "message": "ZeroDivisionError"})


async def test_readiness_says_why_not(tmp_path: Path) -> None:
    assert (await monitor(tmp_path, Schema()).ready())["status"] == "ready"
    with pytest.raises(DatabaseSchemaError):
        await monitor(tmp_path, Schema(DatabaseSchemaError("never migrated"))).ready()
    with pytest.raises(ServiceUnavailableError, match="no answer in time"):
        await monitor(tmp_path, Schema(hangs=True)).ready()


def test_a_directory_that_is_missing_is_an_error_of_its_disk(tmp_path: Path) -> None:
    assert free_space(tmp_path / "none")["status"] == "error"
    assert free_space(tmp_path)["free_gb"] > 0


class Queue:
    """A client of the queue that can be down."""

    def __init__(self, down: bool = False) -> None:
        self.down = down
        self.connects = 0

    async def connect(self) -> None:
        """Count the tries."""
        self.connects += 1
        if self.down:
            raise QueueUnavailableError("the queue's database does not answer")

    async def close(self) -> None:
        """Do nothing."""

    async def get_task(self, task_id: UUID) -> dict[str, Any] | None:
        """Know no task."""
        return None

    async def list_tasks(
        self, queue_name: str | None = None, status: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Have no tasks."""
        return []

    async def get_workflow(self, workflow_id: UUID) -> dict[str, Any] | None:
        """Know no workflow."""
        return None

    async def get_queue_stats(self, queue: str) -> dict[str, Any]:
        """Count nothing."""
        return {"queue_name": queue}

    async def list_queue_stats(self) -> list[dict[str, Any]]:
        """Have one queue."""
        return [{"queue_name": "q"}]

    async def list_workers(self) -> list[dict[str, Any]]:
        """Have a worker in each state, and one that has left."""
        common = {"task_ids": [str(uuid4())], "started_at": "2026-01-01T00:00:00+00:00", "beat_at": None, "uptime_s": 1}
        ages = {"a": 1.0, "b": 30.0, "c": 100.0, "d": 1000.0}
        rows = [{"worker_id": name, "state": "running", "beat_age_s": age, **common} for name, age in ages.items()]
        return [*rows, {"worker_id": "e", "state": "stopped", "beat_age_s": 1.0, **common}]


async def test_a_queue_that_is_switched_off_says_so() -> None:
    service = AbsurdService(None, "q")
    assert (await service.health())["status"] == "disabled"
    with pytest.raises(QueueDisabledError, match="not enabled"):
        await service.list_queues()


async def test_a_queue_that_is_down_is_asked_once_a_second_and_used_when_it_is_back() -> None:
    client = Queue(down=True)
    service = AbsurdService(client, "q")
    for _ in range(5):
        with pytest.raises(ServiceUnavailableError, match="does not answer"):
            await service.list_queues()
    assert client.connects == 1
    assert (await service.health())["status"] == "error"
    client.down = False
    await asyncio.sleep(1.05)
    assert await service.list_queues() == ["q"]
    assert (await service.health())["status"] == "healthy"
    await service.list_queues()
    assert client.connects == 2


async def test_what_the_queue_does_not_know_is_not_found() -> None:
    service = AbsurdService(Queue(), "q")
    with pytest.raises(RecordNotFoundError):
        await service.get_task(uuid4())
    with pytest.raises(RecordNotFoundError):
        await service.get_workflow(uuid4())
    assert await service.list_tasks(None, None, 10) == {"tasks": [], "total": 0}


async def test_workers_are_counted_by_the_age_of_their_beat() -> None:
    told = await AbsurdService(Queue(), "q").list_workers()
    assert [worker["state"] for worker in told["workers"]] == ["active", "idle", "stale", "crashed"]
    assert {key: told[key] for key in ("total", "active", "idle", "stale", "crashed")} == {
        "total": 4, "active": 1, "idle": 1, "stale": 1, "crashed": 1,
    }  # fmt: skip
    assert told["workers"][0]["first_seen"] == "2026-01-01T00:00:00Z"
