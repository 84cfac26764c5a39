"""What is inside a Measurement Set: its archive, its antennas, pictures of its visibilities."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import orjson

from dsa110_contimg.api.exceptions import MSParsingError, ValidationError
from dsa110_contimg.api.file_access import FileStore, OpenDirectory
from dsa110_contimg.api.file_trees import TarReply, list_tree
from dsa110_contimg.api.services.async_services import AsyncMSService
from dsa110_contimg.api.services.limited_child import ChildRefusedError, LimitedChild

_READER = "dsa110_contimg.pipeline.ms_reports"
_PAINTER = "dsa110_contimg.api.batch.rasters"
_KEPT = "private, no-cache"


class MSFileService:
    """Opens the directories of Measurement Sets.

    Parameters
    ----------
    measurement_sets : AsyncMSService
        Knows where they lie.
    files : FileStore
        Opens what may be served.
    children : LimitedChild
        Reads them: science libraries never run in this process.
    """

    def __init__(self, measurement_sets: AsyncMSService, files: FileStore, children: LimitedChild) -> None:
        self.measurement_sets = measurement_sets
        self.files = files
        self.children = children

    async def archive(self, ms_id: str) -> TarReply:
        """Return the reply that sends a Measurement Set as a tar archive.

        Raises
        ------
        FileNotAccessibleError
            Its directory may not be read, is not there, or holds a link.
        """
        directory = await self._open(ms_id)
        with ExitStack() as opened:
            opened.callback(directory.close)
            reply = TarReply(directory, await asyncio.to_thread(list_tree, directory), _KEPT)
            opened.pop_all()  # the reply closes it
            return reply

    async def antennas(self, ms_id: str) -> Mapping[str, Any]:
        """Return the antennas of a Measurement Set.

        Raises
        ------
        MSParsingError
            It cannot be read, or not in time.
        """
        found: dict[str, Any] = orjson.loads(await self._read(ms_id, "antennas"))
        return found

    async def raster(self, ms_id: str, look: Mapping[str, str], data: Mapping[str, str]) -> bytes:
        """Return a PNG of the visibilities.

        Parameters
        ----------
        ms_id : str
        look : mapping
            ``xaxis``, ``yaxis``, ``colormap``, ``width``, ``height``.
        data : mapping
            ``spw`` and ``antenna``, as far as given.

        Raises
        ------
        MSParsingError
            It cannot be read, or not in time.
        """
        axes = {name: look[name] for name in ("xaxis", "yaxis")}
        values = await self._read(ms_id, "raster", **axes, **data)
        with _in_memory(values) as fd:
            return await self._ask(_PAINTER, *_words({"fd": str(fd), **look}), fds=[fd])

    async def _open(self, ms_id: str) -> OpenDirectory:
        ms = await self.measurement_sets.find(ms_id)
        return await asyncio.to_thread(self.files.open_directory, ms.path)

    async def _read(self, ms_id: str, what: str, **options: str) -> bytes:
        directory = await self._open(ms_id)
        try:
            await asyncio.to_thread(list_tree, directory)  # a link in it would lead the reader out of the roots
            return await self._ask(_READER, what, *_words({"fd": str(directory.fd), **options}), fds=[directory.fd])
        finally:
            directory.close()

    async def _ask(self, module: str, *argv: str, fds: list[int]) -> bytes:
        try:
            return await self.children.run(module, *argv, fds=fds)
        except ChildRefusedError as error:
            if str(error).startswith("there is no"):
                raise ValidationError(str(error)) from error
            raise MSParsingError(f"The Measurement Set cannot be shown: {error}") from error


def _words(options: Mapping[str, str]) -> list[str]:
    """Return options as words of a command line; a value that begins with a dash stays a value."""
    return [f"--{name}={value}" for name, value in options.items()]


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """Give a descriptor to read the content from; it lies on no disk."""
    fd = os.memfd_create("raster")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
