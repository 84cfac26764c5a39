"""Sources of the sky: the list, one source, its light curve."""

from fastapi import APIRouter, Request, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.dependencies import SourceService
from dsa110_contimg.api.replies import json_reply, page_reply
from dsa110_contimg.api.validation import Limit, Offset, StrictRoute, parse_time_mjd

router = APIRouter(prefix="/sources", tags=["sources"], route_class=StrictRoute)


@router.get("", response_model=list[schemas.SourceListItem])
async def list_sources(request: Request, service: SourceService, limit: Limit = 100, offset: Offset = 0) -> Response:
    """List sources by rising id; ``X-Total-Count`` has the number of all, ``Link`` the next page."""
    rows, total = await service.list_sources(limit, offset)
    return page_reply(rows, total, request.url.path, limit, offset)


@router.get("/{source_id}", response_model=schemas.SourceDetail)
async def get_source(source_id: str, service: SourceService) -> Response:
    """Return one source and the images in which it was measured."""
    return json_reply(await service.get_source(source_id))


@router.get("/{source_id}/lightcurve", response_model=schemas.LightCurve)
async def get_source_lightcurve(
    source_id: str, service: SourceService, start_date: str | None = None, end_date: str | None = None
) -> Response:
    """Return the flux densities of a source by rising time, from ``start_date`` to ``end_date`` (ISO 8601, UTC)."""
    start_mjd = parse_time_mjd(start_date, "start_date")
    end_mjd = parse_time_mjd(end_date, "end_date")
    return json_reply(await service.get_lightcurve(source_id, start_mjd, end_mjd))
