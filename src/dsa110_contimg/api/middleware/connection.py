"""The server's end of one connection, which does not wait for ever.

uvicorn by itself keeps a connection on which nothing, or a byte now and then, is sent, and one whose client does not
take the reply. Here all headers must come within a time, and the client must take what is sent to it.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientConnection(H11Protocol):
    """HTTP/1.1 with bounded waits; the bounds are set by :func:`patient`."""

    header_timeout_s = 10.0
    idle_timeout_s = 30.0

    _until_headers: asyncio.TimerHandle | None = None
    _until_taken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read what came; go on waiting while it was no whole head of a request."""
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.transport.is_closing():
            if self._until_headers is None:
                self._until_headers = self.loop.call_later(self.header_timeout_s, self.transport.abort)
        elif self._until_headers is not None:
            self._until_headers.cancel()
            self._until_headers = None

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection on; from now on the WebSocket has its own waits."""
        self._forget()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        """The client takes less than is sent: give it a time to catch up."""
        super().pause_writing()
        self._until_taken = self.loop.call_later(self.idle_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._forget_taken()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also when its client has not taken the last reply."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.idle_timeout_s, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        self._forget_taken()
        if self._until_headers is not None:
            self._until_headers.cancel()

    def _forget_taken(self) -> None:
        if self._until_taken is not None:
            self._until_taken.cancel()
            self._until_taken = None


def patient(header_s: float, idle_s: float) -> type[PatientConnection]:
    """Return the connection with these bounds, in seconds."""
    return type("PatientConnection", (PatientConnection,), {"header_timeout_s": header_s, "idle_timeout_s": idle_s})
