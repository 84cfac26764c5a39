"""Health of the service and of what it depends on.

Each check has a time limit of its own and all run at once, so that one part that hangs neither delays nor hides the
others. A failed check is a result, not an error.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis.asyncio
from redis import RedisError

from dsa110_contimg import __version__
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.exceptions import ServiceUnavailableError
from dsa110_contimg.api.interfaces import SchemaRepositoryProtocol
from dsa110_contimg.api.kept import Kept
from dsa110_contimg.api.replies import iso_now
from dsa110_contimg.api.services_monitor import Check, ask, said

SERVICE_NAME = "dsa110-contimg-api"
_GIB = 1 << 30
_DISK_LIFE_S = 1.0
_MUCH_BYTES = 5 * _GIB
_LITTLE_BYTES = _GIB


class HealthMonitor:
    """Asks every part how it is.

    Parameters
    ----------
    config : APIConfig
        Timeouts, directories, address of Redis.
    schema
        Knows whether the products database can be used.
    queue_check
        Asks the durable queue; returns ``{"status", "message"}``.
    """

    def __init__(self, config: APIConfig, schema: SchemaRepositoryProtocol, queue_check: Check) -> None:
        self.config = config
        self.schema = schema
        self.queue_check = queue_check
        self._disks: Kept[dict[str, dict[str, Any]]] = Kept(self._measure_disks, _DISK_LIFE_S)

    def summary(self) -> dict[str, Any]:
        """Return what can be said without asking anybody."""
        return {
            "status": "healthy",
            "service": SERVICE_NAME,
            "version": __version__,
            "api_version": "v1",
            "timestamp": iso_now(),
        }

    async def detailed(self) -> dict[str, Any]:
        """Return the state of databases, Redis, disks and queue; ``degraded`` if one of them is not well."""
        checks = {"products": self._database, "redis": self._redis, "disk": self.disks, "absurd": self.queue_check}
        found = dict(
            zip(
                checks,
                await asyncio.gather(*(ask(check, self.config.timeouts.health_check) for check in checks.values())),
                strict=True,
            )
        )
        parts = {
            "databases": _databases(_word(found["products"]), _report(found["absurd"])),
            "redis": _report(found["redis"]),
            "disk": found["disk"] if isinstance(found["disk"], Mapping) else {"all": _report(found["disk"])},
            "absurd": _report(found["absurd"]),
        }
        return self.summary() | {"status": "healthy" if _is_well(parts) else "degraded"} | parts

    async def ready(self) -> dict[str, Any]:
        """Return that the service can serve.

        Raises
        ------
        ServiceUnavailableError
            The database does not answer in time.
        DatabaseError
            It cannot be used; an unmigrated one says so.
        """
        try:
            async with asyncio.timeout(self.config.timeouts.health_check):
                await self.schema.require_current()
                return {
                    "status": "ready",
                    "schema_revision": await self.schema.get_revision(),
                    "read_only": await self.schema.is_read_only(),
                }
        except TimeoutError as error:
            raise ServiceUnavailableError("products database", "no answer in time") from error

    async def _database(self) -> str:
        await self.schema.require_current()
        return "ok"

    async def _redis(self) -> dict[str, str]:
        limit = self.config.timeouts.redis_socket
        async with redis.asyncio.Redis.from_url(
            self.config.redis.url, socket_timeout=limit, socket_connect_timeout=limit
        ) as link:
            try:
                return {"status": "ok", "version": str((await link.info("server"))["redis_version"])}
            except RedisError as error:
                return {"status": "unavailable", "message": str(error)}

    async def disks(self) -> dict[str, dict[str, Any]]:
        """Return the free space of each directory; one that hangs holds one thread, however often it is asked."""
        return await self._disks.get()

    async def _measure_disks(self) -> dict[str, dict[str, Any]]:
        directories = dict.fromkeys((self.config.paths.state_dir, self.config.paths.products_dir))
        return {str(path): await asyncio.to_thread(free_space, path) for path in directories}


def free_space(directory: Path) -> dict[str, Any]:
    """Return the free space of the file system of a directory and whether it is enough: ``ok`` above 5 GiB."""
    try:
        found = os.statvfs(directory)
    except FileNotFoundError:
        missing = "it does not exist; mount it, or leave it to the first product to make it"
        return {"free_gb": None, "status": "error", "message": missing}
    except OSError as error:
        return {"free_gb": None, "status": "error", "message": error.strerror}
    free = found.f_bavail * found.f_frsize
    status = "ok" if free > _MUCH_BYTES else "warning" if free > _LITTLE_BYTES else "critical"
    return {"free_gb": round(free / _GIB, 2), "status": status}


def _databases(products: str, queue: Mapping[str, Any]) -> dict[str, str]:
    """Return the state of the four databases of the earlier pipeline: three are tables of ours, one is the queue."""
    words = {"healthy": "ok", "disabled": "not_found"}
    ingest = words.get(queue["status"]) or f"error: {queue['message']}"
    return {"products": products, "cal_registry": products, "hdf5": products, "ingest": ingest}


def _word(answer: Any) -> str:
    return f"error: {said(answer)}" if isinstance(answer, BaseException) else str(answer)


def _report(answer: Any) -> dict[str, Any]:
    if isinstance(answer, BaseException):
        return {"status": "error", "message": said(answer)}
    return dict(answer)


def can_serve(told: Mapping[str, Any]) -> bool:
    """Tell whether a detailed answer says that the products can be served at all."""
    return bool(told["databases"]["products"] == "ok")


def _is_well(parts: Mapping[str, Any]) -> bool:
    """Redis may be missing (replies are not kept then), the queue may be switched off."""
    return (
        can_serve(parts)
        and parts["redis"]["status"] in ("ok", "unavailable")
        and all(disk["status"] in ("ok", "warning") for disk in parts["disk"].values())
        and parts["absurd"]["status"] in ("healthy", "disabled")
    )
