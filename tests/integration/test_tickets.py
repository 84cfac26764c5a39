"""Reading that needs a key, and tickets with which a page opens a WebSocket; a key that is taken back meanwhile."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from dsa110_contimg.api.app import server_settings
from dsa110_contimg.api.async_repositories import AsyncCredentialRepository
from dsa110_contimg.api.config import APIConfig, AuthConfig, DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.credentials import TICKET_LIFE_S, Principal, create_key
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.exceptions import AuthenticationError
from dsa110_contimg.api.services.access_service import AccessService
from dsa110_contimg.api.ticket_repository import AsyncTicketRepository
from fixtures.api_world import QUEUE_OFF, RUN_ID, build, settings
from fixtures.live_api import add_keys, running

SOCKET = f"/api/v1/ws/jobs/{RUN_ID}"


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1e9

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True)
class Office:
    """Where keys are known and tickets given."""

    access: AccessService
    credentials: AsyncCredentialRepository
    clock: Clock

    async def holder(self, life_s: float | None = None) -> Principal:
        text, record = create_key("page", ["read"], self.clock.now_s, life_s)
        await self.credentials.add_key(record)
        return await self.access.authenticate(text)


@pytest.fixture
async def office(empty_products: DatabaseConfig) -> AsyncIterator[Office]:
    """The service over each kind of database."""
    async with open_database(empty_products, TimeoutConfig()) as adapter:
        clock, credentials = Clock(), AsyncCredentialRepository(adapter)
        access = AccessService(credentials, AuthConfig(), AsyncTicketRepository(adapter), clock)
        yield Office(access, credentials, clock)


async def test_a_ticket_stands_for_its_key_once_and_for_a_short_time(office: Office) -> None:
    holder = await office.holder()
    ticket, ends_s = await office.access.issue_ticket(holder)
    assert ends_s == office.clock.now_s + TICKET_LIFE_S
    found = await asyncio.gather(*(office.access.redeem(ticket) for _ in range(8)), return_exceptions=True)
    assert [one for one in found if not isinstance(one, BaseException)] == [holder]
    assert all(one == holder or isinstance(one, AuthenticationError) for one in found)
    late, _ = await office.access.issue_ticket(holder)
    office.clock.now_s += TICKET_LIFE_S
    with pytest.raises(AuthenticationError):
        await office.access.redeem(late)
    for nothing in ("", "ticket_", "ticket_" + "x" * 43):
        with pytest.raises(AuthenticationError):
            await office.access.redeem(nothing)


async def test_neither_a_ticket_nor_an_open_socket_outlives_what_was_shown_for_it(office: Office) -> None:
    for holder, end in (
        (await office.holder(life_s=10.0), "has expired"),
        (await office.holder(), "is revoked"),
        (Principal("token of me", "token me", frozenset({"read"}), office.clock.now_s + 25.0), "has expired"),
        (Principal("page", "0" * 12, frozenset({"read"})), "is not known"),
    ):
        ticket, _ = await office.access.issue_ticket(holder)
        if end != "is not known":
            await office.access.recheck(holder)
        if end == "is revoked":
            await office.credentials.revoke_key(holder.key_id or "", office.clock.now_s)
        office.clock.now_s += 10.0
        for refused in (office.access.recheck(holder), office.access.redeem(ticket)):
            with pytest.raises(AuthenticationError, match=end):
                await refused
    fixed = Principal("key of the settings", "fixed-12345678", frozenset({"read"}))
    await office.access.recheck(fixed)
    assert await office.access.redeem((await office.access.issue_ticket(fixed))[0]) == fixed


# --- over a line ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A running API that lets nobody read without a key."""

    config: APIConfig
    port: int
    keys: dict[str, str]

    def ask(self, method: str, path: str, scope: str | None = None) -> httpx.Response:
        headers = {"X-API-Key": self.keys[scope]} if scope else {}
        return httpx.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=60.0)

    async def socket(self, *protocols: str, **headers: str) -> tuple[int, str | None]:
        """Return the status of a handshake, and the protocol that was chosen."""
        told: Any = {"subprotocols": list(protocols)} if protocols else {}
        try:
            async with connect(
                f"ws://127.0.0.1:{self.port}{SOCKET}", proxy=None, additional_headers=headers, **told
            ) as opened:
                assert "connected" in str(await opened.recv())
                return 101, opened.subprotocol
        except InvalidStatus as refused:
            return refused.response.status_code, None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = settings(tmp_path_factory.mktemp("tickets"), DSA110_PORT="0", DSA110_READ_NEEDS_KEY="true")
    asyncio.run(build(config))
    keys = asyncio.run(add_keys(config))
    with running(server_settings(config, QUEUE_OFF)) as port:
        yield Server(config, port, keys)


@pytest.mark.parametrize("path", ["/api/v1/images", "/api/images/1/fits", "/absurd/health", "/api/v1/nothing", "/ws"])
def test_nobody_reads_without_a_key_where_that_is_asked(server: Server, path: str) -> None:
    refused = server.ask("GET", path)
    assert (refused.status_code, refused.json()["error"]) == (401, "UNAUTHORIZED")
    assert "ApiKey" in refused.headers["www-authenticate"]
    assert server.ask("HEAD", path).status_code == 401
    assert server.ask("GET", path, "write:jobs").status_code == 403
    assert server.ask("GET", path, "read").status_code in (200, 404, 503)


def test_pages_health_and_metrics_stay_open(server: Server) -> None:
    for path in ("/", "/web/app.js", "/api/docs", "/api/openapi.json", "/api/v1/health", "/metrics"):
        assert server.ask("GET", path).status_code == 200, path
    assert server.ask("POST", "/api/v1/cache/clear", "ops").status_code != 403, "a change needs its own scope only"


def test_without_the_setting_everybody_of_an_allowed_network_reads(server: Server, tmp_path: Path) -> None:
    assert not settings(tmp_path).auth.read_needs_key


async def test_a_page_opens_a_websocket_with_a_ticket_once(server: Server) -> None:
    assert server.ask("POST", "/api/v1/ws/tickets").status_code == 401
    assert server.ask("POST", "/api/v1/ws/tickets", "ops").status_code == 403
    assert await server.socket() == (401, None)
    assert await server.socket("dsa110", "ticket_" + "x" * 43) == (401, None)
    assert await server.socket(**{"X-API-Key": server.keys["read"]}) == (101, None)
    assert await server.socket(**{"X-API-Key": server.keys["ops"]}) == (403, None)
    told = server.ask("POST", "/api/v1/ws/tickets", "read").json()
    assert told["expires_at"].endswith("Z")
    assert await server.socket(told["protocol"], told["ticket"]) == (101, "dsa110")
    assert await server.socket(told["protocol"], told["ticket"]) == (401, None), "used"


async def test_a_refused_websocket_is_no_error_of_the_server(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    assert await server.socket() == (401, None)
    assert server.ask("GET", "/api/v1/health").status_code == 200  # the server has come to the end of the refusal
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == []


async def test_a_ticket_of_a_key_that_was_taken_back_opens_nothing(server: Server) -> None:
    text, record = create_key("page", ["read"], time.time(), None)
    async with open_database(server.config.database, server.config.timeouts) as adapter:
        credentials = AsyncCredentialRepository(adapter)
        await credentials.add_key(record)
        server.keys["taken back"] = text
        ticket = server.ask("POST", "/api/v1/ws/tickets", "taken back").json()["ticket"]
        await credentials.revoke_key(record.id, time.time())
    assert await server.socket("dsa110", ticket) == (401, None)
