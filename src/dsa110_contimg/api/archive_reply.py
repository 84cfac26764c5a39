"""A reply that sends an archive while it is made."""

from collections.abc import Sequence
from urllib.parse import quote

from anyio import to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dsa110_contimg.api.archive import ENDINGS, MEDIA_TYPES, ArchiveFormat, Member, pieces

_END = b""


class ArchiveReply(Response):
    """Sends files as one archive.

    Parameters
    ----------
    name : str
        Of the archive, without ending; letters, digits, ``-`` and ``_``.
    kind : str
        ``zip`` or ``tar`` (gzip).
    members
        What it holds.
    missing
        Ids of which there is nothing to put in, for the header ``X-Not-Included``, percent-encoded.
    """

    def __init__(self, name: str, kind: ArchiveFormat, members: Sequence[Member], missing: Sequence[str] = ()) -> None:
        super().__init__(None, 200, media_type=MEDIA_TYPES[kind])
        self._pieces = pieces(kind, members)
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["content-disposition"] = f'attachment; filename="{name}{ENDINGS[kind]}"'
        if missing:
            self.headers["x-not-included"] = ",".join(quote(one, "/:+", errors="replace") for one in missing)[:1000]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then each piece, made outside the event loop; a client that goes ends the making."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if not scope.get("state", {}).get("head"):
            while piece := await to_thread.run_sync(self._next):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _next(self) -> bytes:
        """Return the next piece that is not empty; empty at the end."""
        return next(filter(None, self._pieces), _END)
