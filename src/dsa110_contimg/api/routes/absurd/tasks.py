"""Tasks."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, Response

from dsa110_contimg.api.authorization import require_scope
from dsa110_contimg.api.dependencies import Tasks
from dsa110_contimg.api.idempotency import WorkRoute
from dsa110_contimg.api.queue_schemas import tasks as schemas
from dsa110_contimg.api.queue_schemas.requests import Name, TaskCreate, TaskWithDeps
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.services.absurd.tasks import TaskFilter
from dsa110_contimg.api.validation import Limit

router = router_of("/absurd", "task queue", WorkRoute)

_WRITES = [require_scope("write:jobs")]
IdempotencyKey = Annotated[Name | None, Header(description="the same key gives the same task")]


async def wanted_tasks(
    queue_name: Name | None = None, status: schemas.Status | None = None, task_name: Name | None = None,
    workflow_id: UUID | None = None,
    after: Annotated[UUID | None, Query(description="id of the last task of the page before")] = None,
) -> TaskFilter:  # fmt: skip
    """Return which tasks are asked for."""
    return TaskFilter(queue_name, status, task_name, workflow_id, after)


@router.get("/tasks", response_model=schemas.TaskList)
async def list_tasks(
    service: Tasks, wanted: Annotated[TaskFilter, Depends(wanted_tasks)], limit: Limit = 100
) -> Response:
    """List tasks, newest first."""
    return json_reply(await service.list_tasks(wanted, limit))


@router.post("/tasks", response_model=schemas.TaskCreated, dependencies=_WRITES)
async def spawn_task(service: Tasks, task: TaskCreate, idempotency_key: IdempotencyKey = None) -> Response:
    """Spawn a task; it is durable when this answers."""
    return json_reply(await service.spawn(task, idempotency_key))


@router.post("/spawn", response_model=schemas.TaskCreated, dependencies=_WRITES)
async def spawn(service: Tasks, task: TaskCreate, idempotency_key: IdempotencyKey = None) -> Response:
    """Spawn a task: the same as `POST /tasks`."""
    return json_reply(await service.spawn(task, idempotency_key))


@router.post("/tasks/with-deps", response_model=schemas.TaskWithDepsCreated, dependencies=_WRITES)
async def spawn_task_with_deps(service: Tasks, task: TaskWithDeps, idempotency_key: IdempotencyKey = None) -> Response:
    """Spawn a task that starts when others have completed."""
    return json_reply(await service.spawn_with_deps(task, idempotency_key))


@router.get("/tasks/{task_id}", response_model=schemas.TaskView)
async def get_task(service: Tasks, task_id: UUID) -> Response:
    """Return one task."""
    return json_reply(await service.get(task_id))


@router.delete("/tasks/{task_id}", response_model=schemas.Message, dependencies=_WRITES)
async def cancel_task(service: Tasks, task_id: UUID) -> Response:
    """Cancel a task that has not ended; one that runs is stopped."""
    return json_reply(await service.cancel(task_id))


@router.post("/tasks/{task_id}/retry", response_model=schemas.TaskChanged, dependencies=_WRITES)
async def retry_task(service: Tasks, task_id: UUID) -> Response:
    """Run a failed or cancelled task again, with the tasks that its end had skipped."""
    return json_reply(await service.retry(task_id))
