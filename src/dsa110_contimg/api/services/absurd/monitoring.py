"""What the queue says about itself: health, workers, figures. Everything comes from its tables, nothing is invented."""

import asyncio
from collections.abc import Mapping
from typing import Any

from dsa110_contimg.absurd.health import present, worker_state
from dsa110_contimg.api.exceptions import QueueDisabledError, ServiceUnavailableError
from dsa110_contimg.api.services.absurd.gateway import QueueGateway, Row, utc, with_z

_STATES = ("active", "idle", "stale", "crashed")
_UNKNOWN: Row = {
    "queue_depth": None,
    "database_available": False,
    "worker_pool_healthy": False,
    "alerts": [],
    "warnings": [],
}


class MonitoringService:
    """Answers how the queue is.

    Parameters
    ----------
    gateway : QueueGateway
        Asks the queue.
    patience_s : float
        Longest wait for its health.
    """

    def __init__(self, gateway: QueueGateway, patience_s: float) -> None:
        self._gateway = gateway
        self._patience_s = patience_s

    async def health(self) -> Row:
        """Return whether the queue can be asked: ``healthy``, ``disabled`` or ``error``; never raises for these.

        The rest is that of the detailed verdict, which some clients read here.
        """
        told = await self.detailed_health()
        answers = told["status"] not in ("disabled", "error", "down")
        kept = {key: told[key] for key in _UNKNOWN}
        if answers:
            return {"status": "healthy", "message": "the queue answers", "queue": self._gateway.queue_name, **kept}
        disabled = told["status"] == "disabled"
        queue = None if disabled else self._gateway.queue_name
        return {"status": "disabled" if disabled else "error", "message": told["message"], "queue": queue, **kept}

    async def presence(self) -> Row:
        """Return whether the queue can be asked, and nothing else."""
        told = await self.health()
        return {key: told[key] for key in ("status", "message", "queue")}

    async def detailed_health(self) -> Row:
        """Return the verdict on the queue, with what it was judged by; never raises when it is down."""
        try:
            async with asyncio.timeout(self._patience_s):
                told = await self._gateway.ask(lambda client: client.monitor.health(self._gateway.queue_name))
        except TimeoutError:
            message = f"the queue's database does not answer within {self._patience_s:g} s"
            return {"status": "error", "message": message, **_UNKNOWN}
        except QueueDisabledError as error:
            return {"status": "disabled", "message": error.message, **_UNKNOWN}
        except ServiceUnavailableError as error:
            return {"status": "error", "message": error.message, **_UNKNOWN}
        return told | {key: [utc(notice) for notice in told[key]] for key in ("alerts", "warnings")}

    async def workers(self) -> Row:
        """Return the workers that have not left, and how many are in which state."""
        rows = await self._gateway.ask(lambda client: client.monitor.workers())
        workers = [_worker_view(row) for row in present(rows)]
        numbers = {state: sum(worker["state"] == state for worker in workers) for state in _STATES}
        return {"workers": workers, "total": len(workers), **numbers}

    async def worker(self, worker_id: str) -> Row:
        """Return one worker."""
        return _worker_view(await self._gateway.find("Worker", worker_id, lambda client: client.get_worker(worker_id)))

    async def worker_metrics(self) -> Row:
        """Return the figures of the workers."""
        return await self._gateway.ask(lambda client: client.monitor.worker_metrics())

    async def beat(self, worker_id: str) -> Row:
        """Keep the beat of a worker."""
        await self._gateway.find("Worker", worker_id, lambda client: client.beat(worker_id))
        return {"status": "ok", "worker_id": worker_id}

    async def drain(self, worker_id: str) -> Row:
        """Have a worker finish what it runs and stop."""
        await self._gateway.find("Worker", worker_id, lambda client: client.drain_worker(worker_id))
        return {"message": f"Worker {worker_id} finishes what it runs and stops"}

    async def metrics(self, queue: str | None) -> Row:
        """Return the figures of a queue, or of all."""
        return await self._gateway.ask(lambda client: client.monitor.metrics(queue))

    async def history(self, queue: str | None, hours: int, resolution: str) -> Row:
        """Return series of the past."""
        told = await self._gateway.ask(lambda client: client.monitor.history(queue, hours, resolution))
        return told | {"timestamps": [with_z(moment) for moment in told["timestamps"]]}

    async def prometheus(self) -> str:
        """Return all figures in the text form of Prometheus; one comment while the queue is switched off."""
        try:
            return await self._gateway.ask(lambda client: client.monitor.prometheus())
        except QueueDisabledError as error:
            return f"# {error.message}\n"

    async def status(self, queue: str | None) -> Row:
        """Return how far each stage is, with the workers."""
        return utc(await self._gateway.ask(lambda client: client.monitor.pipeline_status(queue)))


def _worker_view(row: Mapping[str, Any]) -> Row:
    task_ids = [task["task_id"] for task in row["tasks"]]
    return {
        "worker_id": row["worker_id"],
        "state": worker_state(row),
        "task_count": len(task_ids),
        "current_task_id": task_ids[0] if task_ids else None,
        "task_ids": task_ids,
        **{key: row[key] for key in ("queues", "host", "pid", "slots")},
        "first_seen": with_z(row["started_at"]),
        "last_seen": with_z(row["beat_at"]),
        "uptime_seconds": row["uptime_s"],
    }
