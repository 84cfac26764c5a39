"""Images: the list, one image, its verdict, its provenance, its file and its picture."""

from fastapi import APIRouter, Request, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.dependencies import ImageFiles, ImageService, ProvenanceService
from dsa110_contimg.api.file_reply import FileReply
from dsa110_contimg.api.replies import json_reply, page_reply
from dsa110_contimg.api.validation import Limit, Offset, StrictRoute

router = APIRouter(prefix="/images", tags=["images"], route_class=StrictRoute)

_KEPT = "private, no-cache"


@router.get("", response_model=list[schemas.ImageListItem])
async def list_images(request: Request, service: ImageService, limit: Limit = 100, offset: Offset = 0) -> Response:
    """List images, newest first; ``X-Total-Count`` has the number of all, ``Link`` the next page."""
    rows, total = await service.list_images(limit, offset)
    return page_reply(rows, total, request.url.path, limit, offset)


@router.get("/{image_id}", response_model=schemas.ImageDetail)
async def get_image(image_id: str, service: ImageService) -> Response:
    """Return one image."""
    return json_reply(await service.get_image(image_id))


@router.get("/{image_id}/qa", response_model=schemas.ImageQA)
async def get_image_qa(image_id: str, service: ImageService) -> Response:
    """Return the verdict on an image, with the numbers behind it."""
    return json_reply(await service.get_qa(image_id))


@router.get("/{image_id}/provenance", response_model=schemas.Provenance)
async def get_image_provenance(image_id: str, service: ProvenanceService) -> Response:
    """Return where an image comes from: inputs, parameters, code version, host, times and checksums of each stage."""
    return json_reply(await service.of_image(image_id))


@router.get("/{image_id}/fits", response_class=Response, responses={206: {}, 304: {}, 416: {}})
async def get_image_fits(image_id: str, service: ImageFiles) -> Response:
    """Download the FITS file of an image; ``Range`` and ``If-None-Match`` are honoured."""
    return FileReply(await service.open_fits(image_id), "application/fits", _KEPT, attachment=True)


@router.get("/{image_id}/thumbnail", response_class=Response, responses={200: {"content": {"image/png": {}}}})
async def get_image_thumbnail(image_id: str, service: ImageFiles) -> Response:
    """Return a picture of an image: PNG, north up, east left, at most 512 pixels a side."""
    return FileReply(await service.open_thumbnail(image_id), "image/png", _KEPT)
