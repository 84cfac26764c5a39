"""The durable task queue as the API shows it; read only.

When the queue is switched off or its database is down, every question is answered with 503 and the rest of the API
goes on; the connection is tried again with the next question.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar
from uuid import UUID

from dsa110_contimg.absurd.connection import AbsurdError
from dsa110_contimg.absurd.monitoring import worker_state
from dsa110_contimg.api.exceptions import QueueDisabledError, RecordNotFoundError, ServiceUnavailableError

Row = dict[str, Any]
Answer = TypeVar("Answer")

_TASK_KEYS = (
    "task_id", "queue_name", "task_name", "params", "priority", "status", "created_at", "claimed_at", "completed_at",
    "result", "error", "retry_count", "workflow_id", "worker_id", "progress", "progress_message",
)  # fmt: skip
_TIMES = ("created_at", "claimed_at", "completed_at")
_STATES = ("active", "idle", "stale", "crashed")
_ENDED = frozenset({"completed", "failed", "cancelled", "skipped"})
_CONNECT_LIMIT_S = 1.5
_AGAIN_AFTER_S = 1.0


class TaskQueueProtocol(Protocol):
    """What is asked of the client of the queue (``absurd.client.AbsurdClient``)."""

    async def connect(self) -> None:
        """Open the connections."""

    async def close(self) -> None:
        """Close the connections."""

    async def get_task(self, task_id: UUID) -> Row | None:
        """Return a task, or None."""

    async def list_tasks(self, queue_name: str | None = None, status: str | None = None, limit: int = 100) -> list[Row]:
        """Return the newest tasks first."""

    async def get_workflow(self, workflow_id: UUID) -> Row | None:
        """Return a workflow with its tasks, or None."""

    async def get_queue_stats(self, queue: str) -> Row:
        """Return how many tasks of a queue are in each state."""

    async def list_queue_stats(self) -> list[Row]:
        """Return the same for all queues."""

    async def list_workers(self) -> list[Row]:
        """Return the workers."""


class AbsurdService:
    """Answers questions about the durable queue.

    Parameters
    ----------
    client
        Client of the queue; None when the queue is switched off.
    queue_name : str
        The queue that health speaks of.
    """

    def __init__(self, client: TaskQueueProtocol | None, queue_name: str) -> None:
        self.client = client
        self.queue_name = queue_name
        self._connected = False
        self._failed: tuple[float, str] = (float("-inf"), "")
        self._connecting = asyncio.Lock()

    async def list_tasks(self, queue_name: str | None, status: str | None, limit: int) -> Row:
        """Return the newest tasks first."""
        rows = await self._ask(lambda client: client.list_tasks(queue_name, status, limit))
        return {"tasks": [task_view(row) for row in rows], "total": len(rows)}

    async def get_task(self, task_id: UUID) -> Row:
        """Return one task."""
        row = await self._ask(lambda client: client.get_task(task_id))
        if row is None:
            raise RecordNotFoundError("Task", str(task_id))
        return task_view(row)

    async def list_queues(self) -> list[str]:
        """Return the names of the queues that have or had tasks."""
        return [row["queue_name"] for row in await self.list_queue_stats()]

    async def list_queue_stats(self) -> list[Row]:
        """Return how many tasks of each queue are in which state."""
        return await self._ask(lambda client: client.list_queue_stats())

    async def get_queue_stats(self, name: str) -> Row:
        """Return the same for one queue; zeros for a name that no task has."""
        return await self._ask(lambda client: client.get_queue_stats(name))

    async def list_workers(self) -> Row:
        """Return the workers that have not left, and how many are in which state."""
        rows = await self._ask(lambda client: client.list_workers())
        workers = [_worker_view(row) for row in rows if row["state"] != "stopped"]
        numbers = {state: sum(worker["state"] == state for worker in workers) for state in _STATES}
        return {"workers": workers, "total": len(workers), **numbers}

    async def get_workflow(self, workflow_id: UUID) -> Row:
        """Return a workflow with its tasks in the order of its DAG."""
        found = await self._ask(lambda client: client.get_workflow(workflow_id))
        if found is None:
            raise RecordNotFoundError("Workflow", str(workflow_id))
        return _workflow_view(found)

    async def health(self) -> Row:
        """Return whether the queue can be asked: ``healthy``, ``disabled`` or ``error``; never raises for these."""
        if self.client is None:
            return {"status": "disabled", "message": QueueDisabledError().message, "queue": None}
        try:
            await self.get_queue_stats(self.queue_name)
        except ServiceUnavailableError as error:
            return {"status": "error", "message": error.message, "queue": self.queue_name}
        return {"status": "healthy", "message": "the queue answers", "queue": self.queue_name}

    async def close(self) -> None:
        """Close the connection."""
        if self.client is not None:
            await self.client.close()

    async def _ask(self, question: Callable[[TaskQueueProtocol], Awaitable[Answer]]) -> Answer:
        """Ask the queue, over a connection that is opened when it is first needed."""
        if self.client is None:
            raise QueueDisabledError
        try:
            await self._connect(self.client)
            return await question(self.client)
        except (AbsurdError, TimeoutError) as error:
            self._failed = (time.monotonic(), str(error) or "no answer in time")
            raise ServiceUnavailableError("ABSURD", self._failed[1]) from error

    async def _connect(self, client: TaskQueueProtocol) -> None:
        """Open the connection; when that has just failed, say so at once instead of making everybody wait."""
        async with self._connecting:
            if self._connected:
                return
            if time.monotonic() - self._failed[0] < _AGAIN_AFTER_S:
                raise ServiceUnavailableError("ABSURD", self._failed[1])
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                await client.connect()
            self._connected = True


def task_view(row: Mapping[str, Any]) -> Row:
    """Return a task as the contract has it."""
    return {key: _utc(row[key]) if key in _TIMES else row[key] for key in _TASK_KEYS}


def _worker_view(row: Mapping[str, Any]) -> Row:
    return {
        "worker_id": row["worker_id"],
        "state": worker_state(row),
        "task_count": len(row["task_ids"]),
        "current_task_id": row["task_ids"][0] if row["task_ids"] else None,
        "first_seen": _utc(row["started_at"]),
        "last_seen": _utc(row["beat_at"]),
        "uptime_seconds": row["uptime_s"],
    }


def _workflow_view(found: Mapping[str, Any]) -> Row:
    tasks = found["tasks"]
    statuses = [task["status"] for task in tasks]
    counts = {"total": len(tasks)} | {status: statuses.count(status) for status in sorted(set(statuses))}
    ended = [task["completed_at"] for task in tasks if task["completed_at"]]
    began = [task["claimed_at"] for task in tasks if task["claimed_at"]]
    done = sum(status in _ENDED for status in statuses)
    return {
        "workflow_id": found["workflow_id"],
        "name": found["name"],
        "description": (found.get("metadata") or {}).get("description"),
        "status": found["status"],
        "created_at": _utc(found["created_at"]),
        "started_at": _utc(min(began, default=None)),
        "completed_at": _utc(max(ended, default=None)) if done == len(tasks) else None,
        "tasks": [_workflow_task(task) for task in tasks],
        "counts": counts,
        "dag_edges": [[parent, task["task_id"]] for task in tasks for parent in task["depends_on"]],
        "progress": round(100.0 * done / len(tasks), 1) if tasks else 0.0,
    }


def _workflow_task(task: Mapping[str, Any]) -> Row:
    return {key: task[key] for key in ("task_id", "task_name", "status", "depends_on", "result", "error")}


def _utc(moment: str | None) -> str | None:
    """Write UTC as Z, as everywhere in the API."""
    return moment.replace("+00:00", "Z") if moment else None
