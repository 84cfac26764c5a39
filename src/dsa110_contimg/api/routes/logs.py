"""Logs of runs, at the two addresses that clients know."""

from typing import Annotated

from fastapi import Query, Request, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.cache import remembered
from dsa110_contimg.api.dependencies import LogService
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.run_logs import MOST_LINES
from dsa110_contimg.api.validation import StrictRoute

router = router_of("", "logs", StrictRoute)

Tail = Annotated[int, Query(ge=1, le=MOST_LINES, description="most lines, from the end of the log; 1 MiB at most")]
_LIVE = {"Cache-Control": "no-store"}


@router.get("/jobs/{run_id}/logs", response_model=schemas.RunLog)
@remembered("logs", "jobs")
async def get_job_logs(request: Request, run_id: str, service: LogService, tail: Tail = 100) -> Response:
    """Return the last lines of a run's log; a run without a log has none, and ``error`` says why."""
    told, request.state.witness = await service.tail(run_id, tail)
    return json_reply(told, _LIVE)


@router.get("/logs/{run_id}", response_model=schemas.RunLog)
@remembered("logs", "jobs")
async def get_run_log(request: Request, run_id: str, service: LogService, tail: Tail = 100) -> Response:
    """Return the same as the logs of the job of this name."""
    told, request.state.witness = await service.tail(run_id, tail)
    return json_reply(told, _LIVE)
