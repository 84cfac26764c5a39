"""Files that may be served: regular files beneath the data roots, found at the time of use.

A path in the database is no permission. It is walked from its root by descriptors, one component after the other, and
no component may be a symbolic link, so that nothing outside can be reached, also when a directory is exchanged during
the walk. What is served is the file that was opened and checked, not the name.
"""

import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dsa110_contimg.api.exceptions import FileNotAccessibleError

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not stop us


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file, open for reading; whoever has it closes it.

    Attributes
    ----------
    fd : int
        Descriptor.
    name : str
        Last part of its path.
    size_bytes : int
    modified_s : float
        Unix seconds.
    tag : str
        Strong validator: files are replaced by renaming, so inode, time and size change with the content.
    """

    fd: int
    name: str
    size_bytes: int
    modified_s: float
    tag: str

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class OpenDirectory:
    """A directory, open for reading; whoever has it closes it."""

    fd: int
    name: str

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


class FileStore:
    """Opens files beneath the configured roots.

    Parameters
    ----------
    roots
        Directories; they may be given through symbolic links, what lies below may not.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = [(root, root.resolve()) for root in roots]

    def open(self, path: str) -> OpenFile:
        """Open a file for reading.

        Raises
        ------
        FileNotAccessibleError
            The path is outside the roots, goes through a symbolic link, does not exist, or is no regular file.
        """
        root, parts = self._beneath(path)
        try:
            fd = _walk(root, parts)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
            raise FileNotAccessibleError(path, "open") from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise FileNotAccessibleError(path, "open", "it is not a regular file")
        tag = f'"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"'
        return OpenFile(fd, parts[-1], found.st_size, found.st_mtime, tag)

    def open_directory(self, path: str) -> OpenDirectory:
        """Open a directory for reading what lies below it; the same rules as for files.

        Raises
        ------
        FileNotAccessibleError
            The path is outside the roots, goes through a symbolic link, does not exist, or is no directory.
        """
        root, parts = self._beneath(path)
        try:
            fd = _walk(root, parts, _DIRECTORY_FLAGS)
        except (OSError, ValueError) as error:
            raise FileNotAccessibleError(path, "open", "it does not exist or is not a directory") from error
        return OpenDirectory(fd, parts[-1])

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with what is in it, beneath the roots; symbolic links are not followed.

        Raises
        ------
        FileNotAccessibleError
            The path is outside the roots, goes through a symbolic link, is not there, or may not be removed.
        """
        root, parts = self._beneath(path)
        try:
            parent = _walk(root, parts[:-1], _DIRECTORY_FLAGS) if parts[:-1] else os.open(root, _DIRECTORY_FLAGS)
            try:
                if stat.S_ISDIR(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode):
                    shutil.rmtree(parts[-1], dir_fd=parent)
                else:
                    os.unlink(parts[-1], dir_fd=parent)
            finally:
                os.close(parent)
        except (OSError, ValueError) as error:
            raise FileNotAccessibleError(path, "remove") from error

    def _beneath(self, path: str) -> tuple[Path, tuple[str, ...]]:
        """Return the root that holds the path, and the components below it."""
        given = PurePosixPath(path)
        for configured, real in self._roots:
            for root in (configured, real):
                if given.is_relative_to(root) and ".." not in given.parts and len(given.parts) > len(root.parts):
                    return real, given.relative_to(root).parts
        raise FileNotAccessibleError(path, "open", "it is outside the data directories that are served")


def _walk(root: Path, parts: tuple[str, ...], last: int = _FILE_FLAGS) -> int:
    """Open ``root/part/part/...`` without following a symbolic link; return the descriptor of the last."""
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            deeper = os.open(part, _DIRECTORY_FLAGS, dir_fd=directory)
            os.close(directory)
            directory = deeper
        return os.open(parts[-1], last, dir_fd=directory)
    finally:
        os.close(directory)
