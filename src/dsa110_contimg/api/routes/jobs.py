"""Runs of the pipeline: the list, one run, what it used and made."""

from typing import Annotated

from fastapi import Query, Request, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.cache import cached
from dsa110_contimg.api.dependencies import JobService, ProvenanceService
from dsa110_contimg.api.listing import Exact, ListParameters, Moment, list_reply, wish_of
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.validation import StrictRoute

router = router_of("/jobs", "jobs", StrictRoute)


class JobParameters(ListParameters):
    """What the list of runs may be asked."""

    status: schemas.RunStatus | None = None
    ms_path: Exact | None = None
    group_id: Exact | None = None
    workflow_id: Exact | None = None
    min_created_at: Moment | None = None
    max_created_at: Moment | None = None
    min_started_at: Moment | None = None
    max_started_at: Moment | None = None
    min_finished_at: Moment | None = None
    max_finished_at: Moment | None = None


@router.get("", response_model=list[schemas.JobListItem])
@cached("jobs:list", "jobs")
async def list_jobs(request: Request, asked: Annotated[JobParameters, Query()], service: JobService) -> Response:
    """List runs, newest first; ``X-Total-Count`` has the number of all where known, ``Link`` the next page."""
    return list_reply(request, await service.list_jobs(wish_of(asked, schemas.JobListItem)))


@router.get("/{run_id}", response_model=schemas.JobDetail)
@cached("jobs:detail", "jobs", "images")
async def get_job(run_id: str, service: JobService) -> Response:
    """Return one run, by exactly its id."""
    return json_reply(await service.get_job(run_id))


@router.get("/{run_id}/provenance", response_model=schemas.Provenance)
@cached("jobs:provenance", "jobs", "images", "ms_index", "caltables", "provenance")
async def get_job_provenance(run_id: str, service: ProvenanceService) -> Response:
    """Return what a run used and made."""
    return json_reply(await service.of_job(run_id))
