"""The files of images: the FITS file itself, its pictures, parts and reports, and archives of several."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from dsa110_contimg.api.archive import Member
from dsa110_contimg.api.exceptions import FileNotAccessibleError, RecordNotFoundError
from dsa110_contimg.api.file_access import FileStore, OpenFile
from dsa110_contimg.api.interfaces import ImageRecord
from dsa110_contimg.api.picture_wish import CutoutWish, PictureWish
from dsa110_contimg.api.services.async_services import AsyncImageService
from dsa110_contimg.api.services.fits_service import FitsService
from dsa110_contimg.api.services.thumbnail_service import ThumbnailService

_SAME_PLACE_DEG = 1e-6


class ImageFileService:
    """Opens the files of images; what it opens to be read here it closes again.

    Every method may raise RecordNotFoundError (no image has this id) and FileNotAccessibleError (its file is not there,
    or may not be served); what reads the content may raise FITSParsingError (422) besides.

    Parameters
    ----------
    images : AsyncImageService
        Knows the path of an image.
    files : FileStore
        Opens what lies beneath the data roots.
    thumbnails : ThumbnailService
        Draws.
    fits : FitsService
        Parses.
    """

    def __init__(
        self, images: AsyncImageService, files: FileStore, thumbnails: ThumbnailService, fits: FitsService
    ) -> None:
        self.images = images
        self.files = files
        self.thumbnails = thumbnails
        self.fits = fits

    async def open_fits(self, image_id: str) -> OpenFile:
        """Return the FITS file of an image, open; whoever gets it closes it."""
        return await asyncio.to_thread(self._open, (await self.images.find(image_id)).path)

    def _open(self, path: str) -> OpenFile:
        """Open an image; one that was recorded as a directory of CASA is served by its FITS file beside it."""
        try:
            return self.files.open(path)
        except FileNotAccessibleError:
            for sibling in siblings(path):
                try:
                    return self.files.open(sibling)
                except FileNotAccessibleError:
                    continue
            raise

    async def open_picture(self, image_id: str, wish: PictureWish) -> OpenFile:
        """Return the picture of an image, open; it is made when there is none yet."""
        with _closing([await self.open_fits(image_id)]) as [file]:
            return await self.thumbnails.picture_of(file, wish)

    async def cutout(self, image_id: str, part: CutoutWish, wish: PictureWish) -> bytes:
        """Return a part of an image, as FITS or as a picture."""
        with _closing([await self.open_fits(image_id)]) as [file]:
            return await self.thumbnails.cutout_of(file, part, wish)

    async def animation(self, image_id: str, wish: PictureWish, frames: int, fps: int) -> bytes:
        """Return a GIF of the planes of an image; of one plane only, of all images of its field at its place."""
        image = await self.images.find(image_id)
        own = await asyncio.to_thread(self._open, image.path)
        others = [other for other in await self.images.images.list_for_ms(image.ms_path) if _same_field(image, other)]
        with _closing([own]) as files:
            files += await asyncio.to_thread(self._open_all, [other.path for other in others[: frames - 1]])
            return await self.thumbnails.animation_of(files, wish, frames, fps)

    def _open_all(self, paths: Sequence[str]) -> list[OpenFile]:
        """Open what is there."""
        opened = []
        for path in paths:
            try:
                opened.append(self._open(path))
            except FileNotAccessibleError:
                continue
        return opened

    async def header(self, image_id: str) -> dict[str, Any]:
        """Return what the header says."""
        with _closing([await self.open_fits(image_id)]) as [file]:
            return await self.fits.header(file)

    async def validation(self, image_id: str) -> dict[str, Any]:
        """Return whether the file keeps the standard."""
        with _closing([await self.open_fits(image_id)]) as [file]:
            return await self.fits.validation(file)

    async def statistics(self, image_id: str, plane: int) -> dict[str, Any]:
        """Return the statistics of a plane."""
        with _closing([await self.open_fits(image_id)]) as [file]:
            return await self.fits.statistics(file, plane)

    async def slice(self, image_id: str, plane: int, x: int, y: int, width: int, height: int) -> dict[str, Any]:
        """Return a rectangle of pixels."""
        with _closing([await self.open_fits(image_id)]) as [file]:
            return await self.fits.slice(file, plane, x, y, width, height)

    async def members(self, image_ids: Sequence[str]) -> tuple[list[Member], list[str]]:
        """Return what an archive of these images holds, and the ids of which there is nothing to put in.

        Raises
        ------
        RecordNotFoundError
            There is nothing at all.
        """
        members: dict[str, Member] = {}
        missing = []
        for image_id in dict.fromkeys(image_ids):
            try:
                file = await self.open_fits(image_id)
            except (RecordNotFoundError, FileNotAccessibleError):
                missing.append(image_id)
                continue
            file.close()
            path = (await self.images.find(image_id)).path
            name = file.name if file.name not in members else f"{image_id}-{file.name}"
            members[name] = Member(name, file.size_bytes, file.modified_s, partial(self._open, path))
        if not members:
            raise RecordNotFoundError("Image", ", ".join(missing)[:200])
        return list(members.values()), missing


def siblings(path: str) -> Iterator[str]:
    """Give the paths at which the FITS file of an image directory of CASA may lie, the likeliest first.

    ``x.img.pbcor`` has ``x.img.pbcor.fits``; ``x.img.image`` has ``x.img.image.fits`` or ``x.img.fits``.
    """
    if path.endswith(".fits"):
        return
    yield f"{path}.fits"
    if path.endswith(".image"):
        yield str(PurePosixPath(path).with_suffix(".fits"))


def _same_field(image: ImageRecord, other: ImageRecord) -> bool:
    here, there = (image.center_ra_deg, image.center_dec_deg), (other.center_ra_deg, other.center_dec_deg)
    if image.id == other.id or None in here or None in there:
        return False
    return all(abs((a or 0.0) - (b or 0.0)) < _SAME_PLACE_DEG for a, b in zip(here, there, strict=True))


@contextmanager
def _closing(files: list[OpenFile]) -> Iterator[list[OpenFile]]:
    """Close the files at the end, those too that came to the list meanwhile."""
    try:
        yield files
    finally:
        for file in files:
            file.close()
