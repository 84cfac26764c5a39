"""Runs of the pipeline: the list, one run, what it used and made."""

from fastapi import APIRouter, Request, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.dependencies import JobService, ProvenanceService
from dsa110_contimg.api.replies import json_reply, page_reply
from dsa110_contimg.api.validation import Limit, Offset, StrictRoute

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=StrictRoute)


@router.get("", response_model=list[schemas.JobListItem])
async def list_jobs(request: Request, service: JobService, limit: Limit = 100, offset: Offset = 0) -> Response:
    """List runs, newest first; ``X-Total-Count`` has the number of all, ``Link`` the next page."""
    rows, total = await service.list_jobs(limit, offset)
    return page_reply(rows, total, request.url.path, limit, offset)


@router.get("/{run_id}", response_model=schemas.JobDetail)
async def get_job(run_id: str, service: JobService) -> Response:
    """Return one run, by exactly its id."""
    return json_reply(await service.get_job(run_id))


@router.get("/{run_id}/provenance", response_model=schemas.Provenance)
async def get_job_provenance(run_id: str, service: ProvenanceService) -> Response:
    """Return what a run used and made."""
    return json_reply(await service.of_job(run_id))
