"""Versions of images: which there are, and one more."""

from fastapi import Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.authorization import require_scope
from dsa110_contimg.api.dependencies import Lineage, Reimaging
from dsa110_contimg.api.idempotency import WorkRoute
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.routes.reruns import By
from dsa110_contimg.api.schemas.lineage import ReimageRequest
from dsa110_contimg.api.validation import ImageId

router = router_of("/images/{image_id}", "images", WorkRoute)


@router.get("/versions", response_model=schemas.ImageVersions)
async def list_versions(image_id: ImageId, service: Lineage) -> Response:
    """List the family of an image: the first one and all that were made after it, by version."""
    return json_reply(await service.versions(image_id))


@router.get("/children", response_model=list[schemas.ImageVersion])
async def list_children(image_id: ImageId, service: Lineage) -> Response:
    """List the images that were made after this one, by version."""
    return json_reply(await service.children(image_id))


@router.post("/reimage", response_model=schemas.ReimageReply, dependencies=[require_scope("write:jobs")])
async def reimage(image_id: ImageId, service: Reimaging, by: By, wanted: ReimageRequest | None = None) -> Response:
    """Make another version of an image of the same visibilities, as a new run, which is durable when this answers."""
    return json_reply(await service.reimage(image_id, wanted or ReimageRequest.model_validate({}), by))
