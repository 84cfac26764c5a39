"""The gate behind a real server: what a socket can say, the server hands on, and the gate must judge."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import create_app, server_settings
from dsa110_contimg.api.config import APIConfig
from fixtures.api_world import build, settings
from fixtures.live_api import running

PROXY = "127.0.0.1"  # every address of 127/8 is a peer of its own
CLIENT = "127.0.0.2"
STRANGER = "127.0.1.1"
LIVE = "/api/v1/health?detailed=false"  # with a query the address is judged


def configured(directory: Path) -> APIConfig:
    return settings(
        directory, DSA110_PORT="0", DSA110_TRUSTED_PROXIES=PROXY, DSA110_ALLOWED_IPS="127.0.0.0/24,10.0.0.0/8",
    )  # fmt: skip


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of the API as `dsa110 api` serves it."""
    config = server_settings(configured(tmp_path_factory.mktemp("state")))
    with running(config) as number:
        yield number


def say(port: int, text: bytes, source: str = CLIENT) -> tuple[int, bytes]:
    """Send bytes from an address of ours and return status and whole reply."""
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0)) as link:
        link.sendall(text)
        reply = b""
        while chunk := link.recv(65536):
            reply += chunk
    return int(reply.split(b" ", 2)[1]), reply


def request(path: str = LIVE, *lines: str, host: str = "Host: localhost") -> bytes:
    words = [f"GET {path} HTTP/1.1", host, *lines, "Connection: close", "", ""]
    return "\r\n".join(line for line in words[:2] if line).encode() + b"\r\n" + "\r\n".join(words[2:]).encode("latin-1")


@pytest.mark.parametrize(
    ("source", "lines", "status"),
    [
        (CLIENT, [], 200),
        (STRANGER, [], 403),
        (STRANGER, ["X-Forwarded-For: 10.0.0.1"], 403),
        (STRANGER, ["X-Real-IP: 10.0.0.1", "Forwarded: for=10.0.0.1"], 403),
        (CLIENT, ["X-Forwarded-For: 8.8.8.8"], 200),
        (PROXY, [], 403),
        (PROXY, ["X-Forwarded-For: 10.0.0.1"], 200),
        (PROXY, ["x-forwarded-for: 10.0.0.1", "X-Forwarded-For: 8.8.8.8"], 403),
        (PROXY, ["X-Forwarded-For: 8.8.8.8, 10.0.0.1"], 200),
        (PROXY, ["X-Forwarded-For: 10.0.0.1, 8.8.8.8"], 403),
        (PROXY, ["X-Forwarded-For: ::ffff:10.0.0.1"], 200),
        (PROXY, ["X-Forwarded-For: ::ffff:8.8.8.8"], 403),
        (PROXY, ["X-Forwarded-For: unknown"], 400),
        (PROXY, ["X-Forwarded-For:"], 400),
        (PROXY, [f"X-Forwarded-For: {', '.join(['10.0.0.1'] * 800)}, 8.8.8.8"], 403),
    ],
)
def test_a_client_cannot_lie_about_its_address(port: int, source: str, lines: list[str], status: int) -> None:
    assert say(port, request(LIVE, *lines), source)[0] == status


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (request(host="Host: evil.example"), 421),
        (request(host=""), 400),
        (request(LIVE, "Host: evil.example"), 400),
        (b"GET http://evil.example/api HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
        (request("//evil.example/%2e%2e"), 404),
        (request("/api/v1/images/"), 307),
        (request(LIVE, *(f"X-{n}: 1" for n in range(101))), 431),
        (request(LIVE, "X: " + "y" * 17000), 431),
        (b"POST /api/v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000000\r\n\r\n", 413),
        (
            b"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
            415,
        ),
    ],
)
def test_hosts_targets_and_sizes_are_judged(port: int, text: bytes, status: int) -> None:
    got, reply = say(port, text)
    assert got == status
    assert b"location: http://evil" not in reply.lower()


def with_trailers(*trailers: bytes, head: bytes) -> bytes:
    """Return a request whose body has trailing fields."""
    head = b"GET " + LIVE.encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + head
    head += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    return head + b"".join(field + b"\r\n" for field in trailers) + b"\r\n"


def test_what_follows_a_body_is_no_header(port: int) -> None:
    """A proxy names the client in the head; what the client sends behind its body would stand for the last proxy."""
    head = b"X-Forwarded-For: 8.8.8.8\r\n"
    assert say(port, with_trailers(head=head), PROXY)[0] == 403
    assert say(port, with_trailers(b"X-Forwarded-For: 10.0.0.1", head=head), PROXY)[0] == 403
    assert say(port, with_trailers(b"Host: evil.example", head=b""))[0] == 200


POST = b"POST /api/v1/jobs/bulk-rerun HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET " + LIVE.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
AMBIGUOUS = {
    "two ways to tell the length": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "lengths in one line": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": POST + b"Content-Length: +2\r\n\r\n{}",
    "a length in hexadecimal": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "chunks that are no chunks": POST + b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks within something else": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks and not": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "an odd space before chunks": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "an endless chunk": CHUNKED + b"ffffffffffffffff1\r\n{}\r\n0\r\n\r\n",
    "a chunk that ends its line early": CHUNKED + b"2;\n{}\r\n0\r\n\r\n",
    "chunks with other ends of lines": CHUNKED + b"2\n{}\n0\n\n",
    "a chunk in C": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "other ends of lines": GET.replace(b"\r\n", b"\n") + b"\n",
    "no ends of lines": GET.replace(b"\r\n", b"\r") + b"\r",
    "a line that goes on": GET + b"X-Forwarded-For: 10.0.0.1,\r\n 8.8.8.8\r\n\r\n",
    "a name that goes on": GET.replace(b"Host: localhost", b"Host:\r\n evil.example") + b"\r\n",
    "an end of line in a value": GET + b"X: a\rHost: evil.example\r\n\r\n",
    "a line without a colon": GET + b"X\r\n\r\n",
    "nothing before a colon": GET + b": x\r\n\r\n",
    "a proxy's line before": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + GET + b"\r\n",
}


@pytest.mark.parametrize("text", AMBIGUOUS.values(), ids=list(AMBIGUOUS))
def test_what_a_proxy_may_read_otherwise_is_refused_and_ends_the_connection(port: int, text: bytes) -> None:
    """Else what follows could be a request for one of the two and a body for the other."""
    status, replies = say(port, text + GET + b"\r\n")
    assert (status, replies.count(b"HTTP/1.1 ")) == (400, 1)


def test_a_refusal_is_json_with_an_id_and_names_no_software(port: int) -> None:
    _, reply = say(port, request(LIVE), STRANGER)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert json.loads(body)["message"] == f"Access denied from {STRANGER}"
    assert b"x-request-id: " in head
    assert b"uvicorn" not in head.lower()


async def read_all(scope: object, receive: object, send: object) -> None:
    """Count the bytes of a body; the application of the server below."""
    length, more = 0, True
    while more:
        message = await receive()  # type: ignore[operator]
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"%d" % length})  # type: ignore[operator]


def test_an_endless_body_is_cut_off_at_the_limit(tmp_path: Path) -> None:
    app = create_app(configured(tmp_path), AbsurdConfig())
    app.mount("/swallow", read_all)  # type: ignore[arg-type]
    with running(uvicorn.Config(app, port=0, proxy_headers=False, log_config=None)) as number:
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        head = b"POST /swallow/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        head += b"Content-Type: application/json\r\n\r\n"
        with socket.create_connection(("127.0.0.1", number), timeout=10, source_address=(CLIENT, 0)) as link:
            link.sendall(head)
            for _ in range(17):  # 64 KiB each, one more than the limit of 1 MiB
                link.sendall(chunk)
            reply = link.recv(65536)
        assert reply.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("most", [2, 0])
async def test_who_sends_first_and_reads_then_hears_that_the_body_is_too_large(tmp_path: Path, most: int) -> None:
    """To close a connection with something unread resets it, which takes the reply from many clients."""
    served = server_settings(configured(tmp_path), AbsurdConfig(enabled=False))
    served.http.most_parting = most  # type: ignore[union-attr]
    client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(local_address=CLIENT), timeout=20.0)
    with running(served) as number:
        async with client as http:
            address = f"http://127.0.0.1:{number}/api/v1/images"
            for _ in range(2 * most or 1):
                try:
                    reply = await http.post(address, content=b"x" * (24 << 20))
                except httpx.TransportError:
                    assert most == 0, "only who is one too many is reset"
                else:
                    assert (reply.status_code, reply.headers["connection"]) == (413, "close")
            assert (await http.get(f"http://127.0.0.1:{number}{LIVE}")).status_code == 200


def test_who_does_not_stop_sending_what_was_refused_is_cut_off(tmp_path: Path) -> None:
    served = server_settings(configured(tmp_path), AbsurdConfig(enabled=False))
    served.http.parting_s = 0.3  # type: ignore[union-attr]
    head = b"POST /api/v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000000\r\n\r\n"
    with running(served) as number, socket.create_connection(("127.0.0.1", number), 20, (CLIENT, 0)) as link:
        link.sendall(head)
        with pytest.raises(ConnectionError):
            while True:
                link.sendall(b"x" * 1000)
                time.sleep(0.01)


@pytest.mark.parametrize(
    ("source", "origin", "status"),
    [(STRANGER, None, 403), (CLIENT, "https://evil.example", 403), (CLIENT, "null", 403), (CLIENT, None, 403)],
)
async def test_a_websocket_is_refused_before_it_is_accepted(
    port: int, source: str, origin: str | None, status: int
) -> None:
    """The last case passes the gate; there is no such WebSocket, which the server answers with 403 too."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            f"ws://127.0.0.1:{port}/api/v1/ws/nothing",
            origin=origin,
            local_addr=(source, 0),
            proxy=None,  # type: ignore[arg-type]
        ):
            pass
    assert refused.value.response.status_code == status
    by_gate = b'"ref_id"' in (refused.value.response.body or b"")
    assert by_gate == (source == STRANGER or origin is not None)


def test_half_a_request_does_not_stop_others(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), source_address=(CLIENT, 0)) as slow:
        slow.sendall(b"GET /api/v1/health/live HTTP/1.1\r\nHost: local")
        assert say(port, request())[0] == 200


def test_a_head_that_never_ends_is_refused_at_a_bounded_size(tmp_path: Path) -> None:
    with (
        running(server_settings(settings(tmp_path), AbsurdConfig(enabled=False))) as port,
        socket.create_connection((PROXY, port)) as link,
    ):
        link.sendall(b"GET / HTTP/1.1\r\nX: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 4 << 20:
                sent += link.send(b"y" * 8192)
                link.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if reply := link.recv(100):
                        break
                link.settimeout(None)
        assert reply.startswith(b"HTTP/1.1 431 ")
        assert sent < 1 << 20


def test_replies_to_head_end_with_their_headers_and_the_connection_goes_on(tmp_path: Path) -> None:
    config = configured(tmp_path)
    asyncio.run(build(config))
    paths = ("/api/v1/images/bulk-download?ids=1", "/api/v1/images", "/api/v1/nothing", "/api/v1/stats")
    heads = b"".join(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths)
    with running(server_settings(config)) as port:
        _, told = say(port, heads + request("/api/v1/health/live"))
    *replies, body = told.split(b"\r\n\r\n")
    assert [reply[:12] for reply in replies] == [f"HTTP/1.1 {status}".encode() for status in (200, 200, 404, 200, 200)]
    assert json.loads(body)["status"]
