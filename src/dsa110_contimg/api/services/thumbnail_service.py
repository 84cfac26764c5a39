"""Pictures of images: made once in a child process, kept below the state directory, served from there."""

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from dsa110_contimg.api.exceptions import FITSParsingError
from dsa110_contimg.api.file_access import FileStore, OpenFile
from dsa110_contimg.api.picture_wish import CutoutWish, PictureWish
from dsa110_contimg.api.services.limited_child import ChildRefusedError, LimitedChild

log = logging.getLogger(__name__)

_MADE_BY = "2"  # part of every name: raise it when pictures look different from now on
_MODULE = "dsa110_contimg.api.batch.thumbnails"
_MOST_KEPT = 5000  # some 100 KB each


class ThumbnailService:
    """Finds or makes the pictures of image files. What it cannot draw is refused with FITSParsingError (422).

    Parameters
    ----------
    directory : Path
        Where pictures are kept; losing it costs only the time to make them again.
    child : LimitedChild
        Draws.
    most_kept : int
        Pictures that are kept; beyond that the oldest go.
    """

    def __init__(self, directory: Path, child: LimitedChild, most_kept: int = _MOST_KEPT) -> None:
        self.directory = directory
        self.pictures = FileStore([directory])
        self.most_kept = most_kept
        self._child = child
        self._locks: dict[str, asyncio.Lock] = {}

    async def picture_of(self, image: OpenFile, wish: PictureWish) -> OpenFile:
        """Return the picture of an image, open; several askers at once share one drawing.

        The name under which it is kept follows from the content of the file and the wish.
        """
        told = f"{image.name}|{image.tag}|{wish}|{_MADE_BY}"
        picture = self.directory / f"{hashlib.sha256(told.encode()).hexdigest()[:40]}.{wish.format}"
        lock = self._locks.setdefault(picture.name, asyncio.Lock())
        try:
            async with lock:
                if not picture.exists():
                    drawn = await self._ask([image], {"picture": dataclasses.asdict(wish)})
                    await asyncio.to_thread(self._keep, picture, drawn)
        finally:
            if not lock.locked():
                self._locks.pop(picture.name, None)
        return await asyncio.to_thread(self.pictures.open, str(picture))

    async def cutout_of(self, image: OpenFile, part: CutoutWish, wish: PictureWish) -> bytes:
        """Return a part of an image, as FITS or as a picture."""
        return await self._ask([image], {"cutout": dataclasses.asdict(part), "picture": dataclasses.asdict(wish)})

    async def animation_of(self, images: Sequence[OpenFile], wish: PictureWish, frames: int, fps: int) -> bytes:
        """Return a GIF of the planes of the first image, or, when it has one only, of all images."""
        return await self._ask(images, {"picture": dataclasses.asdict(wish), "frames": frames, "fps": fps})

    async def _ask(self, images: Sequence[OpenFile], asked: dict[str, Any]) -> bytes:
        fds = [image.fd for image in images]
        argv = [word for fd in fds for word in ("--fd", str(fd))]
        try:
            return await self._child.run(_MODULE, *argv, "--ask", orjson.dumps(asked).decode(), fds=fds)
        except ChildRefusedError as error:
            log.warning("no picture of %s: %s", images[0].name, error)
            raise FITSParsingError(f"No picture can be made of {images[0].name}: {error}") from error

    def _keep(self, picture: Path, drawn: bytes) -> None:
        """Write a picture beside its final name and rename it: nobody sees half of one; let the oldest go."""
        self.directory.mkdir(parents=True, exist_ok=True)
        partial = picture.with_name(f"{picture.name}.partial-{uuid.uuid4().hex}")
        try:
            partial.write_bytes(drawn)
            partial.replace(picture)
        finally:
            partial.unlink(missing_ok=True)
        kept = list(self.directory.iterdir())
        if len(kept) > self.most_kept:
            for old in sorted(kept, key=_age)[: len(kept) - self.most_kept]:
                old.unlink(missing_ok=True)


def _age(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):  # another process lets it go at the same time
        return path.stat().st_mtime
    return 0.0
