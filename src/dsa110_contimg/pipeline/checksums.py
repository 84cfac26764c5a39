"""SHA-256 of files and of directories such as Measurement Sets, for provenance.

The digest of a directory is the SHA-256 of one line per file, in order of the relative path:
``<relative path> <size in bytes> <SHA-256 of the content>``. Lock files of casacore (``table.lock``) are left out,
because a mere reader changes them.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.progress import Progress

_LOCK_FILE = "table.lock"


@dataclass(frozen=True, slots=True)
class DigestOptions:
    """Paths of files or directories to digest."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Digest:
    """Size (bytes; of a directory: of all its files) and SHA-256 of one path."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Digests:
    """One digest per path, in the order asked."""

    digests: tuple[Digest, ...]


def digest_all(options: DigestOptions, progress: Progress) -> Digests:
    """Digest every path.

    Raises
    ------
    BadInputError
        A path does not exist.
    """
    made = []
    for number, path in enumerate(options.paths):
        progress(number / len(options.paths), f"checksum of {Path(path).name}")
        made.append(digest(Path(path)))
    return Digests(tuple(made))


def digest(path: Path) -> Digest:
    """Return size and SHA-256 of a file or of a directory tree (see the module's text)."""
    if path.is_dir():
        return _digest_directory(path)
    if not path.is_file():
        raise BadInputError(f"{path} does not exist, so it has no checksum; was it removed while the stage ran?")
    return Digest(str(path), path.stat().st_size, _sha256(path))


def _digest_directory(root: Path) -> Digest:
    total, lines = 0, hashlib.sha256()
    for file in sorted(p for p in root.rglob("*") if p.is_file() and p.name != _LOCK_FILE):
        size = file.stat().st_size
        total += size
        lines.update(f"{file.relative_to(root).as_posix()} {size} {_sha256(file)}\n".encode())
    return Digest(str(root), total, lines.hexdigest())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
