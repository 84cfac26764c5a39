"""Measurement Sets. ``ms_id`` is the percent-encoded absolute path, decoded once, or the short id, its stamp."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Query, Request, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.cache import cached
from dsa110_contimg.api.departure import unless_left
from dsa110_contimg.api.dependencies import MSFiles, MSService, ProvenanceService
from dsa110_contimg.api.file_reply import FileReply
from dsa110_contimg.api.listing import Bound, Exact, ListParameters, Moment, list_reply, wish_of
from dsa110_contimg.api.picture_wish import ColourMap
from dsa110_contimg.api.replies import file_responses, json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.validation import StrictRoute

router = router_of("/ms", "measurement sets", StrictRoute)

Pixels = Annotated[int, Query(ge=200, le=2000, description="pixels")]
_PICTURE = "private, max-age=300"


@dataclass(frozen=True, slots=True)
class Raster:
    """What a raster shows, and of which data."""

    look: Mapping[str, str]
    data: Mapping[str, str]


async def wanted_raster(
    xaxis: Literal["time", "baseline", "frequency"] = "time",
    yaxis: Literal["amp", "phase", "real", "imag"] = "amp",
    colormap: ColourMap = "viridis",
    width: Pixels = 800,
    height: Pixels = 600,
    spw: Annotated[int | None, Query(ge=0, le=1000, description="number of the spectral window")] = None,
    antenna: Annotated[
        str | None, Query(max_length=64, pattern=r"^[^\x00]*$", description="name; only its baselines")
    ] = None,
) -> Raster:
    """Return what the query asks for."""
    look = {"xaxis": xaxis, "yaxis": yaxis, "colormap": colormap, "width": str(width), "height": str(height)}
    given = {"spw": spw, "antenna": antenna}
    return Raster(look, {name: str(value) for name, value in given.items() if value is not None})


class MSParameters(ListParameters):
    """What the list of Measurement Sets may be asked."""

    qa_grade: schemas.QAGrade | None = None
    stage: Exact | None = None
    status: Exact | None = None
    run_id: Exact | None = None
    group_id: Exact | None = None
    field_name: Exact | None = None
    cal_applied: bool | None = None
    min_created_at: Moment | None = None
    max_created_at: Moment | None = None
    min_mid_mjd: Bound | None = None
    max_mid_mjd: Bound | None = None
    min_pointing_ra_deg: Bound | None = None
    max_pointing_ra_deg: Bound | None = None
    min_pointing_dec_deg: Bound | None = None
    max_pointing_dec_deg: Bound | None = None
    min_flagged_fraction: Bound | None = None
    max_flagged_fraction: Bound | None = None


@router.get("", response_model=list[schemas.MSListItem])
@cached("ms:list", "ms_index", "images")
async def list_measurement_sets(
    request: Request, asked: Annotated[MSParameters, Query()], service: MSService
) -> Response:
    """List Measurement Sets by falling path (the latest stamp first); ``X-Total-Count`` has the number of all."""
    return list_reply(request, await service.list_measurement_sets(wish_of(asked, schemas.MSListItem)))


@router.get("/{ms_id:path}/metadata", response_model=schemas.MSDetail)
@cached("ms:metadata", "ms_index", "images", "caltables")
async def get_ms_metadata(ms_id: str, service: MSService) -> Response:
    """Return one Measurement Set."""
    return json_reply(await service.get_metadata(ms_id))


@router.get("/{ms_id:path}/calibrator-matches", response_model=schemas.CalibratorMatches)
@cached("cal:matches", "ms_index", "images", "caltables")
async def get_ms_calibrator_matches(ms_id: str, service: MSService) -> Response:
    """Return the calibration tables of a Measurement Set, in the order of application."""
    return json_reply(await service.get_calibrator_matches(ms_id))


@router.get("/{ms_id:path}/provenance", response_model=schemas.Provenance)
@cached("ms:provenance", "ms_index", "images", "caltables", "provenance")
async def get_ms_provenance(ms_id: str, service: ProvenanceService) -> Response:
    """Return where a Measurement Set comes from."""
    return json_reply(await service.of_ms(ms_id))


@router.get("/{ms_id:path}/download", response_class=Response, responses=file_responses("application/x-tar"))
async def download_ms(ms_id: str, service: MSFiles) -> Response:
    """Download a Measurement Set as a tar archive; its length is known before, and nothing is written on the way."""
    return await service.archive(ms_id)


@router.get("/{ms_id:path}/antennas", response_model=schemas.Antennas)
async def get_ms_antennas(request: Request, ms_id: str, service: MSFiles) -> Response:
    """Return the antennas: where they stand, how much of their data is flagged, which are absent, dead or flagged."""
    async with service.readable(ms_id) as (directory, _):
        return json_reply(await unless_left(request, service.antennas(directory)))


@router.get("/{ms_id:path}/raster", response_class=Response, responses=file_responses("image/png", ranges=True))
async def get_ms_raster(ms_id: str, service: MSFiles, wanted: Annotated[Raster, Depends(wanted_raster)]) -> Response:
    """Return a picture of the visibilities: time, baselines or frequencies across, colours for the value."""
    return FileReply(await service.raster(ms_id, wanted.look, wanted.data), "image/png", _PICTURE)


@router.get("/{ms_id:last_path}", response_model=schemas.MSDetail)
@cached("ms:metadata", "ms_index", "images", "caltables")
async def get_ms(ms_id: str, service: MSService) -> Response:
    """Return one Measurement Set, as its metadata."""
    return json_reply(await service.get_metadata(ms_id))
