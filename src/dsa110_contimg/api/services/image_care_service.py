"""What people say about images (ratings, masks, regions), and the end of an image."""

import asyncio
import json
import re
import secrets
import time
from typing import Any

from dsa110_contimg.api.exceptions import (
    DSA110APIError,
    FileNotAccessibleError,
    RecordNotFoundError,
    ValidationError,
    required,
)
from dsa110_contimg.api.file_access import FileStore
from dsa110_contimg.api.image_care_repository import AsyncImageCareRepository
from dsa110_contimg.api.interfaces import ImageRecord
from dsa110_contimg.api.queries.image_care import RatingRecord, RegionRecord
from dsa110_contimg.api.replies import iso_time
from dsa110_contimg.api.schemas.image_care import RatingRequest, RegionRequest
from dsa110_contimg.api.services.async_services import AsyncImageService
from dsa110_contimg.api.services.image_file_service import siblings
from dsa110_contimg.api.services.limited_child import ChildRefusedError, LimitedChild, in_memory
from dsa110_contimg.api.strict_json import strict_json

View = dict[str, Any]

# A text without any of these names no shape that the parser knows; it is not worth a process.
SHAPES = re.compile("circle|ellipse|box|annulus|poly|line|point|text|symbol|vector", re.IGNORECASE)
_MODULE = "dsa110_contimg.api.batch.region_texts"
_STARS = {"true": 5, "unsure": 3, "false": 1}
_ENTITIES = {"mask": "Mask", "region": "Region"}


class RegionTextError(DSA110APIError):
    """A text of regions that cannot be understood."""

    status_code = 422
    error_code = "VALIDATION_ERROR"
    action = "Correct the text and send it again; DS9 and CARTA write such texts."
    doc_anchor = "validation_failed"


class ImageCareService:
    """Rates images, keeps their masks and regions, deletes them.

    Every method may raise RecordNotFoundError: no image has this id, or it has no such mask or region.

    Parameters
    ----------
    images : AsyncImageService
        Knows images.
    care : AsyncImageCareRepository
        Keeps what is said.
    files : FileStore
        Reaches what lies beneath the data roots.
    child : LimitedChild
        Parses texts of regions.
    """

    def __init__(
        self, images: AsyncImageService, care: AsyncImageCareRepository, files: FileStore, child: LimitedChild
    ) -> None:
        self._images = images
        self._care = care
        self._files = files
        self._child = child

    async def _find(self, image_id: str) -> tuple[ImageRecord, int]:
        image = await self._images.find(image_id)
        return image, required(image.id, "Image", image_id)

    # --- ratings ----------------------------------------------------------------------------------------------------

    async def rate(self, image_id: str, said: RatingRequest, actor: str) -> View:
        """Keep a rating; who rates again changes what they said."""
        _, number = await self._find(image_id)
        if said.item_id is not None and said.item_id.strip() != str(number):
            raise ValidationError(f"itemId is {said.item_id[:60]!r}, the image {number}; send the same", "itemId")
        stars = said.rating if said.rating is not None else _STARS[said.confidence or "unsure"]
        record = RatingRecord(
            number, said.rater or actor, stars, time.time(), said.confidence, said.tag_id, said.comment or said.notes
        )
        average = await self._care.rate(record)
        return _rating_view(record) | {"new_average": round(average, 3)}

    async def ratings(self, image_id: str) -> View:
        """Return the ratings of an image with their average."""
        _, number = await self._find(image_id)
        found = await self._care.ratings(number)
        average = round(sum(one.rating for one in found) / len(found), 3) if found else None
        return {"ratings": [_rating_view(one) for one in found], "total": len(found), "average": average}

    # --- masks and regions ------------------------------------------------------------------------------------------

    async def add_region(self, image_id: str, kind: str, said: RegionRequest, actor: str) -> View:
        """Keep a mask or region under a new opaque id.

        Raises
        ------
        RegionTextError
            The text is not of its format, or holds no shape.
        """
        _, number = await self._find(image_id)
        count = await self._count(said.regions, said.format)
        record = RegionRecord(
            secrets.token_hex(8), number, kind, said.format, said.regions, count, actor, time.time(),
            said.purpose if kind == "region" else None, said.name,
        )  # fmt: skip
        await self._care.add_region(record)
        return region_view(record)

    async def regions(self, image_id: str, kind: str, purpose: str | None = None) -> View:
        """Return the masks or regions of an image, the oldest first."""
        _, number = await self._find(image_id)
        found = [one for one in await self._care.regions(number, kind) if purpose in (None, one.purpose)]
        return {f"{kind}s": [region_view(one) for one in found], "total": len(found)}

    async def region(self, image_id: str, kind: str, region_id: str) -> View:
        """Return one mask or region with its text."""
        _, number = await self._find(image_id)
        found = required(await self._care.region(number, kind, region_id), _ENTITIES[kind], region_id)
        return region_view(found) | {"content": found.content}

    async def forget_region(self, image_id: str, kind: str, region_id: str) -> View:
        """Delete one mask or region."""
        _, number = await self._find(image_id)
        if not await self._care.forget_region(number, kind, region_id):
            raise RecordNotFoundError(_ENTITIES[kind], region_id)
        return {"status": "deleted", f"{kind}_id": region_id}

    async def _count(self, text: str, form: str) -> int:
        """Return how many shapes a text has; DS9 and CRTF are parsed in a child process."""
        if form == "json":
            return _count_json(text)
        if not SHAPES.search(text):
            raise RegionTextError(f"regions cannot be read as {form}: the text names no shape", {"field": "regions"})
        with in_memory(text.encode()) as fd:
            try:
                return int(await self._child.run(_MODULE, "--fd", str(fd), "--format", form, fds=[fd]))
            except ChildRefusedError as error:
                raise RegionTextError(f"regions cannot be read as {form}: {error}", {"field": "regions"}) from error

    # --- the end ----------------------------------------------------------------------------------------------------

    async def delete(self, image_id: str, delete_files: bool) -> View:
        """Delete an image with all that is said about it, and, when asked, its file beneath the data roots."""
        image, number = await self._find(image_id)
        if not await self._care.forget_image(number, image.path):
            raise RecordNotFoundError("Image", image_id)
        removed = await asyncio.to_thread(self._remove, image.path) if delete_files else []
        return {"status": "deleted", "image_id": str(number), "files_deleted": removed}

    def _remove(self, path: str) -> list[str]:
        """Remove the file of an image and the FITS files that stand for a directory of CASA; return what went."""
        removed = []
        for candidate in (path, *siblings(path)):
            try:
                self._files.remove(candidate)
            except FileNotAccessibleError:
                continue
            removed.append(candidate)
        return removed


def _count_json(text: str) -> int:
    try:
        shapes = strict_json(text)
    except json.JSONDecodeError as error:
        raise RegionTextError(f"regions is no JSON: {error}", {"field": "regions"}) from error
    if not isinstance(shapes, list) or not shapes or not all(isinstance(shape, dict) for shape in shapes):
        raise RegionTextError("regions must be a JSON array of one or more objects", {"field": "regions"})
    return len(shapes)


def _rating_view(record: RatingRecord) -> View:
    return {
        "image_id": str(record.image_id), "rating": record.rating, "comment": record.comment, "rater": record.rater,
        "rated_at": iso_time(record.rated_at), "confidence": record.confidence, "tag_id": record.tag,
    }  # fmt: skip


def region_view(record: RegionRecord) -> View:
    """Return a mask or region without its text; ``path`` is where the text is."""
    told = {
        "id": record.id, "path": f"/api/v1/images/{record.image_id}/{record.kind}s/{record.id}",
        "format": record.format, "region_count": record.region_count, "name": record.name,
        "created_at": iso_time(record.created_at), "created_by": record.created_by,
    }  # fmt: skip
    return told | ({"purpose": record.purpose} if record.kind == "region" else {})
