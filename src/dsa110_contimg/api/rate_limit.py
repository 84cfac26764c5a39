"""How often one client may ask: the classes of requests, whom a request is counted for, and the refusal.

Nothing here does input or output; ``services/rate_limiter.py`` counts, the gate refuses.
"""

import math
import re
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Network
from typing import Any

from dsa110_contimg.api.security import SAFE_METHODS, Address, RefusedError


class RateClass(StrEnum):
    """Classes of requests; each is counted by itself."""

    STANDARD = "standard"
    HIGH = "high"  # what pages ask every few seconds
    WRITE = "write"
    HEAVY = "heavy"
    BATCH = "batch"
    FAILED_KEYS = "failed keys"


_BASE = r"(?:/api(?:/v1)?)?"
_HEAVY = re.compile(rf"{_BASE}/.*/(?:export|cutout|animation|bulk-download|download|raster|reimage)", re.DOTALL)
_BATCH = re.compile(rf"{_BASE}/[\w-]+/(?:bulk-[\w-]+|batch(?:es)?(?:/.*)?)", re.DOTALL)
_HEARTBEAT = re.compile(rf"{_BASE}/absurd/workers/[^/]*/heartbeat")
_HIGH = re.compile(
    rf"/|/web/.*|/api/(?:docs|redoc|openapi).*|/metrics"
    rf"|{_BASE}/(?:absurd|cache|health|jobs|logs|queue|services|stats|ws)(?:/.*)?"
    rf"|{_BASE}/images/.*/(?:thumbnail|fits)",
    re.DOTALL,
)


def class_of(method: str, path: str) -> RateClass:
    """Return the class of a request; a path that no route has is of a class too."""
    if method not in SAFE_METHODS:
        return _class_of_change(path)
    if _HEAVY.fullmatch(path):
        return RateClass.HEAVY
    return RateClass.HIGH if method == "OPTIONS" or _HIGH.fullmatch(path) else RateClass.STANDARD


def _class_of_change(path: str) -> RateClass:
    if _BATCH.fullmatch(path):
        return RateClass.BATCH
    if _HEAVY.fullmatch(path):
        return RateClass.HEAVY
    return RateClass.HIGH if _HEARTBEAT.fullmatch(path) else RateClass.WRITE


@lru_cache(maxsize=4096)
def bucket_of(address: Address) -> str:
    """Return whom the requests of an address are counted for: an IPv6 client has a whole /64 to choose from."""
    return str(address) if isinstance(address, IPv4Address) else str(IPv6Network((address, 64), strict=False))


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a client may still ask.

    Attributes
    ----------
    rule : str
        The limit in words.
    limit : int
        Requests in its window.
    remaining : int
        Of them, after this one.
    reset_at : float
        When the oldest request that is counted leaves the window, Unix seconds.
    passed : bool
        Whether this request is within the limit.
    """

    rule: str
    limit: int
    remaining: int
    reset_at: float
    passed: bool

    @property
    def reset_in_s(self) -> float:
        """Time until then."""
        return max(0.0, self.reset_at - time.time())

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the reply."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(math.ceil(self.reset_at)),
        }


class RateLimitedError(RefusedError):
    """A client that asks too often."""

    def __init__(self, allowance: Allowance) -> None:
        super().__init__(429, "rate_limit_exceeded", f"Too many requests. {allowance.rule}")
        self.action = "Wait for the number of seconds that Retry-After tells, and ask less often."
        self.retry_after_s = max(1, math.ceil(allowance.reset_in_s))
        self.headers = {**allowance.headers, "Retry-After": str(self.retry_after_s)}

    @property
    def code(self) -> str:
        """The web client's name for it."""
        return "RATE_LIMITED"

    def to_body(self, ref_id: str = "", trace_id: str = "") -> dict[str, Any]:
        """Return the common body with the time to wait, in seconds."""
        return {**super().to_body(ref_id, trace_id), "retry_after": self.retry_after_s}
