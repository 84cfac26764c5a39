"""Versions of images: which there are, and who descends from whom."""

from typing import Any

from dsa110_contimg.api.interfaces import ImageRecord
from dsa110_contimg.api.lineage_repository import AsyncLineageRepository
from dsa110_contimg.api.services import views
from dsa110_contimg.api.services.async_services import AsyncImageService

View = dict[str, Any]


class LineageService:
    """Tells of the families of images.

    Every method may raise RecordNotFoundError: no image has this id.
    """

    def __init__(self, images: AsyncImageService, lineage: AsyncLineageRepository) -> None:
        self._images = images
        self._lineage = lineage

    async def versions(self, image_id: str) -> View:
        """Return the family of an image, by version."""
        image = await self._images.find(image_id)
        root_id = root_of(image)
        chain = [views.image_version(one) for one in await self._lineage.family(root_id)]
        return {
            "current_id": str(image.id), "root_id": str(root_id), "chain": chain, "total_versions": len(chain),
        }  # fmt: skip

    async def children(self, image_id: str) -> list[View]:
        """Return the images that were made after an image, by version."""
        image = await self._images.find(image_id)
        return [views.image_version(one) for one in await self._lineage.children(number_of(image))]


def number_of(image: ImageRecord) -> int:
    """Return the number of an image that was read from the database."""
    if image.id is None:
        raise ValueError(f"{image.path} was not read from the database; it has no number")
    return image.id


def root_of(image: ImageRecord) -> int:
    """Return the number of the first image of a family."""
    return image.root_id or number_of(image)
