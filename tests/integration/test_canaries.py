"""Secrets that are shown, misspelt or put where they do not belong: no line of a log, reply or record holds them."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.route_table import route_rows
from dsa110_contimg.up.servers import free_port
from fixtures.api_world import settings
from fixtures.migrated import migrate

SETTING = "Zeisig8d2e1fXw"  # in each secret of the settings
CANARY = "Kanarie4c1b7eZq"  # in what is shown and is none of them
FIXED = f"{SETTING}-fixed-0a9b8c7d6e5f4a3b2c1d"
WRONG = f"dsa110_0123456789ab.{CANARY}{'w' * (43 - len(CANARY))}"
TOKEN = f"eyJhbGciOiJFZERTQSJ9.{CANARY}bm90IGEgdG9rZW4.{CANARY}c2ln"
TICKET = f"ticket_{CANARY}{'t' * (43 - len(CANARY))}"
HEADERS: tuple[dict[str, str], ...] = (
    {"X-API-Key": FIXED},
    {"X-API-Key": WRONG},
    {"X-API-Key": f"mistyped {CANARY}"},
    {"Authorization": f"Bearer {TOKEN}"},
    {"Authorization": f"Basic {CANARY}"},
    {"Cookie": f"session={CANARY}"},
)
BODY = {"password": CANARY, "api_key": WRONG, "token": TOKEN}
SECRET = re.compile(f"{SETTING}|{CANARY}".encode())


@dataclass(frozen=True)
class Process:
    """A server that says as much as it can."""

    port: int
    state: Path
    said: Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    config = settings(tmp_path)
    migrate(config.database)
    port, said = free_port(), tmp_path / "said"
    environ = {
        "DSA110_STATE_DIR": str(tmp_path), "DSA110_PORT": str(port), "DSA110_LOG_LEVEL": "DEBUG",
        "DSA110_API_KEYS": FIXED, "DSA110_RATE_LIMIT_DISABLED": "true", "DSA110_DB_PG_PASSWORD": SETTING,
        "REDIS_URL": f"redis://:{SETTING}@127.0.0.1:{free_port()}/0", "ABSURD_ENABLED": "true",
        "ABSURD_DATABASE_URL": f"postgresql://queue:{SETTING}@127.0.0.1:{free_port()}/queue",
        "PYTHONASYNCIODEBUG": "1", "DSA110_MAX_IN_FLIGHT": "3",
    }  # fmt: skip
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dsa110_contimg.api"], env={**os.environ, **environ}, stdout=file, stderr=file
        )
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=10), timeout=60.0) as client:
                client.get(f"http://127.0.0.1:{port}/api/health/live", timeout=60)
            yield Process(port, tmp_path, said)
        finally:
            process.terminate()
            process.wait(60)


def handshake(address: str, headers: dict[str, str]) -> bytes:
    """Return what a handshake is answered with."""
    protocols: Any = ["dsa110", TICKET]
    try:
        with connect(address, proxy=None, additional_headers=headers, subprotocols=protocols) as opened:
            return opened.recv(10, decode=False)
    except InvalidStatus as refused:
        return refused.response.body or b""


def refused_at_once(port: int) -> list[bytes]:
    """Return replies to so many who ask at once that the connection refuses some."""
    said = "".join(f"{name}: {value}\r\n" for headers in HEADERS for name, value in headers.items())
    words = f"GET /api/v1/images?api_key={CANARY} HTTP/1.1\r\nHost: localhost\r\n{said}\r\n".encode()
    told: list[bytes] = []
    while not any(b"OVERLOADED" in reply for reply in told):
        with ExitStack() as stack:
            links = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 60)) for _ in range(60)]
            for link in links:
                link.sendall(words)
            told += [link.recv(1 << 16) for link in links]
    return told


@pytest.mark.slow
def test_no_secret_is_in_a_log_a_reply_a_figure_or_the_record_of_changes(server: Process, tmp_path: Path) -> None:
    told, opened = [], 0
    routes = route_rows(create_app(settings(tmp_path / "table"), AbsurdConfig(enabled=False)))
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
        for number, row in enumerate(routes):
            path = re.sub(r"\{[^}]+\}", "1", row.path)
            headers = HEADERS[number % len(HEADERS)]
            if row.method == "WebSocket":
                for headers in HEADERS:
                    told.append(handshake(f"ws://127.0.0.1:{server.port}{path}?token={CANARY}", headers))
                opened += 1
                continue
            asked = [{"params": {"api_key": CANARY}, "headers": headers}, *[{"headers": headers}] * 2]
            if row.method not in ("GET", "DELETE"):
                asked += [{"json": BODY, "headers": headers}, {"json": BODY, "headers": HEADERS[0]}]
            for one in asked:
                reply = client.request(row.method, path, **one)  # type: ignore[arg-type]
                told.append(reply.content + str(reply.headers).encode())
        told += refused_at_once(server.port)
        told.append(client.get("/metrics").content)
    assert opened == 3
    places = [path for path in server.state.rglob("*") if path.is_file()]
    assert server.said in places and server.state / "products.sqlite3" in places
    lines = [line for line in server.said.read_text(errors="replace").splitlines() if SECRET.search(line.encode())]
    assert [line[:300] for line in lines[:5]] == []
    assert [path.name for path in places if SECRET.search(path.read_bytes())] == []
    assert [body[:300] for body in told if SECRET.search(body)] == []
    assert b"a wrong API key was shown" in server.said.read_bytes()
    assert any(b"'x-cache': 'memory'" in reply for reply in told), "a kept reply was among them"
    assert any(b'"OVERLOADED"' in reply for reply in told), "and one of the connection itself"
