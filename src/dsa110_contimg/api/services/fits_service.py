"""The files of images: the FITS file itself and its picture."""

import asyncio

from dsa110_contimg.api.exceptions import FileNotAccessibleError
from dsa110_contimg.api.file_access import FileStore, OpenFile
from dsa110_contimg.api.services.async_services import AsyncImageService
from dsa110_contimg.api.services.thumbnail_service import ThumbnailService


class ImageFileService:
    """Opens the files of images.

    Parameters
    ----------
    images : AsyncImageService
        Knows the path of an image.
    files : FileStore
        Opens what lies beneath the data roots.
    thumbnails : ThumbnailService
        Makes and keeps pictures.
    """

    def __init__(self, images: AsyncImageService, files: FileStore, thumbnails: ThumbnailService) -> None:
        self.images = images
        self.files = files
        self.thumbnails = thumbnails

    async def open_fits(self, image_id: str) -> OpenFile:
        """Return the FITS file of an image, open.

        An image that was recorded as a directory of CASA is served by the FITS file of the same name beside it.

        Raises
        ------
        RecordNotFoundError
            No image has this id.
        FileNotAccessibleError
            Its file is not there, or may not be served.
        """
        image = await self.images.find(image_id)
        try:
            return await asyncio.to_thread(self.files.open, image.path)
        except FileNotAccessibleError:
            if image.path.endswith(".fits"):
                raise
        return await asyncio.to_thread(self.files.open, f"{image.path}.fits")

    async def open_thumbnail(self, image_id: str) -> OpenFile:
        """Return the picture of an image, open; it is made when there is none yet."""
        image = await self.images.find(image_id)
        return await self.thumbnails.picture_of(image.path)
