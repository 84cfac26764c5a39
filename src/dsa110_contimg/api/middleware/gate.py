"""The one gate in front of HTTP and WebSocket alike, as plain ASGI.

A request passes, in this order: size of its headers, form of its path, host name, client address, origin, content
encoding, announced length. What is refused gets the common error body with the same headers as every other reply; a
WebSocket is refused before it is accepted. What passes carries in ``scope["state"]``:

``request_id``
    Given by the client when it is sane, made otherwise; sent back on every reply.
``client_ip``
    The client's address, behind trusted proxies too. ``scope["client"]`` is set to it; nobody else rewrites it, so
    the server must run with its own proxy headers off.
``head``
    The request was HEAD: it is routed as GET and its body is left out.
"""

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import ClientDisconnect

from dsa110_contimg.api.middleware.error_body import error_body
from dsa110_contimg.api.middleware.headers import Header, finished_headers
from dsa110_contimg.api.security import ClientAddressRule, HostRule, OriginRule, RefusedError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

access_log = logging.getLogger("dsa110_contimg.api.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HEALTH = ("/health", "/health/live", "/health/ready")
_OPEN_PATHS = frozenset({f"{base}{path}" for base in ("/api", "/api/v1") for path in _HEALTH} | {"/metrics"})
_POLICY_VIOLATION = 1008


@dataclass(frozen=True, slots=True)
class GateRules:
    """What the gate lets pass."""

    clients: ClientAddressRule
    hosts: HostRule
    origins: OriginRule
    max_body_bytes: int = 1 << 20
    max_header_bytes: int = 16 << 10
    max_headers: int = 100


class Gate:
    """Pure ASGI middleware; see the module's text."""

    def __init__(self, app: ASGIApp, rules: GateRules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge one connection and hand it on, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        passage = _Passage(scope, self.rules)
        try:
            await passage.run(self.app, receive, send)
        finally:
            passage.log()


class _Passage:
    """One request on its way through the gate."""

    def __init__(self, scope: Scope, rules: GateRules) -> None:
        self.scope = scope
        self.rules = rules
        self.websocket = scope["type"] == "websocket"
        self.method: str = "GET" if self.websocket else scope["method"]
        self.path: str = scope["path"]
        self.secure = scope.get("scheme") in ("https", "wss")
        self.started_s = time.perf_counter()
        self.status = 0  # of the reply, 0 until it has begun
        self.body_bytes = 0  # received so far
        self.refused = False
        self.request_id = self._request_id()
        state = scope.setdefault("state", {})
        state["request_id"] = self.request_id
        state["head"] = self.method == "HEAD"

    def _values(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in self.scope["headers"] if key.lower() == name]

    def _request_id(self) -> str:
        given = self._values(b"x-request-id")
        return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else uuid.uuid4().hex

    async def run(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        """Judge the request, then answer it or hand it on."""
        try:
            self.check()
        except RefusedError as refusal:
            await self.refuse(refusal, send)
            return
        if self.websocket:
            self.status = 101
            await app(self.scope, receive, send)
            return
        await self.serve(app, receive, send)

    # --- judging -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse what may not pass, by raising :class:`RefusedError`."""
        self._check_size_of_headers()
        if not self.path.startswith("/") or "\0" in self.path:
            raise RefusedError(400, "BAD_PATH", "The request target must be a path that begins with a slash.")
        host = self.rules.hosts.require_allowed(self._values(b"host"))
        self._check_client()
        if self.websocket or self.method not in _SAFE_METHODS:
            self.rules.origins.require_allowed(self._values(b"origin"), host)
        if not self.websocket:
            self._check_announced_body()

    def _check_size_of_headers(self) -> None:
        headers = self.scope["headers"]
        size = sum(len(name) + len(value) + 4 for name, value in headers) + len(self.scope.get("query_string", b""))
        if len(headers) > self.rules.max_headers or size > self.rules.max_header_bytes:
            raise RefusedError(
                431, "HEADERS_TOO_LARGE",
                f"{len(headers)} headers of {size} bytes; at most {self.rules.max_headers} headers of "
                f"{self.rules.max_header_bytes} bytes are read.",
            )  # fmt: skip

    def _check_client(self) -> None:
        """Find the client's address; plain health and metrics are open to everybody."""
        peer = self.scope["client"][0] if self.scope.get("client") else None
        is_open = not self.websocket and self.path in _OPEN_PATHS and not self.scope.get("query_string")
        try:
            address = self.rules.clients.client(peer, self._values(b"x-forwarded-for"))
            if not is_open:
                self.rules.clients.require_allowed(address)
        except RefusedError:
            if not is_open:
                raise
            return
        self.scope["state"]["client_ip"] = str(address)
        if str(address) != peer:
            self._believe_proxy(str(address))

    def _believe_proxy(self, address: str) -> None:
        """Take over what a trusted proxy says: the client's address and whether it came by TLS."""
        self.scope["client"] = (address, 0)
        scheme = self._values(b"x-forwarded-proto")
        if scheme in (["https"], ["http"]) and not self.websocket:
            self.scope["scheme"] = scheme[0]
            self.secure = scheme[0] == "https"

    def _check_announced_body(self) -> None:
        encodings = {value.strip().lower() for value in self._values(b"content-encoding")}
        if encodings - {"", "identity"}:
            raise RefusedError(415, "UNSUPPORTED_ENCODING", "Send the body as it is, without Content-Encoding.")
        for length in self._values(b"content-length"):
            if not (length.isascii() and length.isdigit()):
                raise RefusedError(400, "BAD_CONTENT_LENGTH", f"Content-Length {length[:40]!r} is no number of bytes.")
            if len(length) > 18 or int(length) > self.rules.max_body_bytes:
                raise self._body_too_large()

    def _body_too_large(self) -> RefusedError:
        return RefusedError(
            413, "PAYLOAD_TOO_LARGE", f"The body is larger than {self.rules.max_body_bytes} bytes; send less at once."
        )

    # --- answering ---------------------------------------------------------------------------------------------------

    async def serve(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        """Run the application with a counted body and finished headers."""
        if self.method == "HEAD":
            self.scope["method"] = "GET"

        async def counted() -> Message:
            message = await receive()
            self.body_bytes += len(message.get("body", b""))
            if self.body_bytes <= self.rules.max_body_bytes:
                return message
            if not self.status:
                await self.refuse(self._body_too_large(), send)
            return {"type": "http.disconnect"}

        async def finished(message: Message) -> None:
            if not self.refused:
                await self._pass_on(message, send)

        try:
            await app(self.scope, counted, finished)
        except ClientDisconnect:
            if not self.refused:
                raise

    async def _pass_on(self, message: Message, send: Send) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = self._finish(message.get("headers", ()), self.status)
            if self._is_unchanged(headers):
                self.status = 304
                headers = [(name, value) for name, value in headers if name not in (b"content-length", b"content-type")]
            message = {**message, "status": self.status, "headers": headers}
        elif message["type"] == "http.response.body" and (self.method == "HEAD" or self.status == 304):
            message = {**message, "body": b""}
        await send(message)

    def _is_unchanged(self, headers: list[Header]) -> bool:
        """Tell whether the client already has what a 200 reply would send (``If-None-Match``, RFC 9110 13.1.2)."""
        if self.status != 200:
            return False
        tag = next((value.decode() for name, value in headers if name == b"etag"), None)
        asked = [part.strip().removeprefix("W/") for part in ",".join(self._values(b"if-none-match")).split(",")]
        return tag is not None and ("*" in asked or tag.removeprefix("W/") in asked)

    def _finish(self, given: Any, status: int) -> list[Header]:
        lower = ((bytes(name).lower(), bytes(value)) for name, value in given)
        return finished_headers(list(lower), self.method, self.path, status, self.request_id, self.secure)

    async def refuse(self, refusal: RefusedError, send: Send) -> None:
        """Answer a request that may not pass; a WebSocket gets the same reply where the server can send one."""
        self.refused, self.status = True, refusal.status_code
        body = error_body(refusal, self.request_id)
        if self.websocket and "websocket.http.response" not in self.scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal.error_code})
            return
        content = orjson.dumps(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        if not self.websocket:
            headers.append((b"connection", b"close"))  # what is left of its body is not read
        kind = "websocket.http.response" if self.websocket else "http.response"
        headers = self._finish(headers, self.status)
        await send({"type": f"{kind}.start", "status": self.status, "headers": headers})
        await send({"type": f"{kind}.body", "body": b"" if self.method == "HEAD" else content})

    def log(self) -> None:
        """Write one line; the path is quoted so that no line break in it makes a second one."""
        elapsed_ms = round((time.perf_counter() - self.started_s) * 1e3, 1)
        facts = {
            "request_id": self.request_id,
            "client": self.scope["state"].get("client_ip"),
            "elapsed_ms": elapsed_ms,
        }
        access_log.info("%s %r %d", self.method, self.path, self.status, extra=facts)
