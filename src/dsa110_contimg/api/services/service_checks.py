"""Checks of the services that are known by a word, from what this process has anyway."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.exceptions import QueueDisabledError
from dsa110_contimg.api.interfaces import SchemaRepositoryProtocol
from dsa110_contimg.api.services.absurd.monitoring import MonitoringService
from dsa110_contimg.api.services.health_service import HealthMonitor
from dsa110_contimg.api.services_monitor import Check, DegradedError

_POSTGRESQL_PORT = 5432
_REDIS_PORT = 6379


class ServiceChecks:
    """The checks of one process."""

    def __init__(
        self, config: APIConfig, health: HealthMonitor, schema: SchemaRepositoryProtocol, queue: MonitoringService
    ) -> None:
        self._config = config
        self._health = health
        self._schema = schema
        self._queue = queue

    def known(self, queue_url: str | None) -> dict[str, tuple[int, Check]]:
        """Return port and check of each word that applies; ``queue_url`` is None when the queue is switched off."""
        config = self._config
        found: dict[str, tuple[int, Check]] = {
            "self": (config.server.port, self.this),
            "redis": (urlsplit(config.redis.url).port or _REDIS_PORT, self.redis),
            "disk": (0, self.disk),
        }
        own = config.database.postgresql_url if config.database.backend == "postgresql" else None
        if url := queue_url or own:
            found["postgresql"] = (urlsplit(url).port or _POSTGRESQL_PORT, self.postgresql)
        if queue_url:
            found["absurd"] = (0, self.workers)
        return found

    async def this(self) -> Mapping[str, Any]:
        """Return what the API says of itself."""
        return self._health.summary()

    async def redis(self) -> None:
        """Send PING."""
        limit = self._config.timeouts.redis_socket
        link = redis.asyncio.Redis.from_url(
            self._config.redis.url, socket_timeout=limit, socket_connect_timeout=limit, retry=Retry(NoBackoff(), 0)
        )
        async with link:
            try:
                await link.ping()
            except AuthenticationError as error:
                raise DegradedError(str(error)) from error
            except redis.exceptions.TimeoutError as error:
                raise TimeoutError from error
            except redis.exceptions.ConnectionError as error:
                raise ConnectionRefusedError from error

    async def postgresql(self) -> None:
        """Read from the products database if it is there, and ask the queue's."""
        if self._config.database.backend == "postgresql":
            await self._schema.get_revision()
        told = await self._queue.presence()
        if told["status"] == "error":
            raise ConnectionError(str(told["message"]))

    async def workers(self) -> Mapping[str, Any]:
        """Return how many workers are in which state."""
        try:
            told = await self._queue.workers()
        except QueueDisabledError as error:
            raise ConnectionRefusedError from error
        numbers = {key: told[key] for key in ("total", "active", "idle", "stale", "crashed")}
        if not told["active"] + told["idle"]:
            raise DegradedError("no worker beats")
        return numbers

    async def disk(self) -> Mapping[str, Any]:
        """Return the free space of each directory."""
        disks = await self._health.disks()
        short = [f"{path}: {disk['status']}" for path, disk in disks.items() if disk["status"] in ("critical", "error")]
        if short:
            raise DegradedError("; ".join(short))
        return disks
