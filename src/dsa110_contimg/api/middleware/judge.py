"""Whether a request may pass by its head.

A client says the same of itself with each of its requests, and whether it may pass depends on nothing but that, the
kind of the request, the address of its connection and the rules. So what was read and let pass last is remembered; who
is refused is judged anew each time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from dsa110_contimg.api.middleware.cross_origin import CrossOriginRule
from dsa110_contimg.api.middleware.exchange import ExchangeLimits, body_too_large
from dsa110_contimg.api.middleware.head import Head
from dsa110_contimg.api.middleware.headers import Header
from dsa110_contimg.api.rate_limit import bucket_of
from dsa110_contimg.api.security import SAFE_METHODS, Address, ClientAddressRule, HostRule, OriginRule, RefusedError

_JSON = re.compile(r"application/(?:[\w.-]+\+)?json", re.ASCII)
_MOST_REMEMBERED = 256  # heads, of which each may have 32 KiB


@dataclass(frozen=True, slots=True)
class GateRules:
    """What the gate lets pass."""

    clients: ClientAddressRule
    hosts: HostRule
    origins: OriginRule
    cross_origin: CrossOriginRule = field(default_factory=CrossOriginRule)
    limits: ExchangeLimits = field(default_factory=ExchangeLimits)
    max_header_bytes: int = 16 << 10
    max_headers: int = 100


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, behind trusted proxies too.

    Attributes
    ----------
    text : str
        The address.
    bucket : str
        For whom its requests are counted.
    is_loopback : bool
        It is of this machine.
    """

    text: str
    bucket: str
    is_loopback: bool

    @classmethod
    def at(cls, address: Address) -> "Client":
        """Return the client at an address."""
        return cls(str(address), bucket_of(address), address.is_loopback)


class Judge:
    """Judges heads by rules.

    Parameters
    ----------
    rules : GateRules
        What passes.
    """

    def __init__(self, rules: GateRules) -> None:
        self.rules = rules
        self._read = lru_cache(_MOST_REMEMBERED)(Head)
        self._let_pass = lru_cache(_MOST_REMEMBERED)(self._judge)

    def read(self, headers: Sequence[Header]) -> Head:
        """Return the head with these headers, which may be one that was read before."""
        return self._read(tuple(headers))

    def let_pass(self, head: Head, peer: str | None, method: str, websocket: bool, is_open: bool) -> Client | None:
        """Return who asks, None where anybody may and it cannot be told.

        Parameters
        ----------
        head : Head
        peer : str, optional
            Address of the connection.
        method : str
            GET for a WebSocket.
        websocket : bool
        is_open : bool
            Everybody may ask for this.

        Raises
        ------
        RefusedError
            The request may not pass.
        """
        return self._let_pass(head, peer, method, websocket, is_open)

    def _judge(self, head: Head, peer: str | None, method: str, websocket: bool, is_open: bool) -> Client | None:
        host = self.rules.hosts.require_allowed(head.values(b"host"))
        client = self._client(head, peer, is_open)
        if websocket or method not in SAFE_METHODS or (method == "OPTIONS" and head.asks_before_asking):
            # Pages of others: something is changed, kept open, or asked for in advance.
            self.rules.origins.require_allowed(head.values(b"origin"), host, head.values(b"sec-fetch-site"))
        if not websocket:
            self._require_readable_body(head)
        return client

    def _client(self, head: Head, peer: str | None, is_open: bool) -> Client | None:
        try:
            address = self.rules.clients.client(peer, head.values(b"x-forwarded-for"))
            if not is_open:
                self.rules.clients.require_allowed(address)
        except RefusedError:
            if not is_open:
                raise
            return None
        return Client.at(address)

    def _require_readable_body(self, head: Head) -> None:
        encodings = {value.strip().lower() for value in head.values(b"content-encoding")}
        if encodings - {"", "identity"}:
            raise RefusedError(415, "UNSUPPORTED_ENCODING", "Send the body as it is, without Content-Encoding.")
        lengths = head.values(b"content-length")
        for length in lengths:
            if not (length.isascii() and length.isdigit()):
                raise RefusedError(400, "BAD_CONTENT_LENGTH", f"Content-Length {length[:40]!r} is no number of bytes.")
            if len(length) > 18 or int(length) > self.rules.limits.max_body_bytes:
                raise body_too_large(self.rules.limits.max_body_bytes)
        if head.values(b"transfer-encoding") or any(int(length) for length in lengths):
            _require_json(head)


def _require_json(head: Head) -> None:
    """Let only JSON in, and only under its name: a form of another page cannot send that without asking first."""
    kinds = head.values(b"content-type")
    if len(kinds) != 1 or not _JSON.fullmatch(kinds[0].partition(";")[0].strip().lower()):
        raise RefusedError(
            415, "UNSUPPORTED_MEDIA_TYPE",
            f"A body of the kind {', '.join(kinds)[:80]!r} is not read; send JSON as application/json.",
        )  # fmt: skip
