"""The RQ queue: jobs, one job, cancel."""

from typing import Annotated

from fastapi import Query, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.authorization import ScopedRoute, require_scope
from dsa110_contimg.api.dependencies import JobQueueService
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of

router = router_of("/queue", "job queue", ScopedRoute)

Status = Annotated[
    str | None,
    Query(max_length=20, description="queued, started, finished, failed, ...; any case", examples=["failed"]),
]


@router.get("", response_model=schemas.QueueStats)
async def get_queue(service: JobQueueService) -> Response:
    """Tell how many jobs are in which state, and how much accepted work waits for Redis."""
    return json_reply(await service.stats())


@router.get("/jobs", response_model=list[schemas.QueueJob])
async def list_queue_jobs(
    service: JobQueueService, status: Status = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Response:
    """List jobs, accepted work first, the newest first."""
    return json_reply(await service.list_jobs(status, limit))


@router.get("/jobs/{job_id}", response_model=schemas.QueueJob)
async def get_queue_job(job_id: str, service: JobQueueService) -> Response:
    """Return one job."""
    return json_reply(await service.get_job(job_id))


@router.post("/jobs/{job_id}/cancel", response_model=schemas.JobCanceled, dependencies=[require_scope("write:jobs")])
async def cancel_queue_job(job_id: str, service: JobQueueService) -> Response:
    """Cancel a job that has not ended; one that runs is stopped."""
    return json_reply(await service.cancel(job_id))
