"""What is done with runs: do them again, cancel them, take their list home."""

from typing import Annotated

from fastapi import Depends, Query, Request, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.authorization import require_scope
from dsa110_contimg.api.csv_reply import csv_reply
from dsa110_contimg.api.dependencies import Reruns
from dsa110_contimg.api.idempotency import WorkRoute, request_seed
from dsa110_contimg.api.replies import file_responses, json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.schemas.work import RerunRequest, RunIds
from dsa110_contimg.api.services.rerun_service import Asked

router = router_of("/jobs", "jobs", WorkRoute)

_WRITES = [require_scope("write:jobs")]
_EXPORTED = ("run_id", "status", "started_at", "finished_at", "input_ms", "output_image_id")

Ids = Annotated[str, Query(min_length=1, max_length=20000, description="ids of runs with commas between, at most 1000")]


async def asked_by(request: Request) -> Asked:
    """Return who asks, within which request."""
    return Asked(await request_seed(request), request.state.principal)


By = Annotated[Asked, Depends(asked_by)]


@router.get("/export", response_class=Response, responses=file_responses("text/csv"))
async def export_jobs(service: Reruns, ids: Ids) -> Response:
    """Return runs as a CSV file; ids that are not known are left out."""
    return csv_reply(_EXPORTED, await service.export(ids), "jobs.csv")


@router.post("/bulk-rerun", response_model=schemas.BulkRerunReply, dependencies=_WRITES)
async def rerun_jobs(runs: RunIds, service: Reruns, by: By) -> Response:
    """Do several runs again, each as a new run; all that are accepted are durable when this answers."""
    return json_reply(await service.rerun_many(runs.run_ids, by))


@router.post("/bulk-cancel", response_model=schemas.BulkCancelReply, dependencies=_WRITES)
async def cancel_jobs(runs: RunIds, service: Reruns) -> Response:
    """Cancel several runs; tasks that run are stopped."""
    return json_reply(await service.cancel_many(runs.run_ids))


@router.post("/{run_id}/rerun", response_model=schemas.RerunReply, dependencies=_WRITES)
async def rerun_job(run_id: str, service: Reruns, by: By, wanted: RerunRequest | None = None) -> Response:
    """Do a run again as a new run, which is durable when this answers; the first run's products stay."""
    return json_reply(await service.rerun(run_id, wanted.config if wanted else {}, by))
