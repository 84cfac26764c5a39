"""Pictures of images: made once in a child process, kept below the state directory, served from there."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import orjson

from dsa110_contimg.api.exceptions import FITSParsingError
from dsa110_contimg.api.file_access import OpenFile
from dsa110_contimg.api.picture_wish import CutoutWish, PictureWish
from dsa110_contimg.api.services.limited_child import ChildRefusedError, LimitedChild
from dsa110_contimg.api.services.picture_store import PictureStore

log = logging.getLogger(__name__)

_MADE_BY = "3"  # part of every name: raise it when pictures look different from now on
_PAINTER = "dsa110_contimg.api.batch.thumbnails"
_CUTTER = "dsa110_contimg.api.batch.cutouts"


class ThumbnailService:
    """Finds or makes the pictures of image files. What it cannot draw is refused with FITSParsingError (422).

    Parameters
    ----------
    store : PictureStore
        Where pictures are kept.
    child : LimitedChild
        Draws.
    """

    def __init__(self, store: PictureStore, child: LimitedChild) -> None:
        self.store = store
        self._child = child

    async def picture_of(self, image: OpenFile, wish: PictureWish) -> OpenFile:
        """Return the picture of an image, open; several askers at once share one drawing.

        The name under which it is kept follows from the content of the file and the wish.
        """
        told = f"{image.name}|{image.tag}|{wish}|{_MADE_BY}"
        return await self.store.find(told, wish.format, lambda: self._drawn(image, wish))

    async def _drawn(self, image: OpenFile, wish: PictureWish) -> bytes:
        return await self._ask(_PAINTER, [image], {"picture": dataclasses.asdict(wish)})

    async def cutout_of(self, image: OpenFile, part: CutoutWish, wish: PictureWish) -> bytes:
        """Return a part of an image, as FITS or as a picture."""
        asked = {"cutout": dataclasses.asdict(part), "picture": dataclasses.asdict(wish)}
        return await self._ask(_CUTTER, [image], asked)

    async def animation_of(self, images: Sequence[OpenFile], wish: PictureWish, frames: int, fps: int) -> bytes:
        """Return a GIF of the planes of the first image, or, when it has one only, of all images."""
        return await self._ask(_PAINTER, images, {"picture": dataclasses.asdict(wish), "frames": frames, "fps": fps})

    async def _ask(self, module: str, images: Sequence[OpenFile], asked: dict[str, Any]) -> bytes:
        fds = [image.fd for image in images]
        argv = [word for fd in fds for word in ("--fd", str(fd))]
        try:
            return await self._child.run(module, *argv, "--ask", orjson.dumps(asked).decode(), fds=fds)
        except ChildRefusedError as error:
            log.warning("no picture of %s: %s", images[0].name, error)
            raise FITSParsingError(f"No picture can be made of {images[0].name}: {error}") from error
