"""Where ratings, masks and regions of images are kept."""

from dsa110_contimg.api import database
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.queries import image_care
from dsa110_contimg.api.queries.image_care import RatingRecord, RegionRecord


class AsyncImageCareRepository:
    """Keeps what people say about images; every change is one transaction."""

    def __init__(self, adapter: DatabaseAdapter) -> None:
        self._adapter = adapter

    async def rate(self, rating: RatingRecord) -> float:
        """Keep a rating, in place of an earlier one of the same rater, and return the image's average."""
        return await database.write(self._adapter, image_care.rate(rating))

    async def ratings(self, image_id: int) -> list[RatingRecord]:
        """Return the ratings of an image, the newest first, at most 1000."""
        return await database.read(self._adapter, image_care.ratings(image_id))

    async def add_region(self, region: RegionRecord) -> None:
        """Keep a mask or region."""
        await database.write(self._adapter, image_care.add_region(region))

    async def regions(self, image_id: int, kind: str) -> list[RegionRecord]:
        """Return the masks or regions of an image, the oldest first."""
        return await database.read(self._adapter, image_care.regions(image_id, kind))

    async def region(self, image_id: int, kind: str, region_id: str) -> RegionRecord | None:
        """Return a mask or region."""
        return await database.read(self._adapter, image_care.region(image_id, kind, region_id))

    async def forget_region(self, image_id: int, kind: str, region_id: str) -> bool:
        """Delete a mask or region; False when there is none."""
        return await database.write(self._adapter, image_care.forget_region(image_id, kind, region_id))

    async def forget_image(self, image_id: int, path: str) -> bool:
        """Delete an image with everything that is said about it; False when it was gone."""
        return await database.write(self._adapter, image_care.forget_image(image_id, path))
