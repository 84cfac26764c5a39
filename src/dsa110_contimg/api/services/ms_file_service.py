"""What is inside a Measurement Set: its archive, its antennas, pictures of its visibilities."""

from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import orjson

from dsa110_contimg.api.exceptions import MSParsingError, ValidationError
from dsa110_contimg.api.file_access import FileStore, OpenDirectory, OpenFile
from dsa110_contimg.api.file_trees import TarReply, TreeEntry, list_tree, tree_tag
from dsa110_contimg.api.services.async_services import AsyncMSService
from dsa110_contimg.api.services.limited_child import ChildRefusedError, LimitedChild, in_memory
from dsa110_contimg.api.services.picture_store import PictureStore

_READER = "dsa110_contimg.pipeline.ms_reports"
_PAINTER = "dsa110_contimg.api.batch.rasters"
_LISTED_WITHIN_S = 20.0  # it may have thousands of files
_KEPT = "private, no-cache"
_MADE_BY = "3"  # part of every name: raise it when pictures look different from now on


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
    store : PictureStore
        Where pictures of visibilities are kept.
    """

    def __init__(
        self, measurement_sets: AsyncMSService, files: FileStore, children: LimitedChild, store: PictureStore
    ) -> None:
        self.measurement_sets = measurement_sets
        self.files = files
        self.children = children
        self.store = store

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
            reply = TarReply(directory, await self._list(directory), _KEPT)
            opened.pop_all()  # the reply closes it
            return reply

    async def antennas(self, directory: OpenDirectory) -> Mapping[str, Any]:
        """Return the antennas of a Measurement Set that is ``readable``.

        Raises
        ------
        MSParsingError
            It cannot be read, or not in time.
        """
        found: dict[str, Any] = orjson.loads(await self._read(directory, "antennas"))
        return found

    async def raster(self, ms_id: str, look: Mapping[str, str], data: Mapping[str, str]) -> OpenFile:
        """Return a PNG of the visibilities, open.

        The name under which it is kept follows from the content of the Measurement Set and from what is asked.

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
        async with self.readable(ms_id) as (directory, tag):
            told = f"{directory.name}|{tag}|{sorted(look.items())}|{sorted(data.items())}|{_MADE_BY}"
            return await self.store.find(told, "png", lambda: self._painted(directory, look, data))

    async def _painted(self, directory: OpenDirectory, look: Mapping[str, str], data: Mapping[str, str]) -> bytes:
        axes = {name: look[name] for name in ("xaxis", "yaxis")}
        values = await self._read(directory, "raster", **axes, **data)
        with in_memory(values) as fd:
            return await self._ask(_PAINTER, *_words({"fd": str(fd), **look}), fds=[fd])

    async def _open(self, ms_id: str) -> OpenDirectory:
        ms = await self.measurement_sets.find(ms_id)
        return await self.files.ask(self.files.open_directory, ms.path)

    async def _list(self, directory: OpenDirectory) -> list[TreeEntry]:
        return await self.files.ask(list_tree, directory, patience_s=_LISTED_WITHIN_S)

    @asynccontextmanager
    async def readable(self, ms_id: str) -> AsyncIterator[tuple[OpenDirectory, str]]:
        """Give a Measurement Set, open, without links that would lead a reader out of the roots; and its tag."""
        directory = await self._open(ms_id)
        try:
            yield directory, tree_tag(await self._list(directory))
        finally:
            directory.close()

    async def _read(self, directory: OpenDirectory, what: str, **options: str) -> bytes:
        return await self._ask(_READER, what, *_words({"fd": str(directory.fd), **options}), fds=[directory.fd])

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
