"""Pictures of images: made once in a child process, kept below the state directory, served from there."""

import asyncio
import hashlib
import logging
import sys
from pathlib import Path

from dsa110_contimg.api.exceptions import FITSParsingError
from dsa110_contimg.api.file_access import FileStore, OpenFile

log = logging.getLogger(__name__)

_MADE_BY = "1"  # part of every name: raise it when pictures look different from now on
_TIME_LIMIT_S = 30.0
_AT_ONCE = 2
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HOME": "/nonexistent"}
_MODULE = "dsa110_contimg.api.batch.thumbnails"


class ThumbnailService:
    """Finds or makes the picture of an image file.

    Parameters
    ----------
    files : FileStore
        Opens the image.
    directory : Path
        Where pictures are kept; losing it costs only the time to make them again.
    time_limit_s : float
        Longest time for one picture.
    """

    def __init__(self, files: FileStore, directory: Path, time_limit_s: float = _TIME_LIMIT_S) -> None:
        self.files = files
        self.directory = directory
        self.pictures = FileStore([directory])
        self.time_limit_s = time_limit_s
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._locks: dict[str, asyncio.Lock] = {}

    async def picture_of(self, path: str) -> OpenFile:
        """Return the PNG of an image, open; several askers at once share one rendering.

        Raises
        ------
        FileNotAccessibleError
            The image may not be read or is not there.
        FITSParsingError
            No picture can be made of it, or not in time.
        """
        image = await asyncio.to_thread(self.files.open, path)
        try:
            name = hashlib.sha256(f"{path}|{image.tag}|{_MADE_BY}".encode()).hexdigest()[:40] + ".png"
            picture = self.directory / name
            lock = self._locks.setdefault(name, asyncio.Lock())
            try:
                async with lock:
                    if not picture.exists():
                        await self._render(image, picture)
            finally:
                if not lock.locked():
                    self._locks.pop(name, None)
            return await asyncio.to_thread(self.pictures.open, str(picture))
        finally:
            image.close()

    async def _render(self, image: OpenFile, picture: Path) -> None:
        await asyncio.to_thread(self.directory.mkdir, parents=True, exist_ok=True)
        argv = [sys.executable, "-m", _MODULE, "--fd", str(image.fd), "--output", str(picture)]
        async with self._slots:
            child = await asyncio.create_subprocess_exec(
                *argv, env=_ENVIRONMENT, pass_fds=[image.fd], start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                _, said = await asyncio.wait_for(child.communicate(), self.time_limit_s)
            except TimeoutError as error:
                raise FITSParsingError(f"No picture of {image.name} after {self.time_limit_s:g} s") from error
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
        if child.returncode != 0:
            reason = said.decode(errors="replace").strip()[-300:] or f"the renderer ended with {child.returncode}"
            log.warning("no picture of %s: %s", image.name, reason)
            raise FITSParsingError(f"No picture can be made of {image.name}: {reason.splitlines()[-1]}")
