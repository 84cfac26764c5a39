"""Health of the service and of what it depends on; one of the three places that may catch everything.

Each check has a time limit of its own and all run at once, so that one part that hangs neither delays nor hides the
others. A failed check is a result, not an error.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import redis.asyncio
from redis import RedisError

from dsa110_contimg import __version__
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.exceptions import ServiceUnavailableError
from dsa110_contimg.api.interfaces import SchemaRepositoryProtocol
from dsa110_contimg.api.replies import iso_time

SERVICE_NAME = "dsa110-contimg-api"
_GIB = 1 << 30
_MUCH_BYTES = 5 * _GIB
_LITTLE_BYTES = _GIB

Check = Callable[[], Awaitable[Any]]


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

    def summary(self) -> dict[str, Any]:
        """Return what can be said without asking anybody."""
        return {
            "status": "healthy",
            "service": SERVICE_NAME,
            "version": __version__,
            "api_version": "v1",
            "timestamp": iso_time(round(time.time(), 3)),
        }

    async def detailed(self) -> dict[str, Any]:
        """Return the state of databases, Redis, disks and queue; ``degraded`` if one of them is not well."""
        checks = {"products": self._database, "redis": self._redis, "disk": self._disk, "absurd": self.queue_check}
        found = dict(zip(checks, await asyncio.gather(*map(self._ask, checks.values())), strict=True))
        parts = {
            "databases": {"products": _word(found["products"])},
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

    async def _ask(self, check: Check) -> Any:
        """Return a check's answer, or the exception that it ended with."""
        try:
            return await asyncio.wait_for(check(), self.config.timeouts.health_check)
        except TimeoutError:
            return TimeoutError(f"no answer within {self.config.timeouts.health_check:g} s")
        except Exception as error:  # noqa: BLE001 - a check may fail in any way and must not take the others with it
            return error

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

    async def _disk(self) -> dict[str, dict[str, Any]]:
        directories = dict.fromkeys((self.config.paths.state_dir, self.config.paths.products_dir))
        return {str(path): await asyncio.to_thread(free_space, path) for path in directories}


def free_space(directory: Path) -> dict[str, Any]:
    """Return the free space of the file system of a directory and whether it is enough: ``ok`` above 5 GiB."""
    try:
        found = os.statvfs(directory)
    except OSError as error:
        return {"free_gb": None, "status": "error", "message": str(error)}
    free = found.f_bavail * found.f_frsize
    status = "ok" if free > _MUCH_BYTES else "warning" if free > _LITTLE_BYTES else "critical"
    return {"free_gb": round(free / _GIB, 2), "status": status}


def _word(answer: Any) -> str:
    return f"error: {answer}" if isinstance(answer, BaseException) else str(answer)


def _report(answer: Any) -> dict[str, Any]:
    if isinstance(answer, BaseException):
        return {"status": "error", "message": str(answer) or type(answer).__name__}
    return dict(answer)


def _is_well(parts: Mapping[str, Any]) -> bool:
    """Redis may be missing (nothing but pictures in advance depends on it), the queue may be switched off."""
    return (
        all(word == "ok" for word in parts["databases"].values())
        and parts["redis"]["status"] in ("ok", "unavailable")
        and all(disk["status"] in ("ok", "warning") for disk in parts["disk"].values())
        and parts["absurd"]["status"] in ("healthy", "disabled")
    )
