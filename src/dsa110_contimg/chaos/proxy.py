"""A TCP proxy before PostgreSQL that fails on purpose.

It frames what the server says, so that it can leave notifications out, and knows where a request of a client ends, so
that it can cut a connection at the worst moment: after the server has committed, before the client hears of it.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Literal

#: The end of an extended query (message Sync), and the first byte of a simple one.
_SYNC = b"S\x00\x00\x00\x04"
_QUERY = b"Q"
_NOTIFICATION = b"A"[0]
_READY = b"Z"[0]

Cut = Literal["before", "after"]


class Frames:
    """Splits the server's stream into whole messages.

    A message is one byte of type, four bytes of length (which counts itself) and the rest.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are complete now."""
        self._buffer += data
        whole = []
        while len(self._buffer) >= 5:
            size = 1 + int.from_bytes(self._buffer[1:5], "big")
            if len(self._buffer) < size:
                break
            whole.append(bytes(self._buffer[:size]))
            del self._buffer[:size]
        return whole


def ends_request(data: bytes) -> bool:
    """Tell whether a client's bytes end a request that the server answers and, outside a transaction, commits."""
    return data.endswith(_SYNC) or data.startswith(_QUERY)


class ChaosProxy:
    """Forwards connections to a server; set the fields to disturb them.

    Attributes
    ----------
    drop_notifications : bool
        Leave out what LISTEN would have delivered.
    delay_s : float
        Hold each chunk back for a random time up to this.
    refuse : bool
        Hang up on everybody who comes.
    """

    def __init__(self, host: str, port: int, chance: random.Random) -> None:
        self._target = (host, port)
        self._chance = chance
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.StreamWriter] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._cuts: list[Cut] = []
        self.drop_notifications = False
        self.delay_s = 0.0
        self.refuse = False
        self.dropped = 0
        self.on_cut: Callable[[Cut], None] = lambda _: None

    async def start(self) -> int:
        """Listen on a free port of the loopback interface and return it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Cut everything and listen no more."""
        if self._server is not None:
            self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def arm(self, cut: Cut) -> None:
        """Cut the next connection that ends a request: ``before`` the server gets it, or ``after`` it has answered."""
        self._cuts.append(cut)

    def cut_all(self) -> int:
        """Cut every connection now and return how many there were."""
        count = len(self._links)
        for link in tuple(self._links):
            link.transport.abort()
        return count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self._links.add(writer)
        try:
            if self.refuse:
                return
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            with contextlib.closing(server_writer):
                await _Link(self, reader, writer, server_reader, server_writer).run()
        except OSError:
            pass  # the server is down, or a side hung up: the client sees its connection end
        except asyncio.CancelledError:
            pass  # the proxy stops; a stream server logs a handler that ends so
        finally:
            self._running.discard(task)
            self._links.discard(writer)
            writer.transport.abort()

    def take_cut(self, data: bytes) -> Cut | None:
        """Return the cut that hits this request, if one is armed."""
        if not self._cuts or not ends_request(data):
            return None
        cut = self._cuts.pop(0)
        self.on_cut(cut)
        return cut

    def pass_on(self, message: bytes) -> bool:
        """Tell whether a message of the server may reach the client."""
        if self.drop_notifications and message[0] == _NOTIFICATION:
            self.dropped += 1
            return False
        return True

    async def hold_back(self) -> None:
        """Wait for the delay, if there is one."""
        if self.delay_s > 0:
            await asyncio.sleep(self._chance.uniform(0.0, self.delay_s))


class _Link:
    """One connection."""

    def __init__(
        self, proxy: ChaosProxy, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader, server_writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        self._proxy = proxy
        self._client = client_reader, client_writer
        self._server = server_reader, server_writer
        self._doomed = False

    async def run(self) -> None:
        """Forward until a side hangs up or the connection is cut."""
        both = [asyncio.ensure_future(self._upwards()), asyncio.ensure_future(self._downwards())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _upwards(self) -> None:
        while data := await self._client[0].read(65536):
            await self._proxy.hold_back()
            cut = self._proxy.take_cut(data)
            if cut == "before" or self._server[1].is_closing():
                return
            self._doomed = self._doomed or cut == "after"
            self._server[1].write(data)
            await self._server[1].drain()

    async def _downwards(self) -> None:
        frames = Frames()
        while data := await self._server[0].read(65536):
            await self._proxy.hold_back()
            for message in frames.feed(data):
                if self._client[1].is_closing() or (self._doomed and message[0] == _READY):
                    return
                if not self._doomed and self._proxy.pass_on(message):
                    self._client[1].write(message)
            if not self._client[1].is_closing():
                await self._client[1].drain()
