"""Pages of other origins: what they are told they may do, exactly for the origins of the settings (CORS)."""

from collections.abc import Sequence
from dataclasses import dataclass

from dsa110_contimg.api.middleware.headers import Header

_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_ASKED = "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Range, X-Request-ID"
_TOLD = (
    b"Content-Disposition, Content-Range, ETag, Link, Location, Retry-After, X-RateLimit-Limit, "
    b"X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-ID, X-Total-Count"
)
_KEPT_S = b"600"


@dataclass(frozen=True, slots=True)
class CrossOriginRule:
    """Which origins may read replies.

    Attributes
    ----------
    origins : frozenset of str
        As browsers send them. Nobody is let in by a pattern, and no cookies are asked for: keys come in headers.
    key_header : str
        Name of the header for keys.
    """

    origins: frozenset[str] = frozenset()
    key_header: str = "X-API-Key"

    def headers(self, given: Sequence[str]) -> tuple[Header, ...]:
        """Return the headers of a reply to a page; ``Vary`` also where another origin would have got other headers."""
        if not self.origins:
            return ()
        varies = (b"vary", b"Origin")
        if len(given) != 1 or given[0] not in self.origins:
            return (varies,)
        return (
            varies,
            (b"access-control-allow-origin", given[0].encode("latin-1")),
            (b"access-control-expose-headers", _TOLD),
            (b"cross-origin-resource-policy", b"cross-origin"),
        )

    def preflight(self) -> list[Header]:
        """Return what is added to the reply to a browser that asks before it asks."""
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", f"{_ASKED}, {self.key_header}".encode()),
            (b"access-control-max-age", _KEPT_S),
        ]
