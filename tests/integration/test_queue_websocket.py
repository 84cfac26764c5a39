"""Live updates through two API processes: every change by every worker reaches every client, from any id on."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import server_settings
from dsa110_contimg.up.servers import free_port
from fixtures.api_world import settings
from fixtures.live_api import QueueServer, running
from fixtures.queue_bench import QUEUE, Bench, open_bench

pytest_plugins = ["fixtures.queue_database", "fixtures.queue_api"]

PATHS = ("/ws/absurd", "/api/ws/absurd", "/api/v1/ws/absurd", "/api/ws/pipeline", "/api/v1/ws/pipeline")


class Ear:
    """A WebSocket client that keeps what it hears."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: list[dict[str, Any]] = []

    async def next(self, *kinds: str) -> dict[str, Any]:
        """Return the next message of these types."""
        async with asyncio.timeout(15):
            while True:
                told: dict[str, Any] = orjson.loads(await self.connection.recv())
                self.heard.append(told)
                if told["type"] in kinds:
                    return told

    async def updates(self, number: int) -> list[dict[str, Any]]:
        return [await self.next("task_update") for _ in range(number)]


class Sockets:
    """Opens WebSockets to a port."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def open(self, port: int, path: str = "/api/v1/ws/absurd", after: str | None = None, **more: Any) -> Ear:
        """Return a client that has been greeted and listens."""
        address = f"ws://127.0.0.1:{port}{path}{f'?last_event_id={after}' if after else ''}"
        ear = Ear(await self._stack.enter_async_context(connect(address, proxy=None, **more)))
        await ear.next("connected")
        if after is None:
            await ear.next("listening")
        return ear


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    async with AsyncExitStack() as stack:
        yield Sockets(stack)


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


@contextmanager
def api_process(server: QueueServer, queue_url: str) -> Iterator[int]:
    """Run another API process over the same databases and give its port."""
    port = free_port()
    environ = {
        **os.environ, "DSA110_STATE_DIR": str(server.config.paths.state_dir), "DSA110_PORT": str(port),
        "ABSURD_ENABLED": "true", "ABSURD_DATABASE_URL": queue_url,
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "dsa110_contimg.api"], env=environ, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None and time.monotonic() < deadline
            try:
                httpx.get(f"http://127.0.0.1:{port}/api/health/live")
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                break
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def second_port(queue_server: QueueServer, queue_database: str) -> Iterator[int]:
    with api_process(queue_server, queue_database) as port:
        yield port


async def test_every_client_of_every_api_process_hears_what_a_worker_process_does(
    queue: Bench, queue_server: QueueServer, second_port: int, sockets: Sockets
) -> None:
    """The earlier workers had nobody to tell: the manager of sockets was never set, and in another process anyway."""
    ears = [await sockets.open(port) for port in (queue_server.port, queue_server.port, second_port)]
    ears.append(await sockets.open(second_port, "/api/v1/ws/pipeline"))
    with queue.worker_process():
        task = str(await queue.client.spawn("small"))
        told = [await ear.updates(3) for ear in ears]
    assert told[0] == told[1] == told[2] == told[3]
    assert [update["update"]["status"] for update in told[0]] == ["pending", "claimed", "completed"]
    assert {(update["queue_name"], update["task_id"], update["task_name"]) for update in told[0]} == {
        (QUEUE, task, "small")
    }
    assert len({update["event_id"] for update in told[0]}) == 3
    for ear in ears:
        stats = await ear.next("queue_stats_update")
        assert (stats["queue_name"], stats["stats"]["total"]) == (QUEUE, 1)


async def test_whoever_comes_back_to_either_process_misses_nothing_and_hears_nothing_twice(
    queue: Bench, queue_server: QueueServer, second_port: int, sockets: Sockets
) -> None:
    witness = await sockets.open(queue_server.port)
    leaver = await sockets.open(second_port)
    async with queue.worker():
        for _ in range(3):
            await queue.client.spawn("small")
        heard = await leaver.updates(4)
        await leaver.connection.close()
        for _ in range(5):
            await queue.client.spawn("small")
        everything = await witness.updates(24)
    for port in (queue_server.port, second_port):
        back = await sockets.open(port, after=heard[-1]["event_id"])
        heard_since = await back.updates(20)
        assert heard + heard_since == everything
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await back.next("task_update", "resync")


async def test_who_comes_with_an_id_that_is_not_known_is_sent_to_the_tables(
    queue: Bench, queue_server: QueueServer, sockets: Sockets
) -> None:
    for unknown in ("999999999-0", "nonsense"):
        ear = await sockets.open(queue_server.port, after=unknown)
        assert (await ear.next("task_update", "resync"))["type"] == "resync"
        task = str(await queue.client.spawn("small"))
        assert (await ear.next("task_update"))["task_id"] == task


@pytest.mark.parametrize("path", PATHS)
async def test_the_sockets_are_at_every_base(queue: Bench, queue_server: QueueServer, path: str) -> None:
    async with connect(f"ws://127.0.0.1:{queue_server.port}{path}?client_id=console-1", proxy=None) as connection:
        hello = orjson.loads(await connection.recv())
        topic = "absurd" if path.endswith("absurd") else "pipeline:all"
        assert (hello["type"], hello["topic"], hello["client_id"]) == ("connected", topic, "console-1")
        await connection.send('{"type": "ping"}')
        kinds = [orjson.loads(await asyncio.wait_for(connection.recv(), 10))["type"] for _ in range(2)]
        assert set(kinds) == {"listening", "pong"}


async def test_a_client_that_calls_itself_like_another_does_not_displace_it(
    queue: Bench, queue_server: QueueServer, sockets: Sockets
) -> None:
    ears = [await sockets.open(queue_server.port, "/api/v1/ws/absurd?client_id=me") for _ in range(2)]
    await queue.client.spawn("small")
    assert [(await ear.next("task_update"))["update"]["status"] for ear in ears] == ["pending", "pending"]


async def test_nonsense_ends_only_the_own_conversation(
    queue: Bench, queue_server: QueueServer, sockets: Sockets
) -> None:
    witness = await sockets.open(queue_server.port)
    for words in ("no json", b"\x00\x01", "[]"):
        ear = await sockets.open(queue_server.port)
        await ear.connection.send(words)
        with pytest.raises(ConnectionClosed) as closed:
            await ear.next("never")
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1003
    big = await sockets.open(queue_server.port)
    await big.connection.send("x" * (65 << 10))
    with pytest.raises(ConnectionClosed) as closed:
        await big.next("never")
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
    await queue.client.spawn("small")
    await witness.next("task_update")


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_of_somebody_else_hears_nothing(queue_server: QueueServer, path: str) -> None:
    for origin in ("https://evil.example", "null", f"http://127.0.0.1.evil.example:{queue_server.port}"):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{queue_server.port}{path}", origin=origin, proxy=None):  # type: ignore[arg-type]
                pass
        assert refused.value.response.status_code == 403
    own = f"http://127.0.0.1:{queue_server.port}"
    async with connect(f"ws://127.0.0.1:{queue_server.port}{path}", origin=own, proxy=None):  # type: ignore[arg-type]
        pass


async def test_an_address_outside_the_allowed_networks_hears_nothing(tmp_path: Path, queue_database: str) -> None:
    config = settings(tmp_path, DSA110_PORT="0", DSA110_ALLOWED_IPS="127.0.0.0/24", DSA110_MAX_WEBSOCKETS="1")
    queue = AbsurdConfig(enabled=True, database_url=queue_database)
    with running(server_settings(config, queue)) as port:
        address = f"ws://127.0.0.1:{port}/api/v1/ws/absurd"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address, local_addr=("127.0.1.1", 0), proxy=None):
                pass
        assert refused.value.response.status_code == 403
        async with connect(address, proxy=None):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(address, proxy=None):
                    pass
            assert refused.value.response.status_code == 503
        await until_open(address)  # the place of the one that has left is free again


async def until_open(address: str) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                async with connect(address, proxy=None):
                    return
            except InvalidStatus as refused:
                assert refused.response.status_code == 503


async def test_a_queue_that_is_switched_off_says_so_before_the_socket_is_open(tmp_path: Path) -> None:
    with running(server_settings(settings(tmp_path, DSA110_PORT="0"), AbsurdConfig(enabled=False))) as port:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{port}/ws/absurd", proxy=None):
                pass
        assert refused.value.response.status_code == 503
        assert orjson.loads(refused.value.response.body or b"")["error"] == "ABSURD_DISABLED"


async def test_a_client_that_is_dead_is_dropped_and_a_living_one_hears_on(
    tmp_path: Path, queue: Bench, queue_database: str, sockets: Sockets
) -> None:
    config = settings(
        tmp_path, DSA110_PORT="0", DSA110_TIMEOUT_WEBSOCKET_PING="0.3", DSA110_TIMEOUT_WEBSOCKET_PONG="0.5"
    )
    with running(server_settings(config, AbsurdConfig(enabled=True, database_url=queue_database))) as port:
        ear = await sockets.open(port)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as dead:
            dead.sendall(
                b"GET /ws/absurd HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            dead.setblocking(False)
            received = b""
            while chunk := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(dead, 65536), 15):
                received += chunk  # it is talked to, answers nothing, and is left alone at last
            assert b"connected" in received
        await queue.client.spawn("small")
        await ear.next("task_update")
        await ear.connection.close()


async def test_a_socket_that_says_nothing_outlives_the_time_that_headers_have(
    tmp_path: Path, queue_database: str, sockets: Sockets
) -> None:
    config = settings(tmp_path, DSA110_PORT="0", DSA110_TIMEOUT_HEADERS="0.3")
    with running(server_settings(config, AbsurdConfig(enabled=True, database_url=queue_database))) as port:
        ear = await sockets.open(port)
        await asyncio.sleep(1.0)
        await ear.connection.send('{"type": "ping"}')
        assert (await ear.next("pong"))["type"] == "pong"
