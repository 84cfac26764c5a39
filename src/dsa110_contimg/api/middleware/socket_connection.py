"""The server's end of one WebSocket, which keeps nothing for a client that takes nothing."""

import asyncio
import socket
from asyncio.transports import BaseTransport

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

_NO_TEXT = 1007
_TOO_BIG = 1009
_MOST_FRAGMENTS = 1024  # of a message


class PatientSocket(WebSocketsSansIOProtocol):
    """A WebSocket that keeps nothing for a client that takes nothing; the bound is set by :func:`patient_socket`.

    uvicorn by itself answers every ping however many answers lie unsent in memory, and waits without end for a client
    to take what was sent before the connection is closed.
    """

    patience_s = 10.0

    _until_taken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Have the kernel end it too, which takes up to megabytes itself before this process learns of a deaf client.

        What the client has not taken after this time, or its machine has not confirmed, breaks the connection.
        """
        super().connection_made(transport)
        if self.client is not None:  # None: a Unix socket
            patience_ms = round(self.patience_s * 1000)
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)

    async def send(self, message: ASGISendEvent) -> None:
        """Send; a reply in the place of a handshake completes it, or uvicorn would log an error for each refusal.

        Raises
        ------
        ClientDisconnected
            The client answered no ping, and was told so; for uvicorn this is a mistake of the application.
        """
        if self.close_sent and message["type"] == "websocket.send":
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment; of empty ones, which no bound on bytes ends, a message could have any number in memory."""
        if self.close_sent:
            return
        if len(self.frames) < _MOST_FRAGMENTS:
            super().handle_cont(event)
        else:
            self.conn.send_close(_TOO_BIG)
            self.handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        """Hand a message on; one that is no UTF-8 ends its connection, for which uvicorn would log an error of ours."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_text(b"".join(self.frames)):
            self.conn.send_close(_NO_TEXT)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer a ping, unless earlier answers still wait to be taken (RFC 6455, 5.5.3)."""
        answer = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(answer)

    def pause_writing(self) -> None:
        """The client takes less than is sent: give it a time to catch up."""
        super().pause_writing()
        self._until_taken = self.loop.call_later(self.patience_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._forget()
        super().connection_lost(exc)

    async def run_asgi(self) -> None:
        """Talk; then the client has a time to take what was said last."""
        try:
            await super().run_asgi()
        finally:
            self._forget()
            self._until_taken = self.loop.call_later(self.patience_s, self.transport.abort)

    def _forget(self) -> None:
        if self._until_taken is not None:
            self._until_taken.cancel()
            self._until_taken = None


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def patient_socket(patience_s: float) -> type[PatientSocket]:
    """Return the WebSocket with this bound, in seconds."""
    return type("PatientSocket", (PatientSocket,), {"patience_s": patience_s})
