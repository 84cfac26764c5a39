"""Workers."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Response

from dsa110_contimg.api.authorization import ScopedRoute, require_scope
from dsa110_contimg.api.dependencies import QueueMonitor
from dsa110_contimg.api.queue_schemas import monitoring as schemas
from dsa110_contimg.api.queue_schemas.requests import Name
from dsa110_contimg.api.queue_schemas.tasks import Message
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of

router = router_of("/absurd", "task queue", ScopedRoute)

WorkerId = Annotated[Name, Path()]


@router.get("/workers", response_model=schemas.WorkerList)
async def list_workers(service: QueueMonitor) -> Response:
    """List the workers that have not left."""
    return json_reply(await service.workers())


@router.get("/workers/metrics", response_model=schemas.WorkerMetrics)
async def get_worker_metrics(service: QueueMonitor) -> Response:
    """Return how many workers are in which state, and what they carry."""
    return json_reply(await service.worker_metrics())


@router.get("/workers/{worker_id}", response_model=schemas.WorkerView)
async def get_worker(service: QueueMonitor, worker_id: WorkerId) -> Response:
    """Return one worker."""
    return json_reply(await service.worker(worker_id))


@router.post("/workers/{worker_id}/heartbeat", response_model=schemas.Heartbeat, dependencies=[require_scope("worker")])
async def beat(service: QueueMonitor, worker_id: WorkerId, task_id: UUID | None = None) -> Response:
    """Keep the beat of a registered worker; what it runs is known from its claims, so `task_id` adds nothing."""
    return json_reply(await service.beat(worker_id))


@router.post("/workers/{worker_id}/drain", response_model=Message, dependencies=[require_scope("ops")])
async def drain_worker(service: QueueMonitor, worker_id: WorkerId) -> Response:
    """Have a worker finish what it runs and stop."""
    return json_reply(await service.drain(worker_id))
