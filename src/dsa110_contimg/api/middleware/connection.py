"""The server's end of one connection, which does not wait for ever.

uvicorn by itself keeps a connection on which nothing, or a byte now and then, is sent, and one whose client does not
take the reply. Here all headers must come within a time, and the client must take what is sent to it.

It also closes a connection while a client is still sending what was refused. What it had not read then makes the kernel
reset the connection, which takes the reply from a client that sends first and reads then. Here a reply that ends
its connection is the server's end of it only: what still comes is dropped for a while (RFC 9112, 9.6).
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from dsa110_contimg.api.middleware.busy import BusyReply
from dsa110_contimg.api.middleware.crowd import Crowd
from dsa110_contimg.api.middleware.headers import Header, are_lines, are_whole, lines_of

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
_NO_HANDSHAKE = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
_BODILESS = ("GET", "HEAD")  # of those that have a body all the same little is seen


class PatientConnection(HttpToolsProtocol):
    """HTTP/1.1 with bounded waits and a bounded head; the bounds are set by :func:`patient`."""

    header_timeout_s = 10.0
    idle_timeout_s = 30.0
    max_head_bytes = 32 << 10
    parting_s = 2.0
    most_parting = 8  # of one server; who comes on top is reset
    crowd = Crowd(100)
    busy: BusyReply | None = None

    _refused_s = 0.0
    _in_message = False
    _in_head = False
    _head_bytes = 0  # of the request whose head is not complete yet, but for what came together with its first byte
    _upgraded = False
    _until_headers: asyncio.TimerHandle | None = None
    _until_taken: asyncio.TimerHandle | None = None
    _until_parted: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read what came; go on waiting while it was no whole head of a request, of which there may be so much."""
        if self._until_parted is not None or self._refused(data):
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.max_head_bytes and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self._part()
        self._watch()

    def on_message_begin(self) -> None:
        """Begin to count the head of a request."""
        super().on_message_begin()
        self._in_message, self._in_head, self._head_bytes = True, True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what follows a body is none (RFC 9110, 6.5.1).

        A client could name its own address there, behind that which a proxy wrote into the head, or send without end.
        """
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End counting: the gate judges a head that is complete. A target with a host of its own is refused here.

        The parser would drop that host, which RFC 9112 (3.2.2) puts above the one of the header.
        """
        self._in_head = False
        if not self.url.startswith(b"/"):
            raise ValueError("the request target must be a path that begins with a slash")  # the parser answers 400
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request, which may have been answered long ago."""
        self._in_message = False
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Tell the gate what it cannot know: how many are ahead, and how a reply is sent in one piece."""
        cycle.scope["state"] |= {"ahead": self.crowd.size, "in_one_piece": partial(self._send_whole, cycle)}
        if cycle.scope["method"] not in _BODILESS:
            cycle.transport = cast("asyncio.Transport", _Parting(self, cycle))
        begin = super()._start_asgi_task
        self.crowd.join(self.loop, lambda: begin(cycle, partial(_leaving, self.crowd, app)))

    def _refused(self, data: bytes) -> bool:
        """Refuse a plain read without parser and gate, where too much is asked and nothing else goes on here."""
        if not self.crowd.is_full or self.busy is None:
            return False
        goes_on = self._in_message or not self._is_idle or self.flow.write_paused
        reply = None if goes_on else self.busy(data, self.client[0] if self.client else "")
        if reply is None:
            return False
        self.transport.write(STATUS_LINE[503] + lines_of(self.server_state.default_headers) + reply)
        if self.timeout_keep_alive_task is None:
            self.on_response_complete()
            self._watch()
        self._refused_s = self.loop.time()
        return True

    def _send_whole(
        self, cycle: RequestResponseCycle, status: int, headers: Sequence[Header], body: bytes, common: bytes = b""
    ) -> bool:
        """Send a reply in one piece, for a third of what the server's own way costs; tell whether that was possible.

        ``common`` are lines of other headers that are known to be right, and to say where this body ends.
        """
        headers = [*cycle.default_headers, *headers]
        lines = lines_of(headers)
        is_right = are_lines(lines, len(headers)) and (bool(common) or are_whole(status, headers, body))
        if not self._goes_on(cycle) or not is_right:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        self.transport.writelines([STATUS_LINE[status], common, lines, b"\r\n", body])
        cycle.on_response()
        return True

    def _part(self) -> None:
        """End the server's side of a connection whose client still sends, and drop what comes until it ends, too."""
        if self.crowd.parting >= self.most_parting or self.transport.is_closing():
            self.transport.close()
            return
        self.crowd.parting += 1
        self._until_parted = self.loop.call_later(self.parting_s, self.transport.abort)
        self.flow.resume_reading()
        self.transport.write_eof()

    def _goes_on(self, cycle: RequestResponseCycle) -> bool:
        """Tell whether a request waits for its reply, takes it, and others may follow on this connection."""
        waits = not cycle.disconnected and not cycle.response_started
        return waits and cycle.keep_alive and not self.flow.write_paused

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        is_kept = self.timeout_keep_alive_task is not None  # the server itself watches between two requests
        if self._is_idle and not is_kept and not self._upgraded and not self.transport.is_closing():
            if self._until_headers is None:
                self._until_headers = self.loop.call_later(self.header_timeout_s, self.transport.abort)
        elif self._until_headers is not None:
            self._until_headers.cancel()
            self._until_headers = None

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection on; from now on the WebSocket has its own waits.

        A handshake with a body, or with a line over 8 KiB, is none for the library of WebSockets: it would say nothing,
        and the connection stay open for ever.
        """
        self._forget()
        self._upgraded = True
        super().handle_websocket_upgrade()
        heir = self.transport.get_protocol()
        begun = not isinstance(heir, WebSocketsSansIOProtocol) or heir.handshake_initiated
        if not begun and not self.transport.is_closing():
            self.transport.write(_NO_HANDSHAKE)
            self.transport.close()

    def pause_writing(self) -> None:
        """The client takes less than is sent: give it a time to catch up."""
        super().pause_writing()
        self._until_taken = self.loop.call_later(self.idle_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._forget_taken()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also when its client has not taken the last reply.

        A refusal does not set the server's timer anew, which takes a sixth of its time: what is left is waited for.
        """
        left_s = self._refused_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
            return
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.idle_timeout_s, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        self._forget_taken()
        if self._until_parted is not None:
            self._until_parted.cancel()
            self._until_parted = None
            self.crowd.parting -= 1
        if self._until_headers is not None:
            self._until_headers.cancel()

    def _forget_taken(self) -> None:
        if self._until_taken is not None:
            self._until_taken.cancel()
            self._until_taken = None


class _Parting:
    """The transport of a request with a body, as its reply sees it; to close it while the body comes is to part."""

    def __init__(self, connection: PatientConnection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        if self._cycle.more_body:
            self._connection._part()
        else:
            self._connection.transport.close()


async def _leaving(crowd: Crowd, app: Any, scope: Any, receive: Any, send: Any) -> None:
    try:
        await app(scope, receive, send)
    finally:
        crowd.leave()


def patient(
    header_s: float, idle_s: float, max_head_bytes: int, max_in_flight: int, busy: BusyReply | None = None
) -> type[PatientConnection]:
    """Return the connection with these bounds, in seconds, bytes, and requests of one server.

    ``busy`` makes the reply to those beyond them; without it the gate does.
    """
    bounds = {"header_timeout_s": header_s, "idle_timeout_s": idle_s, "max_head_bytes": max_head_bytes}
    return type("PatientConnection", (PatientConnection,), bounds | {"crowd": Crowd(max_in_flight), "busy": busy})
