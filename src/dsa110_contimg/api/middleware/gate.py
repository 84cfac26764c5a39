"""The one gate in front of HTTP and WebSocket alike, as plain ASGI.

A request passes, in this order: size of its headers, form of its path, host name, client address, origin, kind and
announced length of its body, number of requests in flight, key, rate. A GET whose reply is known already is answered
here (``reply_memory.py``), everything else that passed by its route. What is refused gets the common error body with
the same headers as every other reply; a WebSocket is refused before it is accepted. What passes carries in
``scope["state"]``:

``request_id``
    Given by the client when it is sane, made otherwise; sent back on every reply.
``client_ip``
    The client's address, behind trusted proxies too. ``scope["client"]`` is set to it; nobody else rewrites it, so
    the server must run with its own proxy headers off.
``head``
    The request was HEAD: it is routed as GET and its body is left out.
``principal`` or ``denied``
    Who shows the key of the request, or why it is of no use; neither without a key.
"""

import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dsa110_contimg.api.middleware.admission import Admission
from dsa110_contimg.api.middleware.cross_origin import CrossOriginRule
from dsa110_contimg.api.middleware.exchange import (
    ASGIApp,
    Exchange,
    ExchangeLimits,
    Receive,
    Scope,
    Send,
    body_too_large,
)
from dsa110_contimg.api.reply_memory import KeptReply
from dsa110_contimg.api.security import Address, ClientAddressRule, HostRule, OriginRule, RefusedError

access_log = logging.getLogger("dsa110_contimg.api.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_JSON = re.compile(r"application/(?:[\w.-]+\+)?json", re.ASCII)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HEALTH = ("/health", "/health/live", "/health/ready")
_OPEN_PATHS = frozenset({f"{base}{path}" for base in ("/api", "/api/v1") for path in _HEALTH} | {"/metrics"})


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


async def nothing_known(scope: Scope) -> None:
    """Remember no reply."""


class Gate:
    """Pure ASGI middleware; see the module's text.

    Parameters
    ----------
    app
        What is behind the gate.
    rules : GateRules
        What passes.
    admission : Admission
        How many pass, and as whom.
    recall : callable
        Gives the reply to a GET that passed, where it is known already.
    """

    def __init__(
        self,
        app: ASGIApp,
        rules: GateRules,
        admission: Admission,
        recall: Callable[[Scope], Awaitable[KeptReply | None]] = nothing_known,
    ) -> None:
        self.app = app
        self.rules = rules
        self.admission = admission
        self.recall = recall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge one connection and hand it on, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        passage = _Passage(scope, send, self)
        try:
            await passage.run(receive)
        except RefusedError as refusal:
            await passage.exchange.refuse(refusal)
        finally:
            passage.log()


class _Passage:
    """One request on its way through the gate."""

    def __init__(self, scope: Scope, send: Send, gate: Gate) -> None:
        self.scope = scope
        self.send = send
        self.app = gate.app
        self.recall = gate.recall
        self.rules = gate.rules
        self.admission = gate.admission
        self.exchange = Exchange(scope, send, gate.rules.limits)
        self.websocket = self.exchange.websocket
        self.started_s = time.perf_counter()
        self.forwarded = self._values(b"x-forwarded-for")
        self.exchange.added += self.rules.cross_origin.headers(self._values(b"origin"))
        state = scope.setdefault("state", {})
        state["request_id"] = self.request_id = self._request_id()
        state["head"] = self.exchange.method == "HEAD"
        #: Plain health and metrics: open to everybody, and answered however busy the rest is.
        self.is_open = self.exchange.path in _OPEN_PATHS and not self.websocket and not self.scope.get("query_string")

    def _values(self, name: bytes) -> list[str]:
        return self.exchange.values(name)

    def _request_id(self) -> str:
        given = self._values(b"x-request-id")
        return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else os.urandom(16).hex()

    async def run(self, receive: Receive) -> None:
        """Judge the request and hand it on.

        Raises
        ------
        RefusedError
            It may not pass.
        """
        address = self.check()
        if address is None or self.is_open:
            await self.exchange.serve(self.app, receive)
        elif self.websocket:
            await self._open_socket(address, receive)
        else:
            with self.admission.in_flight(self.scope["state"].get("ahead", 0)):
                await self._admit(address)
                await self._serve(receive)

    async def _serve(self, receive: Receive) -> None:
        if self._is_preflight():
            await self.exchange.answer(204, self.rules.cross_origin.preflight(), b"")
            return
        await self.exchange.serve(self._known_or_made, receive)

    async def _known_or_made(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = await self.recall(scope) if self.exchange.method in ("GET", "HEAD") else None
        if kept is None:
            await self.app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": kept.headers})
            await send({"type": "http.response.body", "body": kept.body})

    async def _admit(self, address: Address) -> None:
        allowance = await self.admission.admit(self.scope, address, forwarded=bool(self.forwarded))
        if allowance is not None:
            self.exchange.add(allowance.headers)

    async def _open_socket(self, address: Address, receive: Receive) -> None:
        with self.admission.open_socket(address, forwarded=bool(self.forwarded)):
            await self._admit(address)
            self.exchange.status = 101
            await self.app(self.scope, receive, self.send)

    # --- judging -----------------------------------------------------------------------------------------------------

    def check(self) -> Address | None:
        """Refuse what may not pass; return the client's address, None where nobody asks for it."""
        self._check_size_of_headers()
        path = self.exchange.path
        if not path.startswith("/") or "\0" in path:
            raise RefusedError(400, "BAD_PATH", "The request target must be a path that begins with a slash.")
        host = self.rules.hosts.require_allowed(self._values(b"host"))
        address = self._check_client()
        self._check_origin(host)
        if not self.websocket:
            self._check_announced_body()
        return address

    def _check_size_of_headers(self) -> None:
        headers = self.scope["headers"]
        size = sum(len(name) + len(value) + 4 for name, value in headers) + len(self.scope.get("query_string", b""))
        if len(headers) > self.rules.max_headers or size > self.rules.max_header_bytes:
            raise RefusedError(
                431, "HEADERS_TOO_LARGE",
                f"{len(headers)} headers of {size} bytes; at most {self.rules.max_headers} headers of "
                f"{self.rules.max_header_bytes} bytes are read.",
            )  # fmt: skip

    def _check_client(self) -> Address | None:
        peer = self.scope["client"][0] if self.scope.get("client") else None
        try:
            address = self.rules.clients.client(peer, self.forwarded)
            if not self.is_open:
                self.rules.clients.require_allowed(address)
        except RefusedError:
            if not self.is_open:
                raise
            return None
        self.scope["state"]["client_ip"] = text = str(address)
        if text != peer:
            self._believe_proxy(text)
        return address

    def _believe_proxy(self, address: str) -> None:
        """Take over what a trusted proxy says: the client's address and whether it came by TLS."""
        self.scope["client"] = (address, 0)
        scheme = self._values(b"x-forwarded-proto")
        if scheme in (["https"], ["http"]) and not self.websocket:
            self.scope["scheme"] = scheme[0]
            self.exchange.secure = scheme[0] == "https"

    def _check_origin(self, host: tuple[str, int | None]) -> None:
        """Refuse pages of others where something is changed, kept open, or asked for in advance."""
        origins = self._values(b"origin")
        if self.websocket or self.exchange.method not in _SAFE_METHODS or self._is_preflight():
            self.rules.origins.require_allowed(origins, host, self._values(b"sec-fetch-site"))

    def _is_preflight(self) -> bool:
        return (
            self.exchange.method == "OPTIONS"
            and bool(self._values(b"origin"))
            and bool(self._values(b"access-control-request-method"))
        )

    def _check_announced_body(self) -> None:
        encodings = {value.strip().lower() for value in self._values(b"content-encoding")}
        if encodings - {"", "identity"}:
            raise RefusedError(415, "UNSUPPORTED_ENCODING", "Send the body as it is, without Content-Encoding.")
        lengths = self._values(b"content-length")
        for length in lengths:
            if not (length.isascii() and length.isdigit()):
                raise RefusedError(400, "BAD_CONTENT_LENGTH", f"Content-Length {length[:40]!r} is no number of bytes.")
            if len(length) > 18 or int(length) > self.rules.limits.max_body_bytes:
                raise body_too_large(self.rules.limits.max_body_bytes)
        if self._values(b"transfer-encoding") or any(int(length) for length in lengths):
            self._check_kind_of_body()

    def _check_kind_of_body(self) -> None:
        """Let only JSON in, and only under its name: a form of another page cannot send that without asking first."""
        kinds = self._values(b"content-type")
        if len(kinds) != 1 or not _JSON.fullmatch(kinds[0].partition(";")[0].strip().lower()):
            raise RefusedError(
                415, "UNSUPPORTED_MEDIA_TYPE",
                f"A body of the kind {', '.join(kinds)[:80]!r} is not read; send JSON as application/json.",
            )  # fmt: skip

    def log(self) -> None:
        """Write one line; the path is quoted so that no line break in it makes a second one."""
        if not access_log.isEnabledFor(logging.INFO):
            return
        elapsed_ms = round((time.perf_counter() - self.started_s) * 1e3, 1)
        facts = {
            "request_id": self.request_id,
            "client": self.scope["state"].get("client_ip"),
            "elapsed_ms": elapsed_ms,
        }
        access_log.info("%s %r %d", self.exchange.method, self.exchange.path, self.exchange.status, extra=facts)
