"""The server around the application: where it listens, and how it hands over to the next process."""

import asyncio
import logging
import socket

import uvicorn

from dsa110_contimg.api.config import ServerConfig

log = logging.getLogger(__name__)

_FIRST_INHERITED = 3
_FAREWELL_S = 0.5


def inherited_sockets(config: ServerConfig) -> list[socket.socket] | None:
    """Return the sockets that whoever started this process had opened for it; None: it opens its own.

    Such a socket outlives the process: who connects while one process ends and the next one starts waits instead of
    being refused (sd_listen_fds(3)).
    """
    return [socket.socket(fileno=_FIRST_INHERITED + i) for i in range(config.inherited_sockets)] or None


class Server(uvicorn.Server):
    """Says where it listens, and takes leave of its clients before it closes their connections.

    A connection that is closed at the moment at which the next request comes in on it loses that request. So for half
    a second every reply says that its connection ends with it, while new connections already go to the next process.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where."""
        await super().startup(sockets)
        for each in [each for server in self.servers for each in server.sockets]:
            log.info("serving on %s", ":".join(map(str, each.getsockname()[:2])))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, take leave, then let what is under way end and close."""
        for server in self.servers:
            server.close()
        self.server_state.default_headers.append((b"connection", b"close"))
        await asyncio.sleep(_FAREWELL_S)
        await super().shutdown(sockets)
