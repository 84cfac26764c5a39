"""Files that may be served: regular files beneath the data roots, found at the time of use.

A path in the database is no permission. It is walked from its root by descriptors, one component after the other, and
no component may be a symbolic link, so that nothing outside can be reached, also when a directory is exchanged during
the walk. What is served is the file that was opened and checked, not the name.
"""

import asyncio
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar, TypeVarTuple

from dsa110_contimg.api.exceptions import FileNotAccessibleError, ServiceUnavailableError

FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not stop us
DIRECTORY_FLAGS = FILE_FLAGS | os.O_DIRECTORY
THREADS = 8
Given = TypeVarTuple("Given")
Result = TypeVar("Result")


class Opener(Protocol):
    """``os.open``; tests exchange files between two steps of a walk."""

    def __call__(self, path: str, flags: int, *, dir_fd: int | None = None) -> int:
        """Return the descriptor of a path, below the directory ``dir_fd`` if that is given."""


def descend(directory: int, parts: Sequence[str], flags: int, opener: Opener = os.open) -> int:
    """Open ``part/part/...`` below an open directory and follow no symbolic link; without parts, the directory itself.

    Parameters
    ----------
    directory : int
        Descriptor; it stays open.
    parts : sequence of str
        Names, each in the directory before it.
    flags : int
        How the last is opened; they must hold ``O_NOFOLLOW``.
    opener : Opener
        Opens each part.

    Raises
    ------
    OSError
        A part is not there, is a symbolic link, or is not what the flags want.
    """
    *passed, last = parts or (".",)
    with ExitStack() as opened:
        for part in passed:
            directory = opener(part, DIRECTORY_FLAGS, dir_fd=directory)
            opened.callback(os.close, directory)
        return opener(last, flags, dir_fd=directory)


@dataclass(slots=True, eq=False)
class Opened:
    """An open descriptor; whoever has it closes it, and what nobody has any more is closed by itself.

    A file is opened in a thread. Who waits for it may be gone (cancelled, out of time) when it is open at last, or
    before a reply sends it: nobody else knows its descriptor then.

    Attributes
    ----------
    fd : int
        Descriptor, -1 when it was closed.
    name : str
        Last part of its path.
    """

    fd: int
    name: str

    def close(self) -> None:
        """Close the descriptor; done twice, nothing else is closed that has its number by now."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        """Close what was lost."""
        self.close()


@dataclass(slots=True, eq=False)
class OpenFile(Opened):
    """A regular file, open for reading.

    Attributes
    ----------
    size_bytes : int
    modified_s : float
        Unix seconds.
    tag : str
        Strong validator: files are replaced by renaming, so inode, time and size change with the content.
    """

    size_bytes: int
    modified_s: float
    tag: str


@dataclass(slots=True, eq=False)
class OpenDirectory(Opened):
    """A directory, open for reading."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A path that begins with a root: the root, and the names below it."""

    path: str
    root: Path
    parts: tuple[str, ...]

    def refused(self, operation: str, reason: str) -> FileNotAccessibleError:
        return FileNotAccessibleError(self.path, operation, reason, "/".join(self.parts))


class FileStore:
    """Opens files beneath the configured roots.

    Parameters
    ----------
    roots
        Directories; they may be given through symbolic links, what lies below may not. A root that becomes a link later
        is refused.
    opener : Opener
        Opens each component of a path.
    patience_s : float
        How long :meth:`ask` waits.
    """

    def __init__(self, roots: Iterable[Path], opener: Opener = os.open, patience_s: float = 1.75) -> None:
        self._roots = [(root, root.resolve()) for root in roots]
        self._opener = opener
        self._patience_s = patience_s
        self._threads = ThreadPoolExecutor(THREADS, "storage")

    async def ask(self, work: Callable[[*Given], Result], *given: *Given, patience_s: float | None = None) -> Result:
        """Do something with files in one of the threads that are kept for it, and return its result.

        Storage that hangs holds these threads and no others: the rest of the process goes on.

        Parameters
        ----------
        work : callable
            What storage may keep waiting.
        given
            Its arguments.
        patience_s : float, optional
            How long to wait, where that is not as usual.

        Raises
        ------
        ServiceUnavailableError
            Storage does not answer.
        """
        limit_s = patience_s or self._patience_s
        answer = asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*given))
        try:
            async with asyncio.timeout(limit_s):
                return await answer
        except TimeoutError as error:
            raise ServiceUnavailableError("storage", f"no answer in {limit_s:g} s") from error

    def open(self, path: str) -> OpenFile:
        """Open a file for reading.

        Raises
        ------
        FileNotAccessibleError
            The path is outside the roots, goes through a symbolic link, does not exist, or is no regular file.
        """
        place = self._beneath(path)
        try:
            fd = self._walk(place.root, place.parts, FILE_FLAGS)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
            raise place.refused("open", "it does not exist or is not a file") from error
        with ExitStack() as undo:
            undo.callback(os.close, fd)
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise place.refused("open", "it is not a regular file")
            tag = f'"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"'
            undo.pop_all()
        return OpenFile(fd, place.parts[-1], found.st_size, found.st_mtime, tag)

    def open_directory(self, path: str) -> OpenDirectory:
        """Open a directory for reading what lies below it; the same rules as for files.

        Raises
        ------
        FileNotAccessibleError
            The path is outside the roots, goes through a symbolic link, does not exist, or is no directory.
        """
        place = self._beneath(path)
        try:
            fd = self._walk(place.root, place.parts, DIRECTORY_FLAGS)
        except (OSError, ValueError) as error:
            raise place.refused("open", "it does not exist or is not a directory") from error
        return OpenDirectory(fd, place.parts[-1])

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with what is in it, beneath the roots; symbolic links are not followed.

        Raises
        ------
        FileNotAccessibleError
            The path is outside the roots, goes through a symbolic link, is not there, or may not be removed.
        """
        place = self._beneath(path)
        *parents, name = place.parts
        try:
            parent = self._walk(place.root, parents, DIRECTORY_FLAGS)
            try:
                if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    shutil.rmtree(name, dir_fd=parent)
                else:
                    os.unlink(name, dir_fd=parent)
            finally:
                os.close(parent)
        except (OSError, ValueError) as error:
            raise place.refused("remove", "it does not exist or may not be removed") from error

    def _beneath(self, path: str) -> _Place:
        """Return the root that holds the path, and the components below it."""
        given = PurePosixPath(path)
        for configured, real in self._roots:
            for root in (configured, real):
                if given.is_relative_to(root) and ".." not in given.parts and len(given.parts) > len(root.parts):
                    return _Place(path, real, given.relative_to(root).parts)
        raise FileNotAccessibleError(path, "open", "it is outside the data directories that are served")

    def _walk(self, root: Path, parts: Sequence[str], flags: int) -> int:
        directory = self._opener(str(root), DIRECTORY_FLAGS)
        try:
            return descend(directory, parts, flags, self._opener)
        finally:
            os.close(directory)
