"""Limits as clients meet them: real servers, real sockets, a real Redis that goes away."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import WebSocket
from starlette.responses import StreamingResponse
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from dsa110_contimg.api.access_settings import RateLimitConfig
from dsa110_contimg.api.app import create_app, server_settings
from dsa110_contimg.api.credentials import create_key
from dsa110_contimg.api.database import BlockingDatabase
from dsa110_contimg.api.rate_limit import RateClass
from dsa110_contimg.api.readings import Rate
from dsa110_contimg.api.repositories import CredentialRepository
from dsa110_contimg.api.services.rate_limiter import RateLimiter
from dsa110_contimg.up.servers import EmbeddedRedis
from fixtures.api_world import QUEUE_OFF, settings
from fixtures.live_api import running
from fixtures.migrated import migrate

LIVE = "/api/v1/health?detailed=false"
PRODUCTION = {"DSA110_ENV": "production", "DSA110_PORT": "0", "DSA110_RATE_LIMIT_STORE": "memory"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state directory with a migrated database."""
    config = settings(tmp_path)
    migrate(config.database)
    return tmp_path


def client(port: int, address: str = "127.0.0.1") -> httpx.Client:
    """Return a client that is patient: on a busy disk the record of a wrong key alone can take seconds."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=transport, timeout=60.0)


# --- rates ------------------------------------------------------------------------------------------------------------


def test_who_asks_too_often_is_told_when_to_come_back(directory: Path) -> None:
    config = settings(directory, **PRODUCTION, DSA110_RATE_LIMIT_MINUTE="7")
    with running(server_settings(config, QUEUE_OFF)) as port, client(port) as http:
        replies = [http.get("/api/v1/images") for _ in range(21)]
        assert [reply.status_code for reply in replies] == [200] * 7 + [429] * 14
        assert [reply.headers["x-ratelimit-remaining"] for reply in replies[:8]] == [*"6543210", "0"]
        assert {reply.headers["x-ratelimit-limit"] for reply in replies} == {"7"}
        refused = replies[-1]
        body = refused.json()
        assert (body["error"], body["code"], body["message"]) == (
            "rate_limit_exceeded", "RATE_LIMITED", "Too many requests. 7 per minute",
        )  # fmt: skip
        assert 50 <= body["retry_after"] == int(refused.headers["retry-after"]) <= 60
        assert abs(int(refused.headers["x-ratelimit-reset"]) - time.time() - body["retry_after"]) < 3
        assert http.get("/api/v1/stats").status_code == 200  # another class
        assert http.get("/api/v1/health").status_code == 200  # never counted
        with client(port, "127.0.0.9") as other:
            assert other.get("/api/v1/images").status_code == 200  # another address


def test_a_developers_own_machine_is_not_counted_unless_a_proxy_may_stand_before_it(directory: Path) -> None:
    config = settings(directory, **{**PRODUCTION, "DSA110_ENV": "development"}, DSA110_RATE_LIMIT_MINUTE="2")
    with running(server_settings(config, QUEUE_OFF)) as port, client(port) as http:
        plain = [http.get("/api/v1/images") for _ in range(5)]
        assert {reply.status_code for reply in plain} == {200}
        assert "x-ratelimit-limit" not in plain[0].headers
        proxied = [http.get("/api/v1/images", headers={"X-Forwarded-For": "10.0.0.1"}) for _ in range(3)]
        assert [reply.status_code for reply in proxied] == [200, 200, 429]


def test_a_verified_key_is_counted_by_itself_and_random_keys_by_their_address(directory: Path) -> None:
    config = settings(directory, **PRODUCTION, DSA110_RATE_LIMIT_MINUTE="4", DSA110_RATE_LIMIT_AUTH="1000")
    made = [create_key(f"observer {n}", ["read"], time.time(), None) for n in range(2)]
    with BlockingDatabase(config.database, config.timeouts) as database:
        for _, record in made:
            CredentialRepository(database).add_key(record)
    with running(server_settings(config, QUEUE_OFF)) as port, client(port) as http:
        for key, _ in made:
            replies = [http.get("/api/v1/images", headers={"X-API-Key": key}).status_code for _ in range(5)]
            assert replies == [200] * 4 + [429]
        invented = [
            http.get("/api/v1/images", headers={"X-API-Key": create_key("x", [], 0.0, None)[0]}).status_code
            for _ in range(6)
        ]
        assert invented == [200] * 4 + [429] * 2


def test_an_address_may_show_few_wrong_keys_a_minute_and_who_has_a_good_one_goes_on(directory: Path) -> None:
    config = settings(directory, **PRODUCTION, DSA110_RATE_LIMIT_AUTH="3", DSA110_RATE_LIMIT_HIGH="0")
    good, record = create_key("observer", ["write:jobs"], time.time(), None)
    with BlockingDatabase(config.database, config.timeouts) as database:
        CredentialRepository(database).add_key(record)
    with running(server_settings(config, QUEUE_OFF)) as port, client(port) as http:

        def asked(key: str) -> int:
            return http.get("/api/v1/stats", headers={"Authorization": f"Bearer {key}"}).status_code

        assert asked(good) == 200
        assert [asked(f"wrong {n}") for n in range(6)] == [200, 200, 200, 429, 429, 429]
        assert asked(good) == 200
        assert http.get("/api/v1/stats").status_code == 200  # without a key nothing was guessed


SERVER = """
import sys, uvicorn
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import server_settings
from dsa110_contimg.api.config import get_config
settings = server_settings(get_config(), AbsurdConfig(enabled=False))
settings.load()
link = settings.bind_socket()
print(link.getsockname()[1], flush=True)
uvicorn.Server(settings).run(sockets=[link])
"""


@pytest.mark.slow
def test_two_processes_share_the_count_over_a_window_edge(directory: Path, redis_url: str) -> None:
    environ = {
        "DSA110_STATE_DIR": str(directory), "DSA110_PORT": "0", "REDIS_URL": redis_url, "DSA110_LOG_LEVEL": "ERROR",
        "DSA110_RATE_LIMIT_MINUTE": "20 per 2 seconds", "PATH": "",
    }  # fmt: skip
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", SERVER], env=environ, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        for server in servers:
            stack.callback(server.terminate)
        ports = [int(server.stdout.readline()) for server in servers]  # type: ignore[union-attr]
        with client(ports[0]) as first, client(ports[1]) as second:
            for http in (first, second):
                while True:
                    try:
                        http.get("/api/v1/health/live").raise_for_status()
                        break
                    except httpx.ConnectError:
                        time.sleep(0.05)
            passed, last = [], None
            began = time.monotonic()
            while time.monotonic() - began < 5.0:
                for http in (first, second):
                    last = http.get("/api/v1/images")
                    if last.status_code == 200:
                        passed.append(time.monotonic())
                time.sleep(0.01)
    assert last is not None and last.headers["x-ratelimit-limit"] == "20"
    most = max(sum(start <= moment < start + 2.0 for moment in passed) for start in passed)
    assert most <= 22
    assert len(passed) >= 40


async def test_without_redis_each_process_goes_on_with_the_same_limits(tmp_path: Path) -> None:
    config = RateLimitConfig(minute=Rate(6))
    with EmbeddedRedis(tmp_path / "redis") as server:
        limiters = [RateLimiter(config, server.url) for _ in range(2)]
        told = [await limiter.hit(RateClass.STANDARD, "a") for limiter in limiters * 2]
        assert [item.remaining for item in told if item] == [5, 4, 3, 2]
    alone = [await limiters[0].hit(RateClass.STANDARD, "a") for _ in range(6)]
    assert [item.passed for item in alone if item] == [True] * 4 + [False] * 2  # two of its six were asked before
    for limiter in limiters:
        await limiter.close()


async def test_redis_that_hangs_delays_one_request_and_is_used_again_when_it_answers() -> None:
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    limiter = RateLimiter(RateLimitConfig(minute=Rate(100)), f"redis://127.0.0.1:{port}/0")
    began = time.monotonic()
    for _ in range(50):
        assert (await limiter.hit(RateClass.STANDARD, "a")) is not None
    assert limiter._search is not None
    assert time.monotonic() - began < 10  # one patience, not fifty
    silent.close()
    await limiter.close()
    assert limiter._search.cancelled()


async def test_redis_that_comes_back_counts_again(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    with server:
        url = server.url
    limiter = RateLimiter(RateLimitConfig(minute=Rate(100)), url)
    await limiter.hit(RateClass.STANDARD, "a")
    assert limiter._search is not None
    with server:
        await asyncio.wait_for(limiter._search, 20)
        other = RateLimiter(RateLimitConfig(minute=Rate(100)), url)
        for counting in (limiter, other):
            allowance = await counting.hit(RateClass.STANDARD, "a")
        assert allowance is not None and allowance.remaining == 98
        await limiter.close()
        await other.close()


# --- in flight --------------------------------------------------------------------------------------------------------


def test_what_is_too_much_at_once_is_shed_and_health_answers(directory: Path) -> None:
    config = settings(directory, DSA110_MAX_IN_FLIGHT="3", DSA110_PORT="0")
    app = create_app(config, QUEUE_OFF)
    gone_on = asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await gone_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    loops: list[asyncio.AbstractEventLoop] = []

    async def wake(scope: Any, receive: Any, send: Any) -> None:
        loops.append(asyncio.get_running_loop())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app.mount("/wait", wait)
    app.mount("/wake", wake)
    served = uvicorn.Config(app, port=0, log_config=None)
    with running(served) as port, ThreadPoolExecutor(3) as pool, client(port) as http:
        assert http.get("/wake/").status_code == 200
        held = [pool.submit(lambda: httpx.get(f"http://127.0.0.1:{port}/wait/", timeout=60.0).text) for _ in range(3)]
        while (reply := http.get("/api/v1/images")).status_code == 200:
            time.sleep(0.01)
        took = []
        for _ in range(50):
            began = time.perf_counter()
            reply = http.get("/api/v1/images")
            took.append(time.perf_counter() - began)
            assert (reply.status_code, reply.json()["error"]) == (503, "OVERLOADED")
            assert reply.headers["retry-after"] == "1"
        print(f"shed in {sorted(took)[25] * 1e3:.1f} ms (median), {max(took) * 1e3:.1f} ms at most")
        assert http.get("/api/v1/health").status_code == 200
        loops[0].call_soon_threadsafe(gone_on.set)
        assert [item.result() for item in held] == ["done"] * 3
        assert http.get("/api/v1/images").status_code == 200


# --- slow clients -----------------------------------------------------------------------------------------------------

HASTY = {
    "DSA110_TIMEOUT_HEADERS": "0.4", "DSA110_TIMEOUT_IDLE": "0.4", "DSA110_TIMEOUT_REQUEST": "0.6", "DSA110_PORT": "0",
    "DSA110_API_KEYS": "k" * 43,
}  # fmt: skip


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a server that waits for nobody, with things that take long."""
    config = settings(tmp_path_factory.mktemp("hasty"), **HASTY)
    migrate(config.database)
    served = server_settings(config, QUEUE_OFF)
    app: Any = served.app
    app.mount("/endless", _endless)
    app.mount("/never", _never)
    app.mount("/stream", _stream)
    app.mount("/body", _body)
    with running(served) as port:
        yield port


async def _start(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def _endless(scope: Any, receive: Any, send: Any) -> None:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b"x" * 65536

    await StreamingResponse(parts())(scope, receive, send)


async def _never(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(60)


async def _stream(scope: Any, receive: Any, send: Any) -> None:
    await _start(send)
    for _ in range(12):
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"part ", "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})


async def _body(scope: Any, receive: Any, send: Any) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    await _start(send)
    await send({"type": "http.response.body", "body": b"read"})


def until_closed(link: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    link.settimeout(15)
    said = b""
    try:
        while part := link.recv(65536):
            said += part
    except ConnectionResetError:
        pass
    return said


HALF_A_BODY = (
    b"POST /body/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n[1"
)
HEAD = b"GET /api/v1/images HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("said", [b"", b"G", HEAD], ids=["nothing", "a letter", "half a head"])
def test_headers_that_do_not_end_close_the_connection(hasty: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", hasty)) as link:
        link.sendall(said)
        assert until_closed(link) == b""


def test_headers_that_dribble_close_the_connection_too(hasty: int) -> None:
    with socket.create_connection(("127.0.0.1", hasty)) as link:
        link.sendall(HEAD)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for number in range(100):
                link.sendall(b"X-%d: y\r\n" % number)
                time.sleep(0.1)


def test_a_connection_on_which_requests_follow_each_other_stays(hasty: int) -> None:
    with client(hasty) as http:
        ours = set()
        for _ in range(4):
            reply = http.get("/api/v1/images")
            assert reply.status_code == 200
            ours.add(reply.extensions["network_stream"].get_extra_info("client_addr"))
            time.sleep(0.15)
    assert len(ours) == 1, "the client had to connect again"


def test_a_body_that_stops_is_answered_and_the_connection_closed(hasty: int) -> None:
    with socket.create_connection(("127.0.0.1", hasty)) as link:
        link.sendall(HALF_A_BODY)
        reply = until_closed(link)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in head
    assert json.loads(body)["error"] == "BODY_TOO_SLOW"


def test_a_reply_that_never_begins_is_given_up(hasty: int) -> None:
    reply = httpx.get(f"http://127.0.0.1:{hasty}/never/", timeout=10)
    assert (reply.status_code, reply.json()["error"], reply.headers["retry-after"]) == (503, "REQUEST_TIMED_OUT", "5")
    assert reply.json()["action"] == "Try again in a moment."


def test_a_stream_may_take_longer_than_a_request(hasty: int) -> None:
    assert httpx.get(f"http://127.0.0.1:{hasty}/stream/", timeout=10).text == "part " * 12 + "end"


def test_a_client_that_does_not_take_its_reply_is_dropped(hasty: int) -> None:
    with socket.create_connection(("127.0.0.1", hasty)) as link:
        link.sendall(b"GET /endless/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(2.0)
        said = until_closed(link)  # what the kernel kept, then the end
    assert said.startswith(b"HTTP/1.1 200")


def test_many_slow_clients_do_not_keep_health_waiting(hasty: int) -> None:
    with ExitStack() as stack:
        links = []
        for number in range(200):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", hasty)))
            link.sendall(
                HEAD if number % 2 else b"POST /body/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            )
            links.append(link)
        with client(hasty) as http:
            took = []
            for _ in range(20):
                began = time.perf_counter()
                assert http.get("/api/v1/health/live").status_code == 200
                took.append(time.perf_counter() - began)
        print(f"health beside 200 slow clients: {max(took) * 1e3:.1f} ms at most")
        for link in links:
            until_closed(link)


# --- WebSockets -------------------------------------------------------------------------------------------------------


async def test_one_address_opens_so_many_websockets_and_no_more(directory: Path) -> None:
    config = settings(directory, **PRODUCTION, DSA110_MAX_WEBSOCKETS_PER_ADDRESS="2")
    served = server_settings(config, QUEUE_OFF)
    app: Any = served.app

    @app.websocket("/api/v1/ws/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.send_text(await websocket.receive_text())

    with running(served) as port:
        url = f"ws://127.0.0.1:{port}/api/ws/echo"
        async with connect(url, proxy=None) as first, connect(url, proxy=None):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, proxy=None)
            assert refused.value.response.status_code == 429
            assert json.loads(refused.value.response.body or b"{}")["error"] == "TOO_MANY_WEBSOCKETS"
            async with connect(url, proxy=None, local_addr=("127.0.0.8", 0)) as other:
                await other.send("elsewhere")
                assert await other.recv() == "elsewhere"
            await first.close()
            for _ in range(100):
                try:
                    async with connect(url, proxy=None) as again:
                        await again.send("again")
                        assert await again.recv() == "again"
                    break
                except InvalidStatus:
                    await asyncio.sleep(0.02)
            else:
                pytest.fail("the closed WebSocket is counted still")


async def test_a_frame_over_64_kib_closes_the_websocket(directory: Path) -> None:
    served = server_settings(settings(directory, DSA110_PORT="0"), QUEUE_OFF)
    app: Any = served.app

    @app.websocket("/api/v1/ws/length")
    async def length(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.send_text(str(len(await websocket.receive_text())))

    with running(served) as port:
        async with connect(f"ws://127.0.0.1:{port}/api/v1/ws/length", proxy=None) as link:
            await link.send("x" * 65536)
            assert await link.recv() == "65536"
            await link.send("x" * 65537)
            await link.wait_closed()
            assert link.close_code == 1009
