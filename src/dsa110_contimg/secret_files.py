"""Secrets: read from files rather than from the environment, which every child process inherits, and never shown."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

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


def password_of(url: str) -> str:
    """Return the password in a URL, as it stands there; empty when there is none."""
    parts = urlsplit(url)
    asked = re.search(r"(?:^|&)password=([^&]*)", parts.query)
    return parts.password or (asked[1] if asked else "")


def masked(url: str) -> str:
    """Return a URL with ``***`` in place of its password, or of all where nobody can tell which part that is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    if parts.password is None and "password=" not in parts.query:
        return url
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}:***@{host}" if parts.password is not None else parts.netloc
    query = re.sub(r"(password=)[^&]*", r"\1***", parts.query)
    return urlunsplit((parts.scheme, netloc, parts.path, query, parts.fragment))
