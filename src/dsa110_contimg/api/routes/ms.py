"""Measurement Sets. ``ms_path`` is the percent-encoded absolute path; it is decoded once."""

from fastapi import APIRouter, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.dependencies import MSService, ProvenanceService
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.validation import StrictRoute

router = APIRouter(prefix="/ms", tags=["measurement sets"], route_class=StrictRoute)


@router.get("/{ms_path:path}/metadata", response_model=schemas.MSDetail)
async def get_ms_metadata(ms_path: str, service: MSService) -> Response:
    """Return one Measurement Set."""
    return json_reply(await service.get_metadata(ms_path))


@router.get("/{ms_path:path}/calibrator-matches", response_model=schemas.CalibratorMatches)
async def get_ms_calibrator_matches(ms_path: str, service: MSService) -> Response:
    """Return the calibration tables of a Measurement Set, in the order of application."""
    return json_reply(await service.get_calibrator_matches(ms_path))


@router.get("/{ms_path:path}/provenance", response_model=schemas.Provenance)
async def get_ms_provenance(ms_path: str, service: ProvenanceService) -> Response:
    """Return where a Measurement Set comes from."""
    return json_reply(await service.of_ms(ms_path))
