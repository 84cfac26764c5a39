"""Archives that are made while they are sent: nothing lies on disk, and a piece at a time in memory."""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import RawIOBase
from typing import Literal

from dsa110_contimg.api.file_access import OpenFile

ArchiveFormat = Literal["zip", "tar"]
MEDIA_TYPES = {"zip": "application/zip", "tar": "application/gzip"}
ENDINGS = {"zip": ".zip", "tar": ".tar.gz"}

_PIECE_BYTES = 256 << 10
_ZIP_DATES_S = (datetime(1980, 1, 1, tzinfo=UTC).timestamp(), datetime(2107, 12, 31, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive: its name there, size and time, and what opens it when its turn has come."""

    name: str
    size_bytes: int
    modified_s: float
    open: Callable[[], OpenFile]


def pieces(kind: ArchiveFormat, members: Sequence[Member]) -> Iterator[bytes]:
    """Give an archive piece by piece: ``zip`` (stored) or ``tar`` (gzip, fastest).

    Raises
    ------
    OSError, FileNotAccessibleError
        A file went, was replaced or became shorter meanwhile; what was given is no whole archive.
    """
    return _zip(members) if kind == "zip" else _tar(members)


def _content(member: Member) -> Iterator[bytes]:
    """Give exactly as many bytes of a file as were announced."""
    file = member.open()
    try:
        if (file.size_bytes, file.modified_s) != (member.size_bytes, member.modified_s):
            raise OSError(f"{member.name} is another file than was announced")
        for start in range(0, member.size_bytes, _PIECE_BYTES):
            wanted = min(_PIECE_BYTES, member.size_bytes - start)
            piece = os.pread(file.fd, wanted, start)
            if len(piece) < wanted:
                raise OSError(f"{member.name} ended at byte {start + len(piece)} while it was sent")
            yield piece
    finally:
        file.close()


class _Drain(RawIOBase):
    """Takes what an archive writes, until somebody fetches it."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, piece: bytes) -> int:  # type: ignore[override]
        self._written.append(bytes(piece))
        return len(piece)

    def fetch(self) -> bytes:
        fetched, self._written = b"".join(self._written), []
        return fetched


def _zip(members: Sequence[Member]) -> Iterator[bytes]:
    drain = _Drain()
    with zipfile.ZipFile(drain, "w") as archive:
        for member in members:
            moment = datetime.fromtimestamp(min(max(member.modified_s, _ZIP_DATES_S[0]), _ZIP_DATES_S[1]), UTC)
            entry = zipfile.ZipInfo(member.name, moment.timetuple()[:6])
            with archive.open(entry, "w", force_zip64=True) as target:
                for piece in _content(member):
                    target.write(piece)
                    yield drain.fetch()
    yield drain.fetch()


def _tar(members: Sequence[Member]) -> Iterator[bytes]:
    packer = zlib.compressobj(level=1, wbits=31)
    for member in members:
        entry = tarfile.TarInfo(member.name)
        entry.size, entry.mtime = member.size_bytes, int(member.modified_s)
        yield packer.compress(entry.tobuf(tarfile.PAX_FORMAT))
        for piece in _content(member):
            yield packer.compress(piece)
        yield packer.compress(bytes(-member.size_bytes % tarfile.BLOCKSIZE))
    yield packer.compress(bytes(2 * tarfile.BLOCKSIZE)) + packer.flush()
