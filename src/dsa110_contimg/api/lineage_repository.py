"""Where the versions of images are found, and numbered."""

from dsa110_contimg.api import database
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.interfaces import ImageRecord
from dsa110_contimg.api.queries import lineage


class AsyncLineageRepository:
    """Knows which images are versions of one another."""

    def __init__(self, adapter: DatabaseAdapter) -> None:
        self._adapter = adapter

    async def family(self, root_id: int) -> list[ImageRecord]:
        """Return an image with its descendants, by version."""
        return await database.read(self._adapter, lineage.family(root_id))

    async def children(self, image_id: int) -> list[ImageRecord]:
        """Return the images that have this one as their parent, by version."""
        return await database.read(self._adapter, lineage.children(image_id))

    async def next_version(self, root_id: int) -> int:
        """Take the next number of a family; each is given once, whatever comes of it."""
        return await database.write(self._adapter, lineage.next_version(root_id))
