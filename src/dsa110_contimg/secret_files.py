"""Secrets that stand in files rather than in the environment, which every child process inherits."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

SUFFIX = "_FILE"
_LARGEST = 64 << 10


def read_secret(path: Path) -> str:
    """Return the text of a file that only its owner may read, without the line end.

    Raises
    ------
    ValueError
        The file cannot be read, is no small regular file, or others may read or write it; the message says what would
        be right and never what the file holds.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror})") from None
    try:
        _check(os.fstat(descriptor))
        return os.read(descriptor, _LARGEST).decode().strip()
    except UnicodeDecodeError:
        raise ValueError("a file of UTF-8 text") from None
    finally:
        os.close(descriptor)


def _check(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
        raise ValueError(f"a regular file of at most {_LARGEST} bytes")
    if found.st_mode & 0o077:
        raise ValueError(f"a file that only its owner may read: chmod 600 (it has {found.st_mode & 0o777:04o})")


def secret_text(environ: Mapping[str, str], variable: str) -> str:
    """Return the value of a variable, or of the file that ``<variable>_FILE`` names; empty when neither is set.

    Raises
    ------
    ValueError
        Both are set, or the file cannot be used.
    """
    value, path = environ.get(variable, "").strip(), environ.get(variable + SUFFIX, "").strip()
    if value and path:
        raise ValueError(f"given once, but {variable} and {variable}{SUFFIX} are both set")
    return read_secret(Path(path)) if path else value
