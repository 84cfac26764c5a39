"""A reply that is whole is sent in one piece, and is to the byte what the server's own way sends."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from dsa110_contimg.api.app import server_settings
from dsa110_contimg.api.middleware.connection import patient
from dsa110_contimg.api.middleware.exchange import Exchange, ExchangeLimits
from dsa110_contimg.api.middleware.head import Head
from fixtures.api_world import QUEUE_OFF, settings
from fixtures.live_api import running
from fixtures.migrated import migrate

Header = tuple[bytes, bytes]
Send = Callable[[Any], Awaitable[None]]
ORIGIN = {"Origin": "https://pages.example"}
ASKED = [
    ("GET", "/api/v1/health/live", {}),
    ("GET", "/api/v1/images", {}),
    ("GET", "/api/v1/images", ORIGIN),
    ("GET", "/api/v1/images", {"If-None-Match": "*"}),
    ("HEAD", "/api/v1/images", {}),
    ("GET", "/api/v1/images?limit=x", {}),
    ("GET", "/api/v1/images/7", {}),
    ("DELETE", "/api/v1/images/7", {}),
    ("GET", "/api/nowhere", {}),
    ("GET", "/api/v1/images", {"Host": "elsewhere.example"}),
    ("OPTIONS", "/api/v1/images", {**ORIGIN, "Access-Control-Request-Method": "GET"}),
    ("GET", "/metrics", {}),
    ("GET", "/api/docs", {}),
]  # fmt: skip


def _facts(reply: httpx.Response) -> tuple[int, dict[str, str], int]:
    own = ("connection", "date", "x-request-id", "x-cache", "content-length")
    return (
        reply.status_code,
        {name: text for name, text in reply.headers.items() if name not in own},
        len(reply.content),
    )


def test_one_piece_says_what_the_servers_own_way_says(tmp_path: Path) -> None:
    config = settings(tmp_path, DSA110_CORS_ORIGINS=ORIGIN["Origin"])
    migrate(config.database)
    with (
        running(server_settings(config, QUEUE_OFF)) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        for method, path, headers in ASKED:
            made, again = [client.request(method, path, headers=headers) for _ in range(2)]
            other_way = client.request(method, path, headers={**headers, "Connection": "close"})
            assert other_way.headers["connection"] == "close", path
            if path != "/metrics":  # its numbers grow
                assert _facts(made) == _facts(again) == _facts(other_way), (method, path)
            assert "date" in made.headers
            if method != "HEAD" and made.status_code not in (204, 304):
                assert made.headers["content-length"] == str(len(made.content))


class Replies:
    """An application behind the gate's exchange: each path gives its reply."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        scope["state"]["request_id"] = "0" * 32
        exchange = Exchange(scope, send, ExchangeLimits(), Head(scope["headers"]))
        try:
            await exchange.serve(getattr(self, scope["path"][1:]), receive)
        finally:
            self.statuses.append(exchange.status)

    async def whole(self, scope: Any, receive: Any, send: Send) -> None:
        await _say(send, [(b"content-length", b"5")], b"whole")

    async def of_unknown_length(self, scope: Any, receive: Any, send: Send) -> None:
        await _say(send, [], b"long")

    async def empty(self, scope: Any, receive: Any, send: Send) -> None:
        await _say(send, [], b"")

    async def listening(self, scope: Any, receive: Any, send: Send) -> None:
        await receive()
        leaving = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await _say(send, [(b"content-length", b"5")], b"heard")
        assert (await leaving)["type"] == "http.disconnect"

    async def counting(self, scope: Any, receive: Any, send: Send) -> None:
        length, more = 0, True
        while more:
            part = await receive()
            length, more = length + len(part["body"]), part["more_body"]
        told = b"%d" % length
        await _say(send, [(b"content-length", b"%d" % len(told))], told)

    async def in_parts(self, scope: Any, receive: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b"two", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async def with_an_end_of_its_own(self, scope: Any, receive: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"all", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def twice(self, scope: Any, receive: Any, send: Send) -> None:
        await _say(send, [(b"content-length", b"5")], b"first")
        await _say(send, [(b"content-length", b"6")], b"second")

    async def nothing_with_a_body(self, scope: Any, receive: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"nothing"})

    async def whole_then_reading(self, scope: Any, receive: Any, send: Send) -> None:
        await self.whole(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    async def two_lines(self, scope: Any, receive: Any, send: Send) -> None:
        await _say(send, [(b"content-length", b"1"), (b"x-name", b"a\r\nset-cookie: b")], b"x")

    async def bare_feed(self, scope: Any, receive: Any, send: Send) -> None:
        await _say(send, [(b"content-length", b"1"), (b"x-name", b"a\nset-cookie: b")], b"x")

    async def zero(self, scope: Any, receive: Any, send: Send) -> None:
        await _say(send, [(b"content-length", b"1"), (b"x-name", b"a\0b")], b"x")

    async def bare_return(self, scope: Any, receive: Any, send: Send) -> None:
        await _say(send, [(b"content-length", b"1"), (b"x-name", b"a\rb")], b"x")

    async def longer(self, scope: Any, receive: Any, send: Send) -> None:
        await _say(send, [(b"content-length", b"3")], b"longer")

    async def closing(self, scope: Any, receive: Any, send: Send) -> None:
        await _say(send, [(b"content-length", b"1"), (b"connection", b"close")], b"x")

    async def failing(self, scope: Any, receive: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise OSError("the first part cannot be read")


async def _say(send: Send, headers: list[Header], body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def replies() -> Iterator[tuple[Replies, int]]:
    """Give an application and the port at which it is served."""
    application = Replies()
    connection = patient(20.0, 20.0, 1 << 14, 10)
    config = uvicorn.Config(application, http=connection, loop="uvloop", lifespan="off", log_config=None)
    with running(config) as port:
        yield application, port


def _say_and_hear(port: int, *paths: str) -> bytes:
    """Ask for some things at once, leave the last with a closed connection, and return all that comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        asked = [f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths]
        asked[-1] = asked[-1].replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
        link.sendall("".join(asked).encode())
        heard = b""
        with contextlib.suppress(ConnectionError):
            while part := link.recv(65536):
                heard += part
    return heard


def test_requests_that_were_sent_at_once_are_answered_in_order(replies: tuple[Replies, int]) -> None:
    asked = ("whole", "in_parts", "empty", "listening", "with_an_end_of_its_own", "of_unknown_length", "whole")
    heard = _say_and_hear(replies[1], *asked)
    bodies = [reply.split(b"\r\n\r\n", 1)[1] for reply in heard.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [
        b"whole", b"twotwo", b"0\r\n\r\n", b"heard", b"all", b"4\r\nlong\r\n0\r\n\r\n", b"whole",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["two_lines", "bare_feed", "bare_return", "zero"])
def test_a_header_with_an_end_of_line_in_it_is_never_sent(replies: tuple[Replies, int], path: str) -> None:
    heard = _say_and_hear(replies[1], path, "whole")
    assert b"x-name" not in heard
    assert b"set-cookie" not in heard
    assert b" 200 " not in heard


@pytest.mark.parametrize("path", ["longer", "nothing_with_a_body"])
def test_a_reply_that_is_not_as_long_as_it_says_spoils_no_other(replies: tuple[Replies, int], path: str) -> None:
    heard = _say_and_hear(replies[1], path, "whole")
    assert heard.endswith(b"\r\n\r\n")
    assert b"whole" not in heard  # the connection ends: where the next reply begins could not be told


def test_a_long_body_is_no_long_head(replies: tuple[Replies, int]) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{replies[1]}", timeout=60.0) as client:
        for length in (100_000, 0, 300_000):  # a head may have 16 KiB
            assert client.post("/counting", content=b"x" * length).text == str(length)


def test_each_head_is_counted_by_itself(replies: tuple[Replies, int]) -> None:
    head = b"GET /whole HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"y" * 1000 + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", replies[1]), timeout=60) as link:
        heard = link.makefile("rb")
        for number in range(40):  # of 16 KiB that a head may have
            for part in (head[:500], head[500:]) if number > 20 else (head,):
                link.sendall(part)
                time.sleep(0.001)  # so that the parts come one after the other
            assert heard.readline() == b"HTTP/1.1 200 OK\r\n"
            while heard.readline() != b"\r\n":
                pass
            assert heard.read(5) == b"whole"


def test_a_request_has_one_reply(replies: tuple[Replies, int]) -> None:
    heard = _say_and_hear(replies[1], "twice", "whole")
    assert b"first" in heard
    assert b"second" not in heard


def test_a_reply_that_closes_its_connection_is_the_last(replies: tuple[Replies, int]) -> None:
    heard = _say_and_hear(replies[1], "closing", "whole")
    assert heard.count(b"HTTP/1.1") == 1
    assert b"connection: close" in heard


def test_a_reply_that_fails_before_its_first_part_is_a_500_and_counted_as_one(replies: tuple[Replies, int]) -> None:
    heard = _say_and_hear(replies[1], "failing")
    assert heard.startswith(b"HTTP/1.1 500 ")
    assert replies[0].statuses == [0]  # as one of which nothing was sent, which the gate counts as 500


def test_nobody_is_asked_for_a_body_behind_the_reply(replies: tuple[Replies, int]) -> None:
    with socket.create_connection(("127.0.0.1", replies[1]), timeout=20) as link:
        asked = (
            "PUT /whole_then_reading HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        link.sendall(asked.encode())
        heard = b""
        while not heard.endswith(b"whole"):
            heard += link.recv(65536)
        link.sendall(b"abcGET /whole HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while part := link.recv(65536):
            heard += part
    assert b" 100 " not in heard
    assert heard.count(b"HTTP/1.1 200 OK") == 2


def test_a_client_that_left_before_its_reply_harms_nobody(replies: tuple[Replies, int]) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", replies[1])) as link:
            link.sendall(b"GET /whole HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
    assert _say_and_hear(replies[1], "whole").endswith(b"whole")
