"""What people say about images: ratings, masks, regions; and the end of an image."""

from typing import Annotated, Any

from fastapi import Path, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.authorization import ScopedRoute, require_scope
from dsa110_contimg.api.credentials import Principal
from dsa110_contimg.api.dependencies import ImageCare
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.schemas.image_care import MaskRequest, RatingRequest, RegionPurpose, RegionRequest
from dsa110_contimg.api.validation import ImageId

router = router_of("/images/{image_id}", "images", ScopedRoute)

_WRITES: Any = require_scope("write:qa")
OpaqueId = Annotated[str, Path(max_length=100, description="opaque id")]
Rater = Annotated[Principal, _WRITES]


@router.post("/rating", response_model=schemas.RatingReply, dependencies=[_WRITES])
async def rate_image(image_id: ImageId, service: ImageCare, said: RatingRequest, who: Rater) -> Response:
    """Rate an image; who rates again changes what they said."""
    return json_reply(await service.rate(image_id, said, who.actor))


@router.get("/ratings", response_model=schemas.RatingList)
async def list_ratings(image_id: ImageId, service: ImageCare) -> Response:
    """List the ratings of an image, the newest first, with their average."""
    return json_reply(await service.ratings(image_id))


@router.get("/masks", response_model=schemas.MaskList)
async def list_masks(image_id: ImageId, service: ImageCare) -> Response:
    """List the masks of an image, the oldest first."""
    return json_reply(await service.regions(image_id, "mask"))


@router.post("/masks", response_model=schemas.MaskView, dependencies=[_WRITES])
async def add_mask(image_id: ImageId, service: ImageCare, said: MaskRequest, who: Rater) -> Response:
    """Keep a mask."""
    given = RegionRequest(format=said.format, regions=said.regions, name=None)
    return json_reply(await service.add_region(image_id, "mask", given, who.actor))


@router.get("/masks/{mask_id}", response_model=schemas.MaskDetail)
async def get_mask(image_id: ImageId, mask_id: OpaqueId, service: ImageCare) -> Response:
    """Return a mask with its text."""
    return json_reply(await service.region(image_id, "mask", mask_id))


@router.delete("/masks/{mask_id}", response_model=schemas.MaskDeleted, dependencies=[_WRITES])
async def delete_mask(image_id: ImageId, mask_id: OpaqueId, service: ImageCare) -> Response:
    """Delete a mask by exactly its id."""
    return json_reply(await service.forget_region(image_id, "mask", mask_id))


@router.get("/regions", response_model=schemas.RegionList)
async def list_regions(image_id: ImageId, service: ImageCare, purpose: RegionPurpose | None = None) -> Response:
    """List the regions of an image, the oldest first."""
    return json_reply(await service.regions(image_id, "region", purpose))


@router.post("/regions", response_model=schemas.RegionView, dependencies=[_WRITES])
async def add_region(image_id: ImageId, service: ImageCare, said: RegionRequest, who: Rater) -> Response:
    """Keep regions."""
    return json_reply(await service.add_region(image_id, "region", said, who.actor))


@router.get("/regions/{region_id}", response_model=schemas.RegionDetail)
async def get_region(image_id: ImageId, region_id: OpaqueId, service: ImageCare) -> Response:
    """Return regions with their text."""
    return json_reply(await service.region(image_id, "region", region_id))


@router.delete("/regions/{region_id}", response_model=schemas.RegionDeleted, dependencies=[_WRITES])
async def delete_region(image_id: ImageId, region_id: OpaqueId, service: ImageCare) -> Response:
    """Delete regions by exactly their id."""
    return json_reply(await service.forget_region(image_id, "region", region_id))


@router.delete("", response_model=schemas.ImageDeleted, dependencies=[require_scope("ops")])
async def delete_image(image_id: ImageId, service: ImageCare, delete_files: bool = False) -> Response:
    """Delete an image with its measurements, ratings, masks and regions, and, when asked, its file."""
    return json_reply(await service.delete(image_id, delete_files))
