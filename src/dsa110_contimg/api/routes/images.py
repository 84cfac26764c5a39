"""Images: the list, one image, its verdict, its provenance."""

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from dsa110_contimg.api import schemas
from dsa110_contimg.api.cache import cached
from dsa110_contimg.api.dependencies import ImageService, ProvenanceService
from dsa110_contimg.api.listing import Bound, Exact, ListParameters, Moment, list_reply, wish_of
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.validation import StrictRoute

router = router_of("/images", "images", StrictRoute)


class ImageParameters(ListParameters):
    """What the list of images may be asked."""

    type: Exact | None = Field(None, description="kind of image: 5min, mosaic, ...")
    qa_grade: schemas.QAGrade | None = None
    run_id: Exact | None = None
    ms_path: Exact | None = None
    min_created_at: Moment | None = None
    max_created_at: Moment | None = None
    min_mid_mjd: Bound | None = None
    max_mid_mjd: Bound | None = None
    min_noise_jy: Bound | None = None
    max_noise_jy: Bound | None = None
    min_dynamic_range: Bound | None = None
    max_dynamic_range: Bound | None = None
    min_peak_flux_jy: Bound | None = None
    max_peak_flux_jy: Bound | None = None
    min_pointing_ra_deg: Bound | None = None
    max_pointing_ra_deg: Bound | None = None
    min_pointing_dec_deg: Bound | None = None
    max_pointing_dec_deg: Bound | None = None


@router.get("", response_model=list[schemas.ImageListItem])
@cached("images:list", "images")
async def list_images(request: Request, asked: Annotated[ImageParameters, Query()], service: ImageService) -> Response:
    """List images, newest first; ``X-Total-Count`` has the number of all where known, ``Link`` the next page."""
    return list_reply(request, await service.list_images(wish_of(asked, schemas.ImageListItem)))


@router.get("/{image_id}", response_model=schemas.ImageDetail)
@cached("images:detail", "images", "ms_index", "caltables", "image_regions")
async def get_image(image_id: str, service: ImageService) -> Response:
    """Return one image."""
    return json_reply(await service.get_image(image_id))


@router.get("/{image_id}/qa", response_model=schemas.ImageQA)
@cached("images:qa", "images", "ms_index", "caltables", "image_regions")
async def get_image_qa(image_id: str, service: ImageService) -> Response:
    """Return the verdict on an image, with the numbers behind it."""
    return json_reply(await service.get_qa(image_id))


@router.get("/{image_id}/provenance", response_model=schemas.Provenance)
@cached("images:provenance", "images", "ms_index", "caltables", "image_regions", "provenance")
async def get_image_provenance(image_id: str, service: ProvenanceService) -> Response:
    """Return where an image comes from: inputs, parameters, code version, host, times and checksums of each stage."""
    return json_reply(await service.of_image(image_id))
