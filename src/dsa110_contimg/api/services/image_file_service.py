"""The files of images: the FITS file itself, its pictures, parts and reports, and archives of several."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import PurePosixPath

from dsa110_contimg.api.archive import Member
from dsa110_contimg.api.exceptions import FileNotAccessibleError, RecordNotFoundError
from dsa110_contimg.api.file_access import FileStore, OpenFile
from dsa110_contimg.api.interfaces import ImageRecord
from dsa110_contimg.api.picture_wish import PictureWish
from dsa110_contimg.api.services.async_services import AsyncImageService
from dsa110_contimg.api.services.fits_service import FitsService
from dsa110_contimg.api.services.thumbnail_service import ThumbnailService

_SAME_PLACE = 1e-6  # degrees of the centre, arcseconds of a pixel


class ImageFileService:
    """Opens the files of images; what it opens to be read here it closes again.

    Every method may raise RecordNotFoundError (no image has this id) and FileNotAccessibleError (its file is not there,
    or may not be served); what reads the content may raise FITSParsingError (422) besides. Where
    storage hangs, it is ServiceUnavailableError.

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
        return await self.files.ask(self._open, (await self.images.find(image_id)).path)

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

    @asynccontextmanager
    async def opened(self, image_id: str) -> AsyncIterator[OpenFile]:
        """Give the FITS file of an image, open."""
        with _closing([await self.open_fits(image_id)]) as [file]:
            yield file

    @asynccontextmanager
    async def opened_field(self, image_id: str, most: int) -> AsyncIterator[list[OpenFile]]:
        """Give the FITS files of an image and of the others of its field with its pixels, open; at most ``most``."""
        image = await self.images.find(image_id)
        own = await self.files.ask(self._open, image.path)
        with _closing([own]) as files:
            others = [
                other for other in await self.images.images.list_for_ms(image.ms_path) if _same_field(image, other)
            ]
            files += await self.files.ask(self._open_all, [other.path for other in others[: most - 1]])
            yield files

    def _open_all(self, paths: Sequence[str]) -> list[OpenFile]:
        """Open what is there."""
        opened = []
        for path in paths:
            try:
                opened.append(self._open(path))
            except FileNotAccessibleError:
                continue
        return opened

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
                path = (await self.images.find(image_id)).path
                file = await self.files.ask(self._open, path)
            except (RecordNotFoundError, FileNotAccessibleError):
                missing.append(image_id)
                continue
            file.close()
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
    """Tell whether the pixels of another image lie where those of this one do."""
    if image.id == other.id or (image.imsize_x, image.imsize_y) != (other.imsize_x, other.imsize_y):
        return False
    pairs = [
        (image.center_ra_deg, other.center_ra_deg), (image.center_dec_deg, other.center_dec_deg),
        (image.cellsize_arcsec or 0.0, other.cellsize_arcsec or 0.0),
    ]  # fmt: skip
    return all(a is not None and b is not None and abs(a - b) < _SAME_PLACE for a, b in pairs)


@contextmanager
def _closing(files: list[OpenFile]) -> Iterator[list[OpenFile]]:
    """Close the files at the end, those too that came to the list meanwhile."""
    try:
        yield files
    finally:
        for file in files:
            file.close()
