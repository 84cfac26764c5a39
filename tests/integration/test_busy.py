"""Who comes while too much is asked is refused by the connection itself, as the gate would."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from dsa110_contimg.api.app import server_settings
from dsa110_contimg.api.middleware.busy import BusyReply
from dsa110_contimg.api.middleware.connection import patient
from dsa110_contimg.api.middleware.cross_origin import CrossOriginRule
from dsa110_contimg.api.middleware.meter import RequestMeter
from dsa110_contimg.api.tally import Tally
from fixtures.api_world import QUEUE_OFF, settings
from fixtures.live_api import running
from fixtures.migrated import migrate

LIST = "/api/v1/images"


@contextlib.contextmanager
def _full(directory: Path) -> Iterator[tuple[httpx.Client, list[str]]]:
    """Run the API while one request is worked at, which is the most; give a client and who came to the gate."""
    config = settings(directory, DSA110_MAX_IN_FLIGHT="1", DSA110_PORT="0", DSA110_CORS_ORIGINS="https://pages.example")
    migrate(config.database)
    served = server_settings(config, QUEUE_OFF)
    app: Any = served.app
    held, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        held.set()
        await asyncio.to_thread(go_on.wait)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(scope["method"])
        await app(scope, receive, send)

    app.mount("/wait", wait)
    served.app = watched
    with running(served) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        holding = threading.Thread(target=httpx.get, args=[f"http://127.0.0.1:{port}/wait/"])
        holding.start()
        assert held.wait(20)
        seen.clear()
        try:
            yield client, seen
        finally:
            go_on.set()
            holding.join()
        while client.get(LIST).status_code != 200:  # the connection of the one that was held counts it a moment longer
            time.sleep(0.01)


def _facts(reply: httpx.Response) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Return what two refusals have in common."""
    headers = {name: value for name, value in reply.headers.items() if name not in ("x-request-id", "date")}
    body = reply.json()
    assert body["ref_id"] == reply.headers["x-request-id"]
    return (
        reply.status_code,
        headers,
        {name: value for name, value in body.items() if name not in ("ref_id", "trace_id")},
    )


def test_the_connection_refuses_as_the_gate_does_and_leaves_to_it_what_it_may_judge_otherwise(tmp_path: Path) -> None:
    with _full(tmp_path) as (client, seen):
        at_once = [client.get(LIST) for _ in range(3)]
        assert seen == []
        by_gate = client.get(LIST, headers={"X-Request-ID": "a" * 32})
        assert by_gate.headers["x-request-id"] == "a" * 32
        assert [_facts(reply) for reply in at_once] == [_facts(by_gate)] * 3
        assert by_gate.json()["error"] == "OVERLOADED"
        assert len({reply.headers["x-request-id"] for reply in at_once}) == 3
        assert all("date" in reply.headers for reply in (*at_once, by_gate))
        crossing = client.get(LIST, headers={"Origin": "https://pages.example"})
        assert (crossing.status_code, crossing.headers["access-control-allow-origin"]) == (503, "https://pages.example")
        assert client.head(LIST).status_code == 503
        assert client.delete(f"{LIST}/1").status_code == 503
        assert client.get(LIST, headers={"Connection": "close"}).headers["connection"] == "close"
        assert client.get("/api/v1/health").status_code == 200
        assert seen == ["GET", "GET", "HEAD", "DELETE", "GET", "GET"]
        counted = client.get("/metrics").text
    assert 'http_requests_total{handler="none",method="GET",status="5xx"} 6.0' in counted


class Big:
    """Refuses all that comes with a long reply, and counts how often."""

    calls = 0

    def __call__(self, data: bytes, peer: str) -> bytes:
        self.calls += 1
        return b"content-length: 10000\r\n\r\n" + b"x" * 10_000


class Application:
    """Answers ``/first`` and ``/second`` when they are let, and counts all others."""

    def __init__(self) -> None:
        self.go_on = {"/first": threading.Event(), "/second": threading.Event()}
        self.begun = {"/first": threading.Event(), "/second": threading.Event()}
        self.others = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] in self.go_on:
            self.begun[scope["path"]].set()
            await asyncio.to_thread(self.go_on[scope["path"]].wait)
        else:
            self.others += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def _serving(application: Application, busy: Any, patience_s: float = 20.0) -> Iterator[tuple[str, int]]:
    config = uvicorn.Config(
        application,
        port=0,
        http=patient(patience_s, 20.0, 1 << 14, 1, busy),
        loop="uvloop",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=int(patience_s),
    )
    with running(config) as port:
        try:
            yield ("127.0.0.1", port)
        finally:
            for event in application.go_on.values():
                event.set()


def _ask(link: socket.socket, *paths: str) -> None:
    link.sendall("".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths).encode())


def _statuses(link: socket.socket, count: int) -> list[int]:
    stream = link.makefile("rb")
    found = []
    for _ in range(count):
        found.append(int(stream.readline().split(b" ")[1]))
        length = 0
        while (line := stream.readline().strip().lower()) != b"":
            length = int(line.removeprefix(b"content-length:")) if line.startswith(b"content-length:") else length
        stream.read(length)
    return found


def test_refusals_that_nobody_takes_do_not_pile_up(tmp_path: Path) -> None:
    application, busy = Application(), Big()
    with (
        _serving(application, busy) as address,
        socket.create_connection(address) as first,
        socket.create_connection(address) as other,
    ):
        _ask(first, "/first")
        assert application.begun["/first"].wait(20)
        asked = 0
        while not application.others:  # which waits for the client
            _ask(other, "/")
            asked += 1
            assert asked < 2000, "20 MB would lie in memory"
            while busy.calls + application.others < asked:
                time.sleep(0.0001)
        statuses = _statuses(other, asked)
    assert statuses == [503] * busy.calls + [200]


@contextlib.contextmanager
def _beside_one(busy: Any, *, patience_s: float = 20.0) -> Iterator[tuple[socket.socket, Application]]:
    """Give a connection to a server that works at one request, which is the most."""
    application = Application()
    with (
        _serving(application, busy, patience_s) as address,
        socket.create_connection(address) as first,
        socket.create_connection(address) as other,
    ):
        _ask(first, "/first")
        assert application.begun["/first"].wait(20)
        yield other, application


def _plain_refusals(directory: Path) -> BusyReply:
    return BusyReply(1, CrossOriginRule(), RequestMeter(Tally(directory)))


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/v1/images HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET /api/v1/images HTTP/1.1\r\nHost: a\r\ntransfer-ENCODING: chunked\r\n\r\n0\r\n\r\n",
        b"GET /api/v1/images HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        b"GET /api/v1/images HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\n\r\n",
        b"GET /api/v1/images HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        b"GET /api/v1/h%65alth HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/docs HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/v1/health?x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /api/v1/images HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nGET /api/v1/images HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://elsewhere/api/v1/images HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/v1/images HTTP/1.1\r\nHost: a\r\nname : value\r\n\r\n",
        b"GET /api/v1/images HTTP/1.1\r\nHost: a\r\nname: va\x00lue\r\n\r\n",
        b"GET /api/v1/images HTTP/1.1\r\nHost: a\r\nname: value\n\r\n",
        b"GET /api/v1/images HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_more_than_a_plain_read_is_not_refused_by_the_connection(tmp_path: Path, head: bytes) -> None:
    assert _plain_refusals(tmp_path)(head, "192.0.2.1") is None


def test_only_what_came_whole_and_between_two_requests_is_refused_by_the_connection(tmp_path: Path) -> None:
    read = f"GET {LIST} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with _beside_one(_plain_refusals(tmp_path)) as (other, application):
        other.sendall(read)
        assert _statuses(other, 1) == [503]
        other.sendall(read + read)  # two at once: the gate's
        assert _statuses(other, 2) == [200, 200]
        other.sendall(b"GET /api/v1/sources HTTP/1.1\r\nHost: localhost\r\nname: ")
        time.sleep(0.2)
        other.sendall(read)  # in the middle of a head: no head of its own
        assert _statuses(other, 1) == [200]
        other.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (len(read) + 1))
        assert _statuses(other, 1) == [200]
        other.sendall(read)  # the body of what has been answered: no request
        time.sleep(0.2)
        other.sendall(b"x")
        time.sleep(0.2)
        other.sendall(read)
        assert _statuses(other, 1) == [503]
        _ask(other, "/second")
        assert application.begun["/second"].wait(20)
        other.sendall(read)  # its reply is not the next one
        time.sleep(0.2)
        application.go_on["/second"].set()
        assert _statuses(other, 2) == [200, 200]
        assert application.others == 5


def test_a_connection_whose_requests_are_refused_is_not_idle(tmp_path: Path) -> None:
    with _beside_one(_plain_refusals(tmp_path), patience_s=1.0) as (other, _):
        for _ in range(8):  # for twice the time after which a connection with nothing on it is closed
            _ask(other, LIST)
            assert _statuses(other, 1) == [503]
            time.sleep(0.3)
        time.sleep(1.5)
        assert other.recv(1) == b"", "now it was idle"


def test_who_is_refused_in_one_second_is_one_line_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with _beside_one(_plain_refusals(tmp_path)) as (other, _):
        for _ in range(5):
            _ask(other, LIST)
            assert _statuses(other, 1) == [503]
        ends_s = time.monotonic() + 20
        while not (lines := [each for each in caplog.records if hasattr(each, "refused")]):
            assert time.monotonic() < ends_s
            time.sleep(0.05)
    assert [vars(each)[name] for each in lines for name in ("refused", "client", "refused_client")] == [
        5,
        "127.0.0.1",
        5,
    ]
    assert lines[0].getMessage() == "too much is asked: 5 reads were refused within 1 s"


def test_many_requests_behind_one_that_took_long_are_answered_in_order(tmp_path: Path) -> None:
    application = Application()
    with (
        _serving(application, _plain_refusals(tmp_path)) as address,
        socket.create_connection(address) as first,
        socket.create_connection(address) as other,
    ):
        _ask(first, "/first", *[LIST] * 2000)
        assert application.begun["/first"].wait(20)
        other.sendall(b"GET /second HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: 1\r\n\r\n")  # not refused at once
        assert application.begun["/second"].wait(20)
        application.go_on["/first"].set()
        assert _statuses(first, 2001)[0] == 200
        _ask(first, LIST)
        assert _statuses(first, 1) == [503]
