"""Calibration tables. A table is named by its percent-encoded absolute path, decoded once, or by its short id."""

from typing import Annotated, Literal

from fastapi import Query, Request, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.cache import cached
from dsa110_contimg.api.dependencies import CalibrationService
from dsa110_contimg.api.listing import Bound, Exact, ListParameters, Moment, list_reply, wish_of
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.validation import StrictRoute

router = router_of("/cal", "calibration", StrictRoute)

Mjd = Annotated[float, Query(ge=0, le=200_000, allow_inf_nan=False, description="MJD (UTC)")]


class CalTableParameters(ListParameters):
    """What the list of calibration tables may be asked."""

    status: Literal["active", "retired", "failed"] | None = None
    table_type: Exact | None = None
    set_name: Exact | None = None
    cal_field: Exact | None = None
    refant: Exact | None = None
    source_ms_path: Exact | None = None
    min_created_at: Moment | None = None
    max_created_at: Moment | None = None
    min_valid_start_mjd: Bound | None = None
    max_valid_start_mjd: Bound | None = None
    min_valid_end_mjd: Bound | None = None
    max_valid_end_mjd: Bound | None = None


@router.get("", response_model=list[schemas.CalTableItem])
@cached("cal:tables", "caltables")
async def list_calibration_tables(
    request: Request, asked: Annotated[CalTableParameters, Query()], service: CalibrationService
) -> Response:
    """List calibration tables, newest first; ``X-Total-Count`` has the number of all, ``Link`` the next page."""
    return list_reply(request, await service.list_tables(wish_of(asked, schemas.CalTableItem)))


@router.get("/valid", response_model=list[schemas.CalTableItem])
async def list_valid_calibration_tables(service: CalibrationService, mjd: Mjd) -> Response:
    """Return the tables that the pipeline applies at a time: the newest active set whose validity holds it."""
    return json_reply(await service.list_valid(mjd))


@router.get("/{table_id:last_path}", response_model=schemas.CalTable)
@cached("cal:detail", "caltables")
async def get_calibration_table(table_id: str, service: CalibrationService) -> Response:
    """Return one calibration table: validity, place in the order, solver and quality."""
    return json_reply(await service.get_table(table_id))
