"""What somebody hostile may say on a WebSocket, byte by byte: the right close code, and nobody else notices."""

import asyncio
import json
import logging
import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from dsa110_contimg.api.app import server_settings
from dsa110_contimg.api.middleware.socket_connection import patient_socket
from fixtures.api_world import QUEUE_OFF, RUN_ID, World, settings
from fixtures.live_api import running
from integration.conftest import Built

PATH = f"/api/v1/ws/jobs/{RUN_ID}"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, MORE = 0x80, 0x00
MASK = b"\x21\x43\x65\x87"
HELLO = b'{"type": "ping"}'
LIMIT = 64 << 10
LONG = b'{"type": "subscribe", "topic": "' + b"x" * 60_000 + b'"}'  # the refusal says it again
PROTOCOL, NOT_JSON, NOT_UTF8, TOO_BIG, NORMAL, NO_CODE = 1002, 1003, 1007, 1009, 1000, 1005


@dataclass(frozen=True)
class Target:
    """A running server with one run to watch."""

    world: World
    port: int
    app: Any

    @property
    def open_sockets(self) -> int:
        count: int = self.app.state.services.sockets.open
        return count


@contextmanager
def serve(world: World, **environ: str) -> Iterator[Target]:
    served = server_settings(settings(world.config.paths.state_dir, DSA110_PORT="0", **environ), QUEUE_OFF)
    with running(served) as port:
        yield Target(world, port, served.app)


@pytest.fixture(scope="module")
def target(built: Built) -> Iterator[Target]:
    """A server over each kind of database."""
    database = built.world.config.database
    kind = {"DSA110_DB_BACKEND": "postgresql", "DSA110_DB_PG_URL": database.pg_url} if built.queue else {}
    with serve(built.world, **kind) as found:
        yield found


@pytest.fixture
def world(sqlite_world: Built) -> World:
    """A small world, for servers of a test's own."""
    return sqlite_world.world


@pytest.fixture(autouse=True)
def no_error_of_ours(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    records = caplog.get_records("setup") + caplog.get_records("call")
    assert [record for record in records if record.levelno >= logging.ERROR] == []


def frame(opcode: int, payload: bytes = b"", head: int = FIN, length: bytes | None = None) -> bytes:
    """Return a masked frame; ``head`` are the bits beside the opcode, ``length`` what is announced instead."""
    size = len(payload)
    if length is None and size < 126:
        length = bytes([size])
    elif length is None:
        length = b"\x7e" + struct.pack("!H", size) if size < 65536 else b"\x7f" + struct.pack("!Q", size)
    masked = bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))
    return bytes([head | opcode, length[0] | 0x80]) + length[1:] + MASK + masked


class Line:
    """A raw connection that has become a WebSocket."""

    def __init__(self, port: int, path: str = PATH) -> None:
        self.link = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.link.sendall(handshake(path))
        self._read = self.link.makefile("rb")
        assert self._read.readline().startswith(b"HTTP/1.1 101 ")
        while self._read.readline() != b"\r\n":
            pass

    def close(self) -> None:
        self._read.close()
        self.link.close()

    def say(self, *parts: bytes) -> "Line":
        with suppress(ConnectionError):  # the server may have closed while we speak
            self.link.sendall(b"".join(parts))
        return self

    def frame(self) -> tuple[int, bytes]:
        """Return the next frame of the server: opcode and payload; (0, nothing) at the end of the connection."""
        try:
            head = self._read.read(2)
            if len(head) < 2:
                return 0, b""
            size = head[1]
            if size >= 126:
                size = int.from_bytes(self._read.read(2 if size == 126 else 8), "big")
            return head[0] & 15, self._read.read(size)
        except ConnectionError:
            return 0, b""

    def hear(self, kind: str) -> dict[str, Any]:
        """Return the next message of a type."""
        while True:
            opcode, payload = self.frame()
            assert opcode in (TEXT, PING), (opcode, payload)
            if opcode == PING:
                self.say(frame(PONG, payload))
            if opcode == TEXT and (told := json.loads(payload))["type"] == kind:
                found: dict[str, Any] = told
                return found

    def end(self) -> int:
        """Return the close code; 0 when the connection ends without one."""
        while True:
            opcode, payload = self.frame()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big") if payload else NO_CODE
            if not opcode:
                return 0


def handshake(path: str = PATH, *lines: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    usual = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==")  # fmt: skip
    return "\r\n".join([f"{method} {path} {version}", "Host: localhost", *(lines or usual), "", ""]).encode()


def opened(port: int) -> AbstractContextManager[Line]:
    return closing(Line(port))


def still_serves(target: Target) -> None:
    """Ask over HTTP and over a WebSocket."""
    assert httpx.get(f"http://127.0.0.1:{target.port}/api/v1/jobs/{RUN_ID}", timeout=60.0).status_code == 200
    with opened(target.port) as line:
        line.say(frame(TEXT, HELLO)).hear("pong")


FRAMES = {
    "a reserved bit": (PROTOCOL, frame(TEXT, HELLO, FIN | 0x40)),
    "the second reserved bit": (PROTOCOL, frame(TEXT, HELLO, FIN | 0x20)),
    "all reserved bits": (PROTOCOL, frame(PING, b"", FIN | 0x70)),
    "a kind of data that is none": (PROTOCOL, frame(0x3, HELLO)),
    "a kind of control that is none": (PROTOCOL, frame(0xF)),
    "no mask": (PROTOCOL, bytes([FIN | TEXT, len(HELLO)]) + HELLO),
    "a ping without mask": (PROTOCOL, bytes([FIN | PING, 0])),
    "a ping of 126 bytes": (PROTOCOL, frame(PING, b"x" * 126)),
    "a pong of 126 bytes": (PROTOCOL, frame(PONG, b"x" * 126)),
    "a close of 126 bytes": (PROTOCOL, frame(CLOSE, struct.pack("!H", 1000) + b"x" * 124)),
    "a ping in fragments": (PROTOCOL, frame(PING, b"x", MORE)),
    "a fragment of nothing": (PROTOCOL, frame(CONTINUATION, HELLO)),
    "a text within a text": (PROTOCOL, frame(TEXT, b'{"type', MORE) + frame(TEXT, HELLO)),
    "a close of one byte": (PROTOCOL, frame(CLOSE, b"\x03")),
    "a close without a code": (NO_CODE, frame(CLOSE)),
    "a close that is right": (NORMAL, frame(CLOSE, struct.pack("!H", 1000))),
    **{
        f"the close code {code}": (PROTOCOL, frame(CLOSE, struct.pack("!H", code)))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 65535)
    },
    "a close whose reason is no UTF-8": (NOT_UTF8, frame(CLOSE, struct.pack("!H", 1000) + b"\xff\xfe")),
    "a text that is no UTF-8": (NOT_UTF8, frame(TEXT, b"\xff\xfe\xfd")),
    "half a surrogate": (NOT_UTF8, frame(TEXT, b"\xed\xa0\x80")),
    "a character cut off": (NOT_UTF8, frame(TEXT, b"\xe2\x82")),
    "fragments that are no UTF-8": (NOT_UTF8, frame(TEXT, b"\xe2", MORE) + frame(CONTINUATION, b"\x28")),
    "16 MiB announced": (TOO_BIG, frame(TEXT, b"", FIN, b"\x7f" + struct.pack("!Q", 16 << 20))),
    "an endless length": (TOO_BIG, frame(TEXT, b"", FIN, b"\x7f" + b"\x7f" + b"\xff" * 7)),
    "a negative length": (TOO_BIG, frame(TEXT, b"", FIN, b"\x7f" + b"\xff" * 8)),
    "one byte too much": (TOO_BIG, frame(TEXT, b"x" * (LIMIT + 1))),
    "fragments that are too much": (
        TOO_BIG, frame(TEXT, b"x" * 40_000, MORE) + frame(CONTINUATION, b"x" * 40_000, MORE),
    ),
    "fragments of nothing without end": (TOO_BIG, frame(TEXT, b"{", MORE) + frame(CONTINUATION, b"", MORE) * 2000),
    "bytes": (NOT_JSON, frame(BINARY, b"\x00\xff")),
    "no JSON": (NOT_JSON, frame(TEXT, b"hello")),
    "a list": (NOT_JSON, frame(TEXT, b"[1]")),
    "a number": (NOT_JSON, frame(TEXT, b"7")),
    "NaN": (NOT_JSON, frame(TEXT, b'{"type": NaN}')),
    "nothing": (NOT_JSON, frame(TEXT)),
    "a deep list": (NOT_JSON, frame(TEXT, b"[" * 60_000)),
    "a deep topic": (NOT_JSON, frame(TEXT, b'{"type": "subscribe", "topic": ' + b"[" * 300 + b"]" * 300 + b"}")),
}  # fmt: skip
HANDSHAKES = {
    "no version": (handshake().replace(b"Sec-WebSocket-Version", b"X-Version"), {400, 426}),
    "another version": (handshake().replace(b"Version: 13", b"Version: 12"), {400, 426}),
    "no key": (handshake().replace(b"Sec-WebSocket-Key", b"X-Key"), {400}),
    "a short key": (handshake().replace(b"MTIzNDU2Nzg5MDEyMzQ1Ng==", b"eA=="), {400}),
    "a key that is no base64": (handshake().replace(b"MTIz", b"M\xff\xfez"), {400}),
    "two keys": (handshake().replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: eA==\r\n\r\n"), {400}),
    "another method": (handshake(method="POST"), {400, 405}),
    "a body": (handshake().replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"), {400}),
    "a body in chunks": (
        handshake().replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"), {400},
    ),
    "a line of 9 KiB": (handshake().replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 9000 + b"\r\n\r\n"), {400}),
    "too much of all lines": (
        handshake().replace(b"\r\n\r\n", (b"\r\nX: " + b"y" * 6000) * 3 + b"\r\n\r\n"), {431},
    ),
    "129 lines": (handshake().replace(b"\r\n\r\n", b"\r\nX: y" * 129 + b"\r\n\r\n"), {400, 431}),
    "a protocol that is none": (handshake().replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: (,)\r\n\r\n"), {400}),
    "an extension that is none": (
        handshake().replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: ;;=\r\n\r\n"), {101, 400},
    ),
    "HTTP/2": (handshake(PATH, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: A"), {404}),
}  # fmt: skip


@pytest.mark.parametrize("times", [1, pytest.param(25, marks=pytest.mark.slow)])
def test_a_frame_that_is_none_ends_its_own_connection_with_the_right_code(target: Target, times: int) -> None:
    found: dict[str, set[int]] = {name: set() for name in FRAMES}
    with opened(target.port) as witness:
        witness.hear("complete")
        for _ in range(times):
            for name, (_, words) in FRAMES.items():
                with opened(target.port) as line:
                    found[name].add(line.say(words).end())
        witness.say(frame(TEXT, HELLO)).hear("pong")
        assert found == {name: {code} for name, (code, _) in FRAMES.items()}
    print(f"{times * len(FRAMES)} broken frames")
    until_nobody_is_left(target)


def until_nobody_is_left(target: Target) -> None:
    """Return when the server has forgotten all its WebSockets."""
    for _ in range(3000):
        if not target.open_sockets:
            return
        still_serves(target)
    pytest.fail(f"{target.open_sockets} closed WebSockets are counted still")


def test_what_is_no_handshake_opens_nothing(target: Target) -> None:
    found = {}
    for name, (words, _) in HANDSHAKES.items():
        with socket.create_connection(("127.0.0.1", target.port), timeout=30) as link:
            link.sendall(words)
            found[name] = int(link.recv(4096).split(b" ")[1])
    assert {name: status for name, status in found.items() if status not in HANDSHAKES[name][1]} == {}
    still_serves(target)


def test_odd_frames_that_are_right_are_understood(target: Target) -> None:
    with opened(target.port) as line:
        line.say(frame(TEXT, b'{"ty', MORE), frame(PING, b"x" * 125), frame(CONTINUATION, b"", MORE))
        line.say(frame(CONTINUATION, b'pe": "pi', MORE), frame(PONG, b"unasked"), frame(CONTINUATION, b'ng"}'))
        while (answer := line.frame())[0] != PONG:
            pass
        assert answer[1] == b"x" * 125
        line.hear("pong")
        for byte in frame(TEXT, HELLO):  # each byte by itself
            line.say(bytes([byte]))
        line.hear("pong")
        line.say(frame(TEXT, b'{"type": "' + b"x" * (LIMIT - 12) + b'"}'))  # as much as there may be, of no known type
        line.say(frame(TEXT, HELLO)).hear("pong")


def test_who_goes_without_a_word_is_forgotten(world: World) -> None:
    """Gone, and there but deaf: neither answers the server's ping."""
    with serve(world, DSA110_TIMEOUT_WEBSOCKET_PING="0.3", DSA110_TIMEOUT_WEBSOCKET_PONG="0.3") as target:
        with opened(target.port) as deaf, opened(target.port) as gone:
            gone.link.shutdown(socket.SHUT_WR)
            half = frame(TEXT, HELLO)[:5]
            assert deaf.say(half).end() in (0, 1011)
        for _ in range(3000):
            if not target.open_sockets:
                break
            httpx.get(f"http://127.0.0.1:{target.port}/api/v1/health/live")
        assert target.open_sockets == 0


@pytest.mark.parametrize("word", [frame(TEXT, LONG), frame(PING, b"x" * 125) * 500], ids=["messages", "pings"])
def test_who_floods_and_reads_nothing_is_dropped_while_others_are_answered(world: World, word: bytes) -> None:
    """The replies to both fill what the line and the server hold for one client."""
    with serve(world, DSA110_TIMEOUT_WEBSOCKET_PONG="0.3") as target:
        with opened(target.port) as flood, opened(target.port) as other:
            flood.link.settimeout(0.1)
            with pytest.raises(ConnectionError):
                for _ in range(600):
                    with suppress(TimeoutError):  # the server reads no more of it for the moment
                        flood.link.sendall(word)
                    other.say(frame(TEXT, HELLO)).hear("pong")
            other.say(frame(TEXT, HELLO)).hear("pong")
        still_serves(target)


def test_who_reads_nothing_is_dropped_although_the_kernel_could_keep_all_that_it_is_told(world: World) -> None:
    times = {"DSA110_TIMEOUT_WEBSOCKET_PING": "3600", "DSA110_TIMEOUT_WEBSOCKET_PONG": "0.3"}
    with serve(world, **times) as target, closing(socket.socket()) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", target.port))
        deaf.sendall(handshake())
        assert b" 101 " in deaf.recv(4096)
        deaf.sendall(frame(TEXT, LONG))
        until_nobody_is_left(target)


class Wire(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.begun, self.aborted = asyncio.Event(), asyncio.Event()

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        self.begun.set()

    def is_closing(self) -> bool:
        return self.aborted.is_set()

    def close(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted.set()


async def accepting(_: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def on_a_wire() -> tuple[Any, Wire]:
    """Return the server's end of a WebSocket that is open, and its connection."""
    config = uvicorn.Config(accepting, lifespan="off", log_config=None)
    config.load()
    end, wire = patient_socket(0.05)(config, ServerState(), {}), Wire()
    end.connection_made(wire)
    end.data_received(handshake())
    await wire.begun.wait()
    return end, wire


async def test_no_ping_is_answered_while_nobody_takes_the_answers_and_not_for_long() -> None:
    end, wire = await on_a_wire()
    end.data_received(frame(PING))
    assert len(wire.written) == 2
    end.pause_writing()
    end.data_received(frame(PING) * 1000)
    assert len(wire.written) == 2
    end.resume_writing()
    end.data_received(frame(PING))
    assert len(wire.written) == 3
    end.pause_writing()
    await asyncio.wait_for(wire.aborted.wait(), 10)
    end.connection_lost(None)
    await asyncio.gather(*end.tasks)


async def test_what_is_said_to_who_has_answered_no_ping_is_no_error_of_ours() -> None:
    end, _ = await on_a_wire()
    end.keepalive_timeout()
    with pytest.raises(ClientDisconnected):
        await end.send({"type": "websocket.send", "text": "the answer to what came before"})
    end.connection_lost(None)
    await asyncio.gather(*end.tasks)


def test_the_corpus_is_sent_as_it_is_meant() -> None:
    assert frame(TEXT, b"Hi") == b"\x81\x82" + MASK + bytes([ord("H") ^ MASK[0], ord("i") ^ MASK[1]])
    assert frame(TEXT, b"x" * 126)[:4] == b"\x81\xfe\x00\x7e"
    assert frame(TEXT, b"x" * 65536)[:10] == b"\x81\xff" + struct.pack("!Q", 65536)
