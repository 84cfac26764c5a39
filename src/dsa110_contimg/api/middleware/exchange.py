"""One reply on its way out: a counted body, bounded waits, finished headers, HEAD and 304."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import ClientDisconnect

from dsa110_contimg.api.middleware.error_body import error_body
from dsa110_contimg.api.middleware.head import Head
from dsa110_contimg.api.middleware.headers import (
    Header,
    are_lines,
    are_whole,
    common_headers,
    finished_headers,
    lines_of,
)
from dsa110_contimg.api.reply_memory import KeptReply
from dsa110_contimg.api.security import RefusedError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_POLICY_VIOLATION = 1008
_TRY_AGAIN_LATER = 1013


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """How much is read, and how long is waited."""

    max_body_bytes: int = 1 << 20
    idle_s: float = 30.0  # for the next part of a body
    request_s: float = 30.0  # until a reply begins


class Exchange:
    """One request and its reply.

    Parameters
    ----------
    scope : mapping
        Of ASGI, with ``request_id`` in its state, and ``in_one_piece`` where the connection can send a whole reply so:
        given its status, headers and body, that tells whether it did.
    send : callable
        Of the server.
    limits : ExchangeLimits
        Bounds of what is read and waited for.
    head : Head
        Of the request.
    crossing : tuple of headers
        Of every reply to a page of its origin.

    Attributes
    ----------
    status : int
        Status of the reply, 0 until it has begun.
    size_bytes : int
        Of the body of the reply, so far.
    added : list of headers
        Headers of every reply to this request.
    secure : bool
        The client came by TLS.
    """

    def __init__(
        self, scope: Scope, send: Send, limits: ExchangeLimits, head: Head, crossing: tuple[Header, ...] = ()
    ) -> None:
        self.scope = scope
        self.websocket = scope["type"] == "websocket"
        self.method: str = "GET" if self.websocket else scope["method"]
        self.path: str = scope["path"]
        self.secure = scope.get("scheme") in ("https", "wss")
        self.status = 0
        self.size_bytes = 0
        self.added: list[Header] = []
        self._crossing = crossing
        self._send = send
        self._limits = limits
        self._head = head
        self._body_bytes = 0  # received so far
        self._body_ended = False
        self._refused = False
        self._start: Message | None = None  # of a reply of which nothing was sent

    async def serve(self, app: ASGIApp, receive: Receive) -> None:
        """Run the application; what it has not begun to answer in time is answered for it.

        A reply that has begun may take as long as it likes; a client that does not take it is dropped by the
        connection (``connection.py``).
        """
        if self.method == "HEAD":
            self.scope["method"] = "GET"
        try:
            async with asyncio.timeout(self._limits.request_s) as deadline:
                await app(self.scope, lambda: self._receive(receive), lambda message: self._pass_on(message, deadline))
        except TimeoutError:
            if not deadline.expired():
                raise  # what the application waited for, such as storage in the middle of a file
            await self.refuse(_took_too_long(self._limits.request_s))
        except ClientDisconnect:
            if not self._refused:
                raise
        finally:
            if self._start is not None:  # it ends without a body: the server says 500
                self.status = 0

    # --- what comes in ------------------------------------------------------------------------------------------------

    async def _receive(self, receive: Receive) -> Message:
        if self._body_ended:
            return await receive()  # waits for the client to leave, as long as it takes
        try:
            async with asyncio.timeout(self._limits.idle_s):
                message = await receive()
        except TimeoutError:
            return await self._end_for(_body_too_slow(self._limits.idle_s))
        self._body_bytes += len(message.get("body", b""))
        self._body_ended = not message.get("more_body", False)
        if self._body_bytes <= self._limits.max_body_bytes:
            return message
        return await self._end_for(body_too_large(self._limits.max_body_bytes))

    async def _end_for(self, refusal: RefusedError) -> Message:
        """Answer, and let the application believe that the client has left."""
        if not self.status:
            await self.refuse(refusal)
        return {"type": "http.disconnect"}

    # --- what goes out ------------------------------------------------------------------------------------------------

    async def _pass_on(self, message: Message, deadline: asyncio.Timeout) -> None:
        if self._refused:
            return
        if message["type"] == "http.response.start":
            deadline.reschedule(None)
            self._start = self._begun(message)
        elif message["type"] == "http.response.body":
            await self._send_part(self._cut(message))
        else:
            await self._send(message)

    async def _send_part(self, part: Message) -> None:
        """Send a part of the body, the first one behind its headers; in one piece with them if it is the last too."""
        start, self._start = self._start, None
        if start is not None:
            in_one_piece = None if part.get("more_body", False) else self.scope["state"].get("in_one_piece")
            if in_one_piece and in_one_piece(start["status"], start["headers"], part.get("body", b"")):
                return
            await self._send(start)
        await self._send(part)

    def _cut(self, message: Message) -> Message:
        """Return a part of the body as it is sent: HEAD and 304 have none."""
        if self.method == "HEAD" or self.status == 304:
            return {**message, "body": b""}
        self.size_bytes += len(message.get("body", b""))
        return message

    def _begun(self, message: Message) -> Message:
        self._give_back_method()
        self.status = message["status"]
        headers = self._finished(message.get("headers", ()))
        if self._is_unchanged(headers):
            self.status = 304
            headers = [(name, value) for name, value in headers if name not in (b"content-length", b"content-type")]
        return {**message, "status": self.status, "headers": headers}

    def _give_back_method(self) -> None:
        """Let the server see HEAD again: it then frames no body, and does not miss one of the announced length."""
        if self.method == "HEAD":
            self.scope["method"] = "HEAD"

    def _is_unchanged(self, headers: list[Header]) -> bool:
        """Tell whether the client already has what a 200 reply would send (``If-None-Match``, RFC 9110 13.1.2)."""
        known = self._head.values(b"if-none-match")
        if self.status != 200 or not known or self.method not in ("GET", "HEAD"):
            return False
        tag = next((value.decode() for name, value in headers if name == b"etag"), None)
        asked = [part.strip().removeprefix("W/") for part in ",".join(known).split(",")]
        return tag is not None and ("*" in asked or tag.removeprefix("W/") in asked)

    def add(self, headers: Mapping[str, str]) -> None:
        """Add headers to every reply to this request."""
        self.added += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]

    def _finished(self, given: Any) -> list[Header]:
        request_id = self.scope["state"]["request_id"]
        return finished_headers(
            [*given, *self._crossing, *self.added], self.method, self.path, self.status, request_id, self.secure
        )

    async def answer(self, status: int, headers: list[Header], content: bytes) -> None:
        """Send a whole reply that no route made."""
        kind = "websocket.http.response" if self.websocket else "http.response"
        self._start = self._begun({"type": f"{kind}.start", "status": status, "headers": headers})
        await self._send_part(self._cut({"type": f"{kind}.body", "body": content}))

    async def answer_again(self, kept: KeptReply) -> None:
        """Send a reply with 200 that was sent before; only what this request adds is made anew."""
        asks_otherwise = self.method != "GET" or self._head.values(b"if-none-match")
        in_one_piece = None if asks_otherwise else self.scope["state"].get("in_one_piece")
        if in_one_piece and (lines := self._common_lines(kept)):
            own = [*self.added, (b"x-request-id", self.scope["state"]["request_id"].encode())]
            if in_one_piece(200, own, kept.body, lines):
                self.status, self.size_bytes = 200, len(kept.body)
                return
        await self.answer(200, kept.headers, kept.body)

    def _common_lines(self, kept: KeptReply) -> bytes:
        """Return what is the same each time that a reply is sent to such a client; nothing if it must be looked at."""
        kind = (self.secure, self._crossing)
        lines = kept.lines.get(kind)
        if lines is None:
            headers = common_headers([*kept.headers, *self._crossing], "GET", self.path, 200, self.secure)
            lines = lines_of(headers)
            is_right = are_lines(lines, len(headers)) and are_whole(200, headers, kept.body)
            kept.lines[kind] = lines = lines if is_right else b""
        return lines

    async def refuse(self, refusal: RefusedError) -> None:
        """Answer a request that may not pass; a WebSocket gets the same reply where the server can send one."""
        self._refused, self.status = True, refusal.status_code
        if self.websocket and "websocket.http.response" not in self.scope.get("extensions", {}):
            code = _TRY_AGAIN_LATER if refusal.status_code in (429, 503) else _POLICY_VIOLATION
            await self._send({"type": "websocket.close", "code": code, "reason": refusal.error_code})
            return
        content = orjson.dumps(error_body(refusal, self.scope["state"]["request_id"]))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        if not self.websocket and not self._may_go_on(refusal):
            headers.append((b"connection", b"close"))  # what is left of its body is not read
        self.add(refusal.headers)
        await self.answer(refusal.status_code, headers, content)

    def _may_go_on(self, refusal: RefusedError) -> bool:
        """Tell whether the connection is good for another request: who is to ask later need not connect anew."""
        return refusal.status_code in (429, 503) and self.method in ("GET", "HEAD")


def body_too_large(most: int) -> RefusedError:
    """Return the refusal of a body over the limit."""
    return RefusedError(413, "PAYLOAD_TOO_LARGE", f"The body is larger than {most} bytes; send less at once.")


def _body_too_slow(idle_s: float) -> RefusedError:
    return RefusedError(408, "BODY_TOO_SLOW", f"No part of the body came for {idle_s:g} s.")


def _took_too_long(request_s: float) -> RefusedError:
    return RefusedError(
        503, "REQUEST_TIMED_OUT", f"There was no reply within {request_s:g} s; ask for less, or try again later.",
        {"Retry-After": "5"},
    )  # fmt: skip
