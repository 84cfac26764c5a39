"""Pictures that are kept below the state directory: each made once, served from there."""

import asyncio
import contextlib
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from dsa110_contimg.api.file_access import FileStore, OpenFile
from dsa110_contimg.pipeline.products import give_name

log = logging.getLogger(__name__)

_MOST_KEPT = 5000  # some 100 KB each


class PictureStore:
    """Finds pictures, or has them made.

    Parameters
    ----------
    directory : Path
        Where pictures are kept; losing it costs only the time to make them again.
    most_kept : int
        Pictures that are kept; beyond that the oldest go.
    """

    def __init__(self, directory: Path, most_kept: int = _MOST_KEPT) -> None:
        self.directory = directory
        self.pictures = FileStore([directory])
        self.most_kept = most_kept
        self._locks: dict[str, asyncio.Lock] = {}

    async def find(self, told: str, suffix: str, draw: Callable[[], Awaitable[bytes]]) -> OpenFile:
        """Return a picture, open; several askers at once share one drawing.

        It is drawn to its end when those who asked have left: who asks next has it at once. Where it cannot be kept
        (the disk is full, or may only be read) it is shown all the same, and drawn anew for the next one.

        Parameters
        ----------
        told : str
            Of what content it is and how it looks: its name follows from that.
        suffix : str
            Kind of file, such as ``png``.
        draw : callable
            Makes it.
        """
        picture = self.directory / f"{hashlib.sha256(told.encode()).hexdigest()[:40]}.{suffix}"
        lock = self._locks.setdefault(picture.name, asyncio.Lock())
        try:
            async with lock:
                if not picture.exists():
                    drawn = await draw()
                    try:
                        await asyncio.to_thread(self._keep, picture, drawn)
                    except OSError as error:
                        log.warning("the picture %s is not kept: %s", picture.name, error)
                        return _unkept(picture.name, drawn)
        finally:
            if not lock.locked():
                self._locks.pop(picture.name, None)
        return await asyncio.to_thread(self.pictures.open, str(picture))

    def _keep(self, picture: Path, drawn: bytes) -> None:
        """Write a picture beside its final name and rename it: nobody sees half of one, after a loss of power too."""
        self.directory.mkdir(parents=True, exist_ok=True)
        partial = picture.with_name(f"{picture.name}.partial-{uuid.uuid4().hex}")
        try:
            partial.write_bytes(drawn)
            give_name(partial, picture)
        finally:
            partial.unlink(missing_ok=True)
        kept = list(self.directory.iterdir())
        if len(kept) > self.most_kept:
            for old in sorted(kept, key=_age)[: len(kept) - self.most_kept]:
                old.unlink(missing_ok=True)


def _unkept(name: str, drawn: bytes) -> OpenFile:
    """Return a picture as a file that has no other place than memory."""
    tag = f'"{hashlib.sha256(drawn).hexdigest()[:24]}"'
    kept = OpenFile(os.memfd_create(name, os.MFD_CLOEXEC), name, len(drawn), time.time(), tag)
    with open(kept.fd, "wb", closefd=False) as file:
        file.write(drawn)
    return kept


def _age(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):  # another process lets it go at the same time
        return path.stat().st_mtime
    return 0.0
