"""Tasks: spawn them, look at them, cancel and retry them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dsa110_contimg.api.exceptions import InvalidStateError
from dsa110_contimg.api.queue_schemas.requests import TaskCreate
from dsa110_contimg.api.services.absurd.gateway import QueueGateway, Row, next_after, utc

_KEYS = (
    "task_id", "queue_name", "task_name", "params", "priority", "status", "created_at", "claimed_at", "completed_at",
    "result", "error", "retry_count", "workflow_id", "worker_id", "progress", "progress_message",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks of a list are wanted."""

    queue_name: str | None = None
    status: str | None = None
    name: str | None = None
    workflow_id: UUID | None = None
    after: UUID | None = None


class TaskService:
    """Everything that is done to single tasks."""

    def __init__(self, gateway: QueueGateway) -> None:
        self._gateway = gateway

    async def list_tasks(self, wanted: TaskFilter, limit: int) -> Row:
        """Return the newest tasks first."""
        rows = await self._gateway.ask(
            lambda client: client.list_tasks(
                wanted.queue_name, wanted.status, limit, name=wanted.name, workflow_id=wanted.workflow_id,
                after=wanted.after,
            )
        )  # fmt: skip
        return {"tasks": [task_view(row) for row in rows], "total": len(rows), "next_after": next_after(rows, limit)}

    async def get(self, task_id: UUID) -> Row:
        """Return one task."""
        return task_view(await self._gateway.find("Task", task_id, lambda client: client.get_task(task_id)))

    async def spawn(self, task: TaskCreate, idempotency_key: str | None = None) -> Row:
        """Spawn a task and return its id; durable when this returns.

        Raises
        ------
        InvalidStateError
            The idempotency key belongs to another task.
        RecordNotFoundError
            There is no such workflow.
        """
        key = task.idempotency_key or idempotency_key
        if task.workflow_id is not None:
            workflow_id = task.workflow_id
            await self._gateway.find("Workflow", workflow_id, lambda client: client.has_workflow(workflow_id))
        task_id = await self._gateway.ask(
            lambda client: client.spawn(
                task.task_name, task.params, queue=task.queue_name, priority=task.priority,
                timeout_sec=task.timeout_sec, max_retries=task.max_retries, depends_on=task.depends_on,
                workflow_id=task.workflow_id, run_at=task.run_at, idempotency_key=key,
                concurrency_key=task.concurrency_key, fair_key=task.fair_key, headers=task.headers,
            )
        )  # fmt: skip
        if key is not None:
            await self._require_same(task_id, task, key)
        return {"task_id": str(task_id)}

    async def _require_same(self, task_id: UUID, task: TaskCreate, key: str) -> None:
        """Refuse an idempotency key that was used for something else: that client would wait for the wrong task."""
        found = await self._gateway.ask(lambda client: client.get_task(task_id))
        if found and (found["task_name"], found["params"]) != (task.task_name, task.params):
            raise InvalidStateError(
                f"the idempotency key {key!r} belongs to the task {task_id} ({found['task_name']}), "
                "which has another name or other parameters; send another key",
                {"task_id": str(task_id)},
            )

    async def spawn_with_deps(self, task: TaskCreate, idempotency_key: str | None = None) -> Row:
        """Spawn a task that waits for others."""
        spawned = await self.spawn(task, idempotency_key)
        parents = [str(parent) for parent in task.depends_on]
        message = f"{task.task_name} waits for {len(parents)} tasks" if parents else f"{task.task_name} waits for none"
        workflow_id = task.workflow_id and str(task.workflow_id)
        return {**spawned, "depends_on": parents, "workflow_id": workflow_id, "message": message}

    async def cancel(self, task_id: UUID) -> Row:
        """Cancel a task that has not ended; one that runs is asked to stop, and killed when it does not."""
        if not await self._gateway.ask(lambda client: client.cancel_task(task_id)):
            await self._refuse(task_id, "has ended and cannot be cancelled")
        return {"message": f"Task {task_id} is cancelled"}

    async def retry(self, task_id: UUID) -> Row:
        """Run a failed or cancelled task again."""
        if not await self._gateway.ask(lambda client: client.retry_task(task_id)):
            await self._refuse(task_id, "is neither failed nor cancelled and cannot be run again")
        return {"task_id": str(task_id), "message": f"Task {task_id} runs again"}

    async def _refuse(self, task_id: UUID, reason: str) -> None:
        row = await self._gateway.find("Task", task_id, lambda client: client.get_task(task_id))
        raise InvalidStateError(f"Task {task_id} {reason}: it is {row['status']}", {"status": row["status"]})


def task_view(row: Mapping[str, Any]) -> Row:
    """Return a task as the contract has it."""
    return utc({key: row[key] for key in _KEYS})
