"""Products appear whole or not at all.

A product is written beside its final name as ``<name>.partial-<uuid>``, synchronised to the disk and renamed. A process
that is killed leaves its partial behind; the next one that makes the same product removes it. A product that exists is
replaced in one step where the file system can exchange two names, and in two renames where it cannot.
"""

import ctypes
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsa110_contimg.pipeline.errors import PermanentError, PipelineError, RetryableError

_PARTIAL = ".partial-"
_REPLACED = ".replaced-"
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
#: Left free for tables' own bookkeeping.
_RESERVE_MB = 50.0
_FULL = "no space left"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def written_aside(final: Path) -> Iterator[Path]:
    """Give the path to write a file or a directory to; on a clean exit it takes its final name.

    Parameters
    ----------
    final : Path
        Where the finished product shall be. Its parent directory is made; whatever has this name is replaced.

    Yields
    ------
    Path
        A path in the same directory that does not exist yet. When the block raises, what was written there is removed.

    Raises
    ------
    RetryableError
        The disk is full or the medium failed; names the path, the free space and the remedy.
    PermanentError
        The path may not be written, or the block wrote nothing.
    """
    partial = final.with_name(f"{final.name}{_PARTIAL}{uuid.uuid4().hex}")
    _prepare(final)
    try:
        yield partial
        if not partial.exists():
            raise PermanentError(f"{final}: the stage ended without writing this product; this is a defect, report it")
        give_name(partial, final)
    except OSError as error:
        raise storage_error(error, final) from error
    except RuntimeError as error:
        if _FULL not in str(error).lower():
            raise
        raise storage_error(OSError(str(error)), final) from error
    finally:
        remove(partial)


def _prepare(final: Path) -> None:
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(final)
    except (FileExistsError, NotADirectoryError) as error:
        raise PermanentError(f"{final.parent} is not a directory; choose another place for {final.name}") from error
    except OSError as error:
        raise storage_error(error, final) from error


def storage_error(error: OSError, path: Path) -> PipelineError:
    """Return the stage error that an operating-system error means, with path, free space and remedy in its text."""
    path = Path(error.filename) if isinstance(error.filename, str) else path
    full = error.errno in _NO_SPACE or _FULL in str(error).lower()  # libraries may report a full disk in words only
    reason = os.strerror(errno.ENOSPC) if full else error.strerror or str(error)
    if error.errno in _NO_PERMISSION:
        return PermanentError(f"{path}: {reason}; give the user of the worker write access to {path.parent}")
    if full:
        return RetryableError(
            f"{path}: {reason} ({free_space_mb(path.parent):.0f} MB free); free space on the disk of {path.parent}"
        )
    return RetryableError(f"{path}: {reason}; check the disk or mount of {path.parent}")


def free_space_mb(directory: Path) -> float:
    """Return the free space (MB) where the directory is, or where it would be made."""
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free / 1e6


def require_space(directory: Path, needed_bytes: int) -> None:
    """Raise RetryableError before a write if the disk cannot hold it and a reserve.

    casacore ends the whole process when it meets a full disk while it closes a table, so it must not come to that.
    """
    free_mb = free_space_mb(directory)
    if needed_bytes / 1e6 + _RESERVE_MB > free_mb:
        raise RetryableError(
            f"{directory}: {needed_bytes / 1e6:.0f} MB will be written but only {free_mb:.0f} MB are free; free some"
        )


def remove_stale(final: Path) -> None:
    """Remove what killed processes left of this product: partials, and old versions moved out of the way."""
    for mark in (_PARTIAL, _REPLACED):
        prefix = final.name + mark
        for leftover in final.parent.iterdir():
            if leftover.name.startswith(prefix):
                remove(leftover)


def remove(path: Path) -> None:
    """Remove a file or a directory tree; nothing happens if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def give_name(partial: Path, final: Path) -> None:
    """Give a finished file or directory its final name; each step is on the disk before the next is taken.

    Parameters
    ----------
    partial, final : Path
        Names in one directory; what has the final name is replaced. After a loss of power that is there, or all of
        the new.
    """
    _synchronise(partial)
    if not final.is_dir():
        partial.replace(final)
    elif _exchange(partial, final):
        remove(partial)
    else:
        replaced = final.with_name(f"{final.name}{_REPLACED}{uuid.uuid4().hex}")
        final.rename(replaced)
        partial.rename(final)
        remove(replaced)
    _fsync(final.parent)


def _synchronise(path: Path) -> None:
    """Force a file, or every file and directory of a tree, to the disk."""
    if path.is_dir():
        for child in path.iterdir():
            _synchronise(child)
    _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (Linux ``renameat2``); False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    result: int = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return result == 0
