"""Who comes while too much is asked is refused by the connection itself, as the gate would."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
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
    """Refuses with a long reply and counts how often."""

    body = b"x" * 10_000
    calls = 0

    def __call__(self, scope: Mapping[str, Any]) -> Any:
        self.calls += 1
        return 503, [(b"content-length", b"10000")], self.body


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
def _serving(application: Application, busy: Any) -> Iterator[tuple[str, int]]:
    connection = patient(20.0, 20.0, 1 << 14, 1, busy)
    config = uvicorn.Config(application, port=0, http=connection, loop="uvloop", lifespan="off", log_config=None)
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
        _ask(other, *["/"] * 3000)
        while not application.others:  # which waits for the client
            time.sleep(0.01)
        assert busy.calls < 2000, "30 MB would lie in memory"
        statuses = _statuses(other, 3000)
    assert statuses.count(503) == busy.calls
    assert statuses.count(200) == application.others


def test_many_requests_behind_one_that_took_long_are_answered_in_order(tmp_path: Path) -> None:
    application = Application()
    with (
        _serving(application, BusyReply(1, CrossOriginRule(), RequestMeter(Tally(tmp_path)))) as address,
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
