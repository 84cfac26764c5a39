"""States of services around the API, their past, and the detailed health."""

import asyncio
import contextlib
import dataclasses
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsa110_contimg.api import schemas
from dsa110_contimg.api.async_repositories import AsyncServiceHistoryRepository
from dsa110_contimg.api.config import MONITORED, APIConfig, ConfigError
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.exceptions import DatabaseConnectionError
from dsa110_contimg.api.operation_records import ServiceState
from dsa110_contimg.api.services import service_views
from dsa110_contimg.api.services_monitor import ServicesMonitor
from fixtures.api_server import Served, serving
from fixtures.api_world import World, build, settings


class Past:
    """Remembers what it is told to keep."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, float, str]] = []

    async def keep(self, states: list[ServiceState], minute_at: float, oldest_at: float) -> None:
        self.kept += [(state.name, minute_at, state.status) for state in states]

    async def since(self, since_at: float) -> list[ServiceState]:
        return []


class Peer:
    """A server that says one thing to everybody and counts who came; with None it says nothing and waits."""

    def __init__(self, reply: bytes | None) -> None:
        self.reply = reply
        self.heard: list[bytes] = []
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.heard.append(await reader.readuntil(b"\r\n\r\n"))
            if self.reply is None:
                await asyncio.sleep(60)
            writer.write(self.reply or b"")
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Peer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/health?x=1"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def states_of(*addresses: str, limit_s: float = 0.5) -> list[tuple[str, str | None]]:
    targets = [(f"service {place}", address) for place, address in enumerate(addresses)]
    found = await ServicesMonitor(targets, {}, Past(), limit_s).states()
    return [(state.status, state.error) for state in found]


async def test_states_are_told_as_clients_know_them() -> None:
    ok, bad, moved = Peer(b"HTTP/1.1 204 No Content\r\n\r\n"), Peer(b"HTTP/1.1 503 Busy\r\n\r\n"), Peer(b"")
    target = Peer(b"HTTP/1.1 200 OK\r\n\r\n")
    async with ok.open(), bad.open(), moved.open(), target.open(), Peer(None).open() as silent:
        moved.reply = f"HTTP/1.1 302 Found\r\nLocation: {target.address}\r\n\r\n".encode()
        nobody = f"tcp://127.0.0.1:{free_port()}"
        addresses = (ok.address, bad.address, moved.address, silent.address, nobody, f"tcp://127.0.0.1:{ok.port}")
        assert await states_of(*addresses) == [
            ("running", None), ("degraded", "HTTP 503"), ("running", None), ("error", "Connection timeout"),
            ("stopped", "Connection refused"), ("running", None),
        ]  # fmt: skip
    assert target.heard == [], "no redirect is followed"
    assert ok.heard[0].startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_a_service_is_called_as_in_its_address_an_ipv6_one_in_brackets() -> None:
    async with Peer(b"HTTP/1.1 200 OK\r\n\r\n").open() as peer:
        assert await states_of(f"http://[::ffff:127.0.0.1]:{peer.port}/") == [("running", None)]
    assert peer.heard == [
        f"GET / HTTP/1.1\r\nHost: [::ffff:127.0.0.1]:{peer.port}\r\nConnection: close\r\n\r\n".encode()
    ]


@pytest.mark.parametrize("reply", [b"SSH-2.0-x\r\n", b"x" * 200_000, b"HTTP/1.1\r\n", b"\r\n", b"HTTP/1.1 abc\r\n"])
async def test_what_is_no_http_or_endless_is_degraded(reply: bytes) -> None:
    async with Peer(reply).open() as peer:
        assert await states_of(peer.address) == [("degraded", "the reply is no HTTP")]


async def test_many_who_ask_at_once_are_one_question_and_a_slow_service_delays_no_other() -> None:
    async with Peer(b"HTTP/1.1 200 OK\r\n\r\n").open() as quick, Peer(None).open() as slow, Peer(None).open() as more:
        targets = [("a", quick.address), ("b", slow.address), ("c", more.address)]
        monitor = ServicesMonitor(targets, {}, Past(), 0.3)
        began = time.monotonic()
        answers = await asyncio.gather(*(monitor.states() for _ in range(50)))
        assert time.monotonic() - began < 0.6, "the checks run at once"
        assert await monitor.states() is answers[0]
    assert [len(peer.heard) for peer in (quick, slow, more)] == [1, 1, 1]
    assert answers[0][0].response_ms < 250


def test_a_service_is_told_in_the_spelling_and_the_units_that_clients_know() -> None:
    state = ServiceState("Redis", 6379, "Cache", "error", 12.34, 1764547260.0, "Connection timeout", {"a": 1})
    assert service_views.of_services([state])["services"] == [
        {
            "name": "Redis", "port": 6379, "description": "Cache", "status": "error", "responseTime": 12.34,  # ms
            "lastChecked": "2025-12-01T00:01:00Z", "error": "Connection timeout", "details": {"a": 1},
        }
    ]  # fmt: skip


# --- over HTTP ----------------------------------------------------------------------------------------------------


@pytest.fixture
def world(each_database: dict[str, str], tmp_path: Path, redis_url: str) -> World:
    """A world of its own in each kind of database, with a Redis and three more services."""
    return asyncio.run(build(settings(tmp_path / "state", REDIS_URL=redis_url, **each_database)))


async def test_the_services_of_the_contract_are_told_with_their_ports(served: Served) -> None:
    told = schemas.ServicesStatus.model_validate(await served.json("/api/v1/services/status"))
    ports = {service.name: service.port for service in told.services}
    assert ports.items() >= {"Vite Dev Server": 3000, "Grafana": 3030, "FastAPI Backend": 8000}.items()
    assert (ports["MkDocs"], ports["Prometheus"]) == (8001, 9090)
    states = {service.name: service.status for service in told.services}
    assert (states["Redis"], states["FastAPI Backend"], states["Disk"]) == ("running", "running", "running")
    assert ("PostgreSQL" in states) == (served.app.state.services.monitor._known.get("postgresql") is not None)
    assert told.summary.total == told.summary.running + told.summary.stopped == len(told.services)
    own = await served.json("/api/v1/services/status/8000")
    assert schemas.ServiceStatus.model_validate(own).details["status"] == "healthy"  # type: ignore[index]
    for port in (1, 0):
        missing = await served.get(f"/api/services/status/{port}")
        assert (missing.status_code, missing.json()["error"]) == (404, "NOT_FOUND")
    assert (await served.get("/api/v1/services/status/x")).status_code == 422


async def test_the_past_of_a_day_is_kept_in_minutes_and_no_longer(served: Served, world: World) -> None:
    minute = time.time() // 60 * 60
    seen = ServiceState("Grafana", 3030, "", "running", 1.0, minute)
    down = dataclasses.replace(seen, status="stopped", error="Connection\0 refused")
    async with open_database(world.config.database, world.config.timeouts) as adapter:
        past = AsyncServiceHistoryRepository(adapter)
        await past.keep([seen], minute - 90000, 0.0)
        for back, state in ((300, seen), (240, seen), (240, seen), (180, down), (60, seen)):
            await past.keep([state], minute - back, minute - 86400)
        assert len(await past.since(0.0)) == 4, "each state once a minute, nothing older than a day"
    told = schemas.ServicesHistory.model_validate(await served.json("/api/v1/services/history?hours=1"))
    (grafana,) = told.services
    assert [span.status for span in grafana.spans] == ["running", "stopped", "running"]
    assert grafana.spans[1].error == "Connection refused"
    await served.json("/api/v1/services/status")
    now = schemas.ServicesHistory.model_validate(await served.json("/api/v1/services/history"))
    assert {service.name for service in now.services} >= {"Redis", "Disk", "FastAPI Backend"}


async def test_a_state_is_written_once_a_minute_however_often_it_is_seen() -> None:
    past = Past()
    monitor = ServicesMonitor([("a", "tcp://127.0.0.1:1")], {}, past, 0.5)
    for _ in range(3):
        await monitor._ask_all()
    assert len(past.kept) <= 2  # two, if a minute ended meanwhile


async def test_clients_are_told_the_last_name_of_a_database_and_no_address_with_its_user() -> None:
    url = "postgresql://someone:***@db.example/dsa110"

    async def away() -> None:
        raise DatabaseConnectionError(f"The products database {url} cannot be reached", url, "no answer in time")

    monitor = ServicesMonitor([("PostgreSQL", "postgresql:")], {"postgresql": (5432, away)}, Past())
    [state] = await monitor.states()
    assert (state.status, state.error) == ("error", "The products database dsa110 cannot be reached")


class Held(Past):
    """Somebody else holds it, for longer than anybody waits."""

    async def keep(self, states: list[ServiceState], minute_at: float, oldest_at: float) -> None:
        await asyncio.sleep(60)


async def test_states_that_cannot_be_kept_are_told_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    monitor = ServicesMonitor([("a", "tcp://127.0.0.1:1")], {}, Held(), 0.1)
    assert [state.status for state in await monitor.states()] == ["stopped"]
    assert "states of services are not kept: the database does not answer" in caplog.messages


async def test_detailed_health_names_every_part_and_is_503_only_without_products(served: Served) -> None:
    reply = await served.get("/api/v1/health?detailed=true")
    told = reply.json()
    assert reply.status_code == 200
    assert told["databases"] == {"products": "ok", "cal_registry": "ok", "hdf5": "ok", "ingest": "not_found"}
    assert told["redis"]["status"] == "ok"
    assert (told["status"], told["absurd"]["status"]) == ("healthy", "disabled")


async def test_detailed_health_without_database_or_redis_answers_and_says_what_is_wrong(tmp_path: Path) -> None:
    config = settings(tmp_path / "state", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", DSA110_ENV="testing")
    async with serving(config) as served:
        reply = await served.get("/api/v1/health?detailed=true")
        plain = await served.get("/api/v1/health")
    schemas.HealthReply.model_validate(reply.json())
    assert (reply.status_code, plain.status_code) == (503, 200)
    assert (reply.json()["status"], reply.json()["redis"]["status"]) == ("degraded", "unavailable")
    assert reply.json()["databases"]["products"].startswith("error: ")
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "text",
    [
        "x", "x=", "=http://a/", "x=file:///etc/passwd", "x=tcp://a", "x=http://u:p@a/", "x=gopher://a:1/", "x=rm:",
        "x=http://a:99999/", "x=tcp://a:no", "x=http://[a/",
    ],
)  # fmt: skip
def test_targets_that_cannot_be_asked_stop_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match=r"DSA110_MONITORED_SERVICES.* such as Grafana"):
        APIConfig.from_env({"DSA110_MONITORED_SERVICES": text})


def test_the_usual_targets_are_what_the_setting_would_read() -> None:
    assert APIConfig.from_env({"DSA110_MONITORED_SERVICES": ",".join(MONITORED)}).monitor.targets == MONITORED
