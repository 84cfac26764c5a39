"""Sources of the sky: the list, one source, its light curve, its variability, its quality, and both as CSV."""

from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import Field
from starlette.datastructures import QueryParams

from dsa110_contimg.api import schemas
from dsa110_contimg.api.cache import cached
from dsa110_contimg.api.csv_reply import csv_reply
from dsa110_contimg.api.dependencies import SourceService
from dsa110_contimg.api.exceptions import ValidationError
from dsa110_contimg.api.listing import Bound, Exact, ListParameters, list_reply, next_link, wish_of
from dsa110_contimg.api.pages import Wish
from dsa110_contimg.api.replies import file_responses, json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.validation import MAX_PAGE, Limit, Offset, StrictRoute, parse_time_mjd

router = router_of("/sources", "sources", StrictRoute)

_LARGEST_RADIUS_ARCMIN = 600.0
_MOST_POINTS = 10_000
_CSV_COLUMNS = (
    "id", "name", "ra_deg", "dec_deg", "num_images", "latest_image_id", "first_detected_mjd", "last_detected_mjd",
    "peak_flux_jy", "flux_jy", "eta", "v",
)  # fmt: skip

Points = Annotated[int, Query(ge=1, le=_MOST_POINTS, description="most measurements in the reply")]
Superseded = Annotated[bool, Query(description="also what a later run of the same observation measured again")]
Cursor = Annotated[str | None, Query(max_length=8192, description="where the part before ended")]


class SourceParameters(ListParameters):
    """What the list of sources may be asked."""

    name: Exact | None = None
    ra: Bound | None = Field(None, description="right ascension of the middle of a cone (ICRS), deg")
    dec: float | None = Field(None, ge=-90.0, le=90.0, description="declination of the middle of a cone (ICRS), deg")
    radius: float | None = Field(None, gt=0.0, le=_LARGEST_RADIUS_ARCMIN, description="of the cone, arcmin")
    min_ra_deg: Bound | None = None
    max_ra_deg: Bound | None = None
    min_dec_deg: Bound | None = None
    max_dec_deg: Bound | None = None
    min_num_images: Bound | None = None
    max_num_images: Bound | None = None
    min_peak_flux_jy: Bound | None = None
    max_peak_flux_jy: Bound | None = None
    min_flux_jy: Bound | None = None
    max_flux_jy: Bound | None = None
    min_eta: Bound | None = None
    max_eta: Bound | None = None
    min_v: Bound | None = None
    max_v: Bound | None = None


_CONE = frozenset({"ra", "dec", "radius"})


@router.get("", response_model=list[schemas.SourceListItem])
@cached("sources:list", "sources")
async def list_sources(
    request: Request, asked: Annotated[SourceParameters, Query()], service: SourceService
) -> Response:
    """List sources by rising id, or those in a cone (``ra``, ``dec``, ``radius``) by rising distance.

    ``X-Total-Count`` has the number of all where it is known at once, ``Link`` the next page.
    """
    wish = wish_of(asked, schemas.SourceListItem, besides=_CONE)
    given = asked.model_fields_set & _CONE
    if not given:
        return list_reply(request, await service.list_sources(wish))
    if asked.ra is None or asked.dec is None or asked.radius is None:
        missing = ", ".join(sorted(_CONE - given))
        raise ValidationError(f"A cone needs ra, dec (deg) and radius (arcmin); missing: {missing}", field=missing)
    if wish.cursor or wish.sort:
        raise ValidationError("A cone is sorted by distance; leave out sort and cursor, use offset", field="sort")
    return list_reply(request, await service.list_cone((asked.ra, asked.dec), asked.radius / 60.0, wish))


@router.get("/export", response_class=Response, responses=file_responses("text/csv"))
async def export_sources(
    request: Request,
    service: SourceService,
    ids: Annotated[str, Query(max_length=65536, description=f"at most {MAX_PAGE} ids with commas between")],
) -> Response:
    """Return some sources as CSV, those that there are."""
    chosen = _named(ids)
    if len(chosen) > MAX_PAGE:
        raise ValidationError(f"{len(chosen)} ids are too many at once; ask for at most {MAX_PAGE}", field="ids")
    # The earlier web client writes ids as they are: the + of a name, which in a query is a blank.
    as_written = _named(QueryParams(request.scope["query_string"].replace(b"+", b"%2B"))["ids"])
    return _csv(await service.list_chosen(list(dict.fromkeys([*as_written, *chosen]))), "sources.csv")


def _named(ids: str) -> list[str]:
    return [part.strip() for part in ids.split(",") if part.strip()]


@router.get("/{source_id}", response_model=schemas.SourceDetail)
@cached("sources:detail", "sources", "photometry", "images")
async def get_source(source_id: str, service: SourceService) -> Response:
    """Return one source and the images in which it was measured."""
    return json_reply(await service.get_source(source_id))


@router.get("/{source_id}/lightcurve", response_model=schemas.LightCurve)
@cached("sources:lightcurve", "photometry", "images")
async def get_source_lightcurve(
    request: Request,
    source_id: str,
    service: SourceService,
    start_date: str | None = None,
    end_date: str | None = None,
    limit: Points = _MOST_POINTS,
    cursor: Cursor = None,
    superseded: Superseded = False,
) -> Response:
    """Return the flux densities of a source by rising time, from ``start_date`` to ``end_date`` (ISO 8601, UTC).

    Each observation counts once, by its newest completed run. With ``superseded`` the other measurements come too, and
    ``superseded_by`` names the run that counts instead.
    """
    start_mjd = parse_time_mjd(start_date, "start_date")
    end_mjd = parse_time_mjd(end_date, "end_date")
    wish = Wish(limit, cursor=cursor)
    document, next_cursor = await service.get_lightcurve(source_id, start_mjd, end_mjd, wish, superseded)
    return json_reply(document, next_link(request, next_cursor))


@router.get("/{source_id}/variability", response_model=schemas.Variability)
@cached("sources:variability", "sources")
async def get_source_variability(source_id: str, service: SourceService) -> Response:
    """Return how a source varies: is it more than noise, and by how much."""
    return json_reply(await service.get_variability(source_id))


@router.get("/{source_id}/qa", response_model=schemas.SourceQA)
@cached("sources:qa", "sources", "photometry", "images")
async def get_source_qa(source_id: str, service: SourceService) -> Response:
    """Return what the grades of its images say of a source."""
    return json_reply(await service.get_qa(source_id))


@router.get("/{source_id}/contributing-images", response_model=list[schemas.ContributingImage])
@cached("sources:images", "sources", "photometry", "images")
async def list_contributing_images(
    source_id: str,
    service: SourceService,
    limit: Limit = MAX_PAGE,
    offset: Offset = 0,
    superseded: Superseded = False,
) -> Response:
    """Return the images in which a source was measured, with its flux density there, the last epoch first."""
    return json_reply(await service.list_contributions(source_id, limit, offset, superseded))


@router.get("/{source_id}/export", response_class=Response, responses=file_responses("text/csv"))
async def export_source(source_id: str, service: SourceService) -> Response:
    """Return one source as CSV."""
    await service.find(source_id)
    return _csv(await service.list_chosen([source_id]), "source.csv")


def _csv(rows: list[dict[str, Any]], name: str) -> Response:
    names = [{"latest_image_id": "image_id"}.get(column, column) for column in _CSV_COLUMNS]
    table = [[row[name] for name in names] for row in rows]
    return csv_reply(_CSV_COLUMNS, table, name)
