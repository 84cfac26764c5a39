"""What happens in the queue, as messages for those who watch."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from dsa110_contimg.api.exceptions import QueueDisabledError, ServiceUnavailableError
from dsa110_contimg.api.services.absurd.gateway import QueueGateway, Row, with_z

_FRESH_S = 0.5
_SHOWN = ("status", "attempt", "progress", "message", "error", "worker_id")


class QueueEvents:
    """Follows the queue's event log and counts its queues, once for all who watch."""

    def __init__(self, gateway: QueueGateway) -> None:
        self._gateway = gateway
        self._counted: dict[str, tuple[float, Row | None]] = {}
        self._counting = asyncio.Lock()

    @property
    def enabled(self) -> bool:
        """Whether there is a durable queue."""
        return self._gateway.client is not None

    def require_enabled(self) -> None:
        """Refuse to watch a queue that is switched off.

        Raises
        ------
        QueueDisabledError
            It is.
        """
        if self._gateway.client is None:
            raise QueueDisabledError

    async def follow(self, after: str | None) -> AsyncGenerator[Row, None]:
        """Give messages as things happen, first those that followed the message of the id ``after``.

        ``{"type": "listening"}``: from now on everything is told. ``{"type": "resync"}``: something may be missing,
        read the tables. ``{"type": "task_update"}``: a task changed.
        """
        if self._gateway.client is None:
            raise QueueDisabledError
        async for update in self._gateway.client.listen(after):
            yield message(update)

    async def stats(self, queue: str) -> Row | None:
        """Return how many tasks of a queue are in which state, at most half a second old; None: it cannot be asked."""
        async with self._counting:
            at, found = self._counted.get(queue, (float("-inf"), None))
            if time.monotonic() - at < _FRESH_S:
                return found
            try:
                found = await self._gateway.ask(lambda client: client.get_queue_stats(queue))
            except ServiceUnavailableError:
                found = None
            self._counted[queue] = (time.monotonic(), found)
            return found


def message(update: Mapping[str, Any]) -> Row:
    """Return an update of the event log as those who watch read it."""
    if update["type"] != "task_update":
        return {"type": update["type"], "event_id": update.get("id")}
    return {
        "type": "task_update",
        "event_id": update["id"],
        "queue_name": update["queue"],
        "task_id": update["task_id"],
        "task_name": update["name"],
        "workflow_id": update.get("workflow_id"),
        "update": {key: update[key] for key in _SHOWN if update.get(key) is not None},
        "timestamp": with_z(update["happened_at"]),
    }
