"""A reply that sends an open file, whole or one range of it (RFC 9110, section 14)."""

import os
import re
from collections.abc import AsyncIterator
from email.utils import formatdate

from anyio import to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dsa110_contimg.api.file_access import Opened, OpenFile
from dsa110_contimg.api.replies import saved_as
from dsa110_contimg.api.request_error import RequestError

_CHUNK_BYTES = 256 << 10
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class UnsatisfiableRangeError(ValueError):
    """The range begins behind the end of the file."""


def parse_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """Return first and last byte of the range a client asks for; None means the whole file.

    Several ranges at once, other units and malformed headers are ignored, as the standard allows: the whole file is
    sent.

    Raises
    ------
    UnsatisfiableRangeError
        Nothing of the range is in the file.
    """
    match = _ONE_RANGE.fullmatch((header or "").strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        first, last = max(0, size_bytes - int(match[2])), size_bytes - 1
    else:
        first, last = int(match[1]), min(int(match[2] or size_bytes - 1), size_bytes - 1)
        if match[2] and int(match[2]) < first:
            return None
    if first > last or first >= size_bytes:
        raise UnsatisfiableRangeError(f"{header} of {size_bytes} bytes")
    return first, last


async def pieces_of(file: Opened, start: int, end: int) -> AsyncIterator[bytes]:
    """Give the bytes of an open file from ``start`` up to ``end``, read outside the event loop.

    Raises
    ------
    OSError
        The file was cut short: the connection breaks, the client must not believe the reply whole.
    """
    for begin in range(start, end, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, end - begin)
        piece = await to_thread.run_sync(os.pread, file.fd, length, begin)
        if len(piece) < length:
            raise OSError(f"{file.name} ended at byte {begin + len(piece)} while it was sent")
        yield piece


class FileReply(Response):
    """Sends an open file and closes it.

    Parameters
    ----------
    file : OpenFile
        What to send.
    media_type : str
    cache_control : str
        How long clients may keep it.
    attachment : bool
        Offer it for saving under its name rather than for showing.
    """

    def __init__(self, file: OpenFile, media_type: str, cache_control: str, *, attachment: bool = False) -> None:
        super().__init__(None, 200, media_type=media_type)
        self.file = file
        self.headers["accept-ranges"] = "bytes"
        self.headers["etag"] = file.tag
        self.headers["last-modified"] = formatdate(file.modified_s, usegmt=True)
        self.headers["cache-control"] = cache_control
        if attachment:
            self.headers["content-disposition"] = saved_as(file.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then the bytes in pieces read outside the event loop."""
        try:
            first, last = self._choose(scope)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope.get("state", {}).get("head"):
                last = first - 1
            async for piece in pieces_of(self.file, first, last + 1):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.file.close()

    def _choose(self, scope: Scope) -> tuple[int, int]:
        """Decide what is sent and set status and lengths."""
        asked = {name: value.decode("latin-1") for name, value in scope["headers"]}
        size = self.file.size_bytes
        try:
            part = parse_range(asked.get(b"range"), size) if self._still_current(asked.get(b"if-range")) else None
        except UnsatisfiableRangeError as error:
            message = f"The file has no such part: {error}; ask for one that begins before its end."
            raise RequestError(416, "RANGE_NOT_SATISFIABLE", message, {"Content-Range": f"bytes */{size}"}) from error
        first, last = part or (0, size - 1)
        if part and not self._unchanged(asked.get(b"if-none-match")):
            self.status_code = 206
            self.headers["content-range"] = f"bytes {first}-{last}/{size}"
        self.headers["content-length"] = str(last - first + 1)
        return first, last

    def _still_current(self, condition: str | None) -> bool:
        """Tell whether ``If-Range`` still names this file; a date has seconds only and is compared as text."""
        return condition is None or condition in (self.file.tag, self.headers["last-modified"])

    def _unchanged(self, condition: str | None) -> bool:
        return condition is not None and self.file.tag in condition
