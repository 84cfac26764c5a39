"""ABSURD, the durable task queue, read only. Everything but its health is 503 while it is down or switched off."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.dependencies import TaskQueue
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.validation import Limit, StrictRoute

router = APIRouter(prefix="/absurd", tags=["task queue"], route_class=StrictRoute)

Status = Literal["blocked", "pending", "claimed", "retrying", "completed", "failed", "cancelled", "skipped"]


@router.get("/tasks", response_model=schemas.TaskList)
async def list_tasks(
    service: TaskQueue,
    queue_name: Annotated[str | None, Query(max_length=200)] = None,
    status: Status | None = None,
    limit: Limit = 100,
) -> Response:
    """List tasks, newest first."""
    return json_reply(await service.list_tasks(queue_name, status, limit))


@router.get("/tasks/{task_id}", response_model=schemas.TaskView)
async def get_task(task_id: UUID, service: TaskQueue) -> Response:
    """Return one task."""
    return json_reply(await service.get_task(task_id))


@router.get("/queues", response_model=list[str])
async def list_queues(service: TaskQueue) -> Response:
    """List the names of the queues."""
    return json_reply(await service.list_queues())


@router.get("/queues/stats", response_model=list[schemas.QueueStatsView])
async def list_queue_stats(service: TaskQueue) -> Response:
    """Return how many tasks of each queue are in which state."""
    return json_reply(await service.list_queue_stats())


@router.get("/queues/{name}/stats", response_model=schemas.QueueStatsView)
async def get_queue_stats(name: str, service: TaskQueue) -> Response:
    """Return how many tasks of a queue are in which state; zeros for a name that no task has."""
    return json_reply(await service.get_queue_stats(name))


@router.get("/health", response_model=schemas.QueueHealth)
async def get_queue_health(service: TaskQueue) -> Response:
    """Return whether the queue is enabled and answers; this works while it is down."""
    return json_reply(await service.health())


@router.get("/workers", response_model=schemas.WorkerList)
async def list_workers(service: TaskQueue) -> Response:
    """List the workers of the queue."""
    return json_reply(await service.list_workers())


@router.get("/workflows/{workflow_id}", response_model=schemas.WorkflowView)
async def get_workflow(workflow_id: UUID, service: TaskQueue) -> Response:
    """Return a workflow with its tasks and the edges between them."""
    return json_reply(await service.get_workflow(workflow_id))
