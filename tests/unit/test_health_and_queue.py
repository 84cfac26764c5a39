"""Health and the queue's service over stand-ins that fail, hang and recover."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.exceptions import (
    DatabaseSchemaError,
    QueueDisabledError,
    ServiceUnavailableError,
)
from dsa110_contimg.api.queries import schema
from dsa110_contimg.api.services.absurd import AbsurdServices
from dsa110_contimg.api.services.health_service import HealthMonitor, free_space


class Schema:
    """Knows the state of a database: fine, failing or hanging."""

    def __init__(self, error: Exception | None = None, hangs: bool = False) -> None:
        self.error = error
        self.hangs = hangs

    async def get_revision(self) -> str | None:
        """Return the revision."""
        return "0001"

    async def is_read_only(self) -> bool:
        return False

    async def require_current(self) -> None:
        """Fail, hang or do nothing."""
        if self.hangs:
            await asyncio.sleep(60)
        if self.error:
            raise self.error


async def queue_is_well() -> dict[str, str]:
    return {"status": "healthy", "message": "", "queue": "q"}


def monitor(tmp_path: Path, schema: Schema, queue_check: Any = queue_is_well) -> HealthMonitor:
    (tmp_path / "products").mkdir(exist_ok=True)
    config = APIConfig.from_env(
        {
            "DSA110_STATE_DIR": str(tmp_path),
            "REDIS_URL": "redis://127.0.0.1:9/0", "DSA110_TIMEOUT_HEALTH_CHECK": "0.3",
        }
    )  # fmt: skip
    return HealthMonitor(config, schema, queue_check)


async def test_all_is_well_without_redis(tmp_path: Path) -> None:
    told = await monitor(tmp_path, Schema()).detailed()
    assert (told["databases"], told["redis"]["status"]) == (
        dict.fromkeys(("products", "cal_registry", "hdf5", "ingest"), "ok"),
        "unavailable",
    )
    free = told["disk"][str(tmp_path / "products")]
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
    missing = free_space(tmp_path / "none")
    assert (missing["status"], "mount it" in missing["message"]) == ("error", True)
    assert free_space(tmp_path)["free_gb"] > 0


async def test_a_queue_that_is_switched_off_says_so() -> None:
    services = AbsurdServices.over(None, "q")
    assert (await services.monitoring.health())["status"] == "disabled"
    assert (await services.monitoring.detailed_health())["status"] == "disabled"
    with pytest.raises(QueueDisabledError, match="not enabled"):
        await services.queues.names()
    with pytest.raises(QueueDisabledError):
        services.events.require_enabled()
    assert (await services.monitoring.prometheus()).startswith("# ")


async def test_a_queue_that_is_down_is_asked_once_a_second_and_the_others_are_answered_at_once() -> None:
    nowhere = AbsurdConfig(enabled=True, database_url="postgresql://nobody:secret@127.0.0.1:9/none")
    client = AbsurdClient(nowhere, Database(nowhere.database_url, "test", patience_s=0.1))
    services = AbsurdServices.over(client, "q")
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        await services.queues.names()
    for _ in range(3):
        health = await services.monitoring.health()
        assert (health["status"], health["database_available"]) == ("error", False)
        assert "secret" not in health["message"]
    await services.gateway.close()


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        (None, "run `dsa110 db upgrade`"),
        ("0009", "run `dsa110 db upgrade`"),
        ("f00d", "run `dsa110 db upgrade`"),
        ("0011", "restart this process"),
        ("0012_serves_0011", "restart this process"),
        ("0012_serves_", "restart this process"),
        ("0009_serves_0008", "run `dsa110 db upgrade`"),
    ],
)
def test_a_database_of_another_version_is_refused_with_what_helps(found: str | None, remedy: str) -> None:
    for served in ("0010", "0011_serves_0010", "0012_serves_0009"):
        schema.require(served, "0010")
        schema.require(served, "0010_serves_0009" if served != "0010" else served)
    with pytest.raises(DatabaseSchemaError, match=remedy) as caught:
        schema.require(found, "0010")
    assert ("restart the API" in caught.value.to_body()["action"]) is (remedy == "restart this process")
