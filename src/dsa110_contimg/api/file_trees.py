"""A directory that is served as a whole: its files by descriptors, and a tar archive of it that is never on a disk."""

import hashlib
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from anyio import to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dsa110_contimg.api.exceptions import FileNotAccessibleError
from dsa110_contimg.api.file_access import DIRECTORY_FLAGS, FILE_FLAGS, OpenDirectory, Opened, Opener, descend
from dsa110_contimg.api.file_reply import pieces_of
from dsa110_contimg.api.replies import saved_as

_MOST_ENTRIES = 100_000
_END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One file or directory of a tree."""

    path: str  # below the tree, with slashes
    size_bytes: int  # 0 of a directory
    modified_ns: int
    is_directory: bool

    @property
    def padding_bytes(self) -> int:
        """Zeros that follow the file in an archive."""
        return -self.size_bytes % tarfile.BLOCKSIZE


def list_tree(directory: OpenDirectory, opener: Opener = os.open, most: int = _MOST_ENTRIES) -> list[TreeEntry]:
    """Return what lies below a directory, in the order of names, each directory before what is in it.

    Parameters
    ----------
    directory : OpenDirectory
        The directory.
    opener : Opener
        Opens the directories in it.
    most : int
        Files and directories that are listed at most.

    Raises
    ------
    FileNotAccessibleError
        Something in it is neither a file nor a directory (a symbolic link leads out of what is served), there is too
        much, or it changes while it is listed.
    """
    entries: list[TreeEntry] = []
    try:
        for entry in _below(directory.fd, "", directory.name, opener):
            entries.append(entry)
            if len(entries) > most:
                raise FileNotAccessibleError(directory.name, "list", f"it has more than {most} files")
    except OSError as error:
        raise FileNotAccessibleError(directory.name, "list", f"it changes meanwhile ({error.strerror})") from error
    return entries


def _below(fd: int, prefix: str, name: str, opener: Opener) -> Iterator[TreeEntry]:
    with os.scandir(fd) as found:
        names = sorted(item.name for item in found)
    for item in names:
        path = f"{prefix}{item}"
        known = os.stat(item, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(known.st_mode):
            yield TreeEntry(path, 0, known.st_mtime_ns, True)
            deeper = opener(item, DIRECTORY_FLAGS, dir_fd=fd)
            try:
                yield from _below(deeper, f"{path}/", name, opener)
            finally:
                os.close(deeper)
        elif stat.S_ISREG(known.st_mode):
            yield TreeEntry(path, known.st_size, known.st_mtime_ns, False)
        else:
            told = f"{name}/{path}"
            raise FileNotAccessibleError(told, "read", "it is neither a file nor a directory", told)


def tree_tag(entries: list[TreeEntry]) -> str:
    """Return a strong validator: names, sizes and times of everything in the tree."""
    digest = hashlib.blake2b(digest_size=16)
    for entry in entries:
        digest.update(f"{entry.path}\0{entry.size_bytes}\0{entry.modified_ns}\n".encode(errors="surrogateescape"))
    return f'"{digest.hexdigest()}"'


def _header(root: str, entry: TreeEntry) -> bytes:
    info = tarfile.TarInfo(f"{root}/{entry.path}")
    info.type = tarfile.DIRTYPE if entry.is_directory else tarfile.REGTYPE
    info.mode = 0o755 if entry.is_directory else 0o644
    info.size = entry.size_bytes
    info.mtime = entry.modified_ns // 1_000_000_000
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class TarReply(Response):
    """Sends an open directory as a tar archive and closes it. Nothing is written anywhere; the length is known before.

    Parameters
    ----------
    directory : OpenDirectory
        The directory; the archive holds one of its name.
    entries : list of TreeEntry
        What is in it.
    cache_control : str
        How long clients may keep it.
    """

    def __init__(self, directory: OpenDirectory, entries: list[TreeEntry], cache_control: str) -> None:
        super().__init__(None, 200, media_type="application/x-tar")
        self.directory = directory
        self.entries = entries
        self._heads = [_header(directory.name, entry) for entry in entries]
        held = sum(entry.size_bytes + entry.padding_bytes for entry in entries)
        self.headers["content-length"] = str(sum(map(len, self._heads)) + held + len(_END))
        self.headers["accept-ranges"] = "none"
        self.headers["etag"] = tree_tag(entries)
        self.headers["cache-control"] = cache_control
        self.headers["content-disposition"] = saved_as(f"{directory.name}.tar")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then header and bytes of each file."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if not scope.get("state", {}).get("head"):
                for entry, header in zip(self.entries, self._heads, strict=True):
                    await send({"type": "http.response.body", "body": header, "more_body": True})
                    async for piece in self._pieces(entry):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": _END, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.directory.close()

    async def _pieces(self, entry: TreeEntry) -> AsyncIterator[bytes]:
        """Give the bytes of a file and its padding.

        Raises
        ------
        OSError
            The file is not any more what it was: the connection breaks, the client must not believe the archive whole.
        """
        if entry.is_directory:
            return
        file = await to_thread.run_sync(self._open, entry.path)
        try:
            async for piece in pieces_of(file, 0, entry.size_bytes):
                yield piece
            if os.fstat(file.fd).st_mtime_ns != entry.modified_ns:
                raise OSError(f"{entry.path} was written while it was sent")
        finally:
            file.close()
        if entry.padding_bytes:
            yield bytes(entry.padding_bytes)

    def _open(self, path: str) -> Opened:
        return Opened(descend(self.directory.fd, path.split("/"), FILE_FLAGS), path)
