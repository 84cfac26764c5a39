"""What a worker does with a batch: one item after the other, each ended for itself.

A batch may be begun again at any time (its worker died, Redis lost it): items that ended stay ended, those that were
begun are done again. What goes wrong with one item is written down there and does not touch the others.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dsa110_contimg.api.async_repositories import (
    AsyncBatchRepository,
    AsyncCalibrationRepository,
    AsyncImageRepository,
    AsyncMSRepository,
    AsyncQARepository,
)
from dsa110_contimg.api.batch.qa import QualityMeter
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.exceptions import DSA110APIError, required
from dsa110_contimg.api.file_access import FileStore
from dsa110_contimg.api.interfaces import ImageRecord
from dsa110_contimg.api.picture_wish import PictureWish
from dsa110_contimg.api.services.limited_child import LimitedChild
from dsa110_contimg.api.services.picture_store import PictureStore
from dsa110_contimg.api.services.thumbnail_service import ThumbnailService

log = logging.getLogger(__name__)

_AT_A_TIME = 100


@dataclass(frozen=True, slots=True)
class Tools:
    """What items are worked on with."""

    adapter: DatabaseAdapter
    files: FileStore
    meter: QualityMeter
    thumbnails: ThumbnailService

    @classmethod
    def of(cls, config: APIConfig, adapter: DatabaseAdapter) -> "Tools":
        """Return the tools of an installation."""
        files, children = FileStore(config.paths.served_roots), LimitedChild()
        thumbnails = ThumbnailService(PictureStore(config.paths.state_dir / "thumbnails"), children)
        return cls(adapter, files, QualityMeter(files, children), thumbnails)

    async def image(self, name: str) -> ImageRecord:
        """Return the image of an id or path.

        Raises
        ------
        RecordNotFoundError
            There is none.
        """
        rows = AsyncImageRepository(self.adapter)
        ask = rows.get_by_path if name.startswith("/") else rows.get_by_id
        return required(await ask(name), "Image", name)


async def make_picture(name: str, tools: Tools) -> None:
    """Make the picture of an image."""
    image = await asyncio.to_thread(tools.files.open, (await tools.image(name)).path)
    try:
        picture = await tools.thumbnails.picture_of(image, PictureWish())
    finally:
        image.close()
    picture.close()


async def measure_image(name: str, tools: Tools) -> None:
    """Tell what an image is worth."""
    await AsyncQARepository(tools.adapter).save_image_qa(await tools.meter.of_image(await tools.image(name)))


async def measure_calibration(name: str, tools: Tools) -> None:
    """Measure the active calibration tables that were solved from a Measurement Set."""
    ms = required(await AsyncMSRepository(tools.adapter).get_metadata(name), "MeasurementSet", name)
    tables = await AsyncCalibrationRepository(tools.adapter).list_solved_from(ms.path)
    await AsyncQARepository(tools.adapter).save_calibration_qa(await tools.meter.of_tables(ms.path, tables))


#: Type of a batch → what is done with each item.
TYPES: Mapping[str, Callable[[str, Tools], Awaitable[None]]] = {
    "thumbnail": make_picture,
    "image-qa": measure_image,
    "calibration-qa": measure_calibration,
}


async def work_on_batch(batch_id: int, config: APIConfig) -> Mapping[str, Any]:
    """Work on all items of a batch that have not ended; return how many are done and failed."""
    async with open_database(config.database, config.timeouts) as adapter:
        batches, tools = AsyncBatchRepository(adapter), Tools.of(config, adapter)
        batch = required(await batches.get(str(batch_id)), "BatchJob", str(batch_id))
        while unended := await batches.list_unended(batch_id, _AT_A_TIME):
            for item in unended:
                if await batches.begin_item(item.id):
                    await batches.end_item(item.id, await _failure(TYPES[batch.type], item.name, tools))
        ended = await batches.get(str(batch_id)) or batch
    return {"status": ended.status, "completed_items": ended.completed_items, "failed_items": ended.failed_items}


async def _failure(work: Callable[[str, Tools], Awaitable[None]], name: str, tools: Tools) -> str | None:
    """Work on one item; return why it came to nothing, as clients are told it, or None."""
    try:
        await work(name, tools)
    except DSA110APIError as error:
        log.warning("%r came to nothing: %s", name, error)
        return error.message
    except OSError as error:
        log.warning("%r came to nothing: %s", name, error)
        return error.strerror or type(error).__name__
    return None
