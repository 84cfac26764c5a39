"""The proxy: what it lets through, what it loses, and when it cuts."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from dsa110_contimg.chaos.proxy import ChaosProxy, Frames
from dsa110_contimg.chaos.server import Ground


@pytest.fixture
async def proxied(postgres_database: str) -> AsyncIterator[tuple[ChaosProxy, str, str]]:
    """A proxy before an empty database, the address through it and the one past it."""
    parts = urlsplit(postgres_database)
    proxy = ChaosProxy(parts.hostname or "", parts.port or 0, random.Random(1))
    through = Ground(postgres_database, None).through(await proxy.start())
    yield proxy, f"{through}?sslmode=disable", postgres_database
    await proxy.stop()


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        connection.terminate()


def test_messages_are_put_together_however_the_stream_is_cut() -> None:
    stream = b"A" + (9).to_bytes(4, "big") + b"hello" + b"Z" + (5).to_bytes(4, "big") + b"I"
    for size in range(1, len(stream) + 1):
        frames, found = Frames(), []
        for start in range(0, len(stream), size):
            found += frames.feed(stream[start : start + size])
        assert found == [stream[:10], stream[10:]]


async def test_what_is_not_disturbed_passes(proxied: tuple[ChaosProxy, str, str]) -> None:
    _, url, _ = proxied
    async with connected(url) as connection:
        assert await connection.fetchval("select repeat('x', 300000)") == "x" * 300_000


@pytest.mark.parametrize(("cut", "rows"), [("before", 0), ("after", 1)])
async def test_a_cut_hides_the_commit_from_the_client_and_the_server_knows(
    proxied: tuple[ChaosProxy, str, str], cut: str, rows: int
) -> None:
    proxy, url, past = proxied
    async with connected(past) as other, connected(url) as connection:
        await other.execute("create table t (x int)")
        await connection.fetch("select 1")
        proxy.arm(cut)  # type: ignore[arg-type]
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
            await connection.execute("insert into t values (1)")
        assert await other.fetchval("select count(*) from t") == rows


async def test_notifications_are_lost_only_while_they_are_to_be_lost(proxied: tuple[ChaosProxy, str, str]) -> None:
    proxy, url, past = proxied
    heard: list[object] = []
    async with connected(past) as other, connected(url) as connection:
        await connection.add_listener("news", lambda *words: heard.append(words[-1]))
        for word, lost in (("a", False), ("b", True), ("c", False)):
            proxy.drop_notifications = lost
            await other.execute(f"notify news, '{word}'")
            await connection.fetchval("select 1")  # whatever was sent before this answer has arrived with it
            await asyncio.sleep(0.05)
    assert heard == ["a", "c"]
    assert proxy.dropped == 1


async def test_all_connections_can_be_cut_at_once(proxied: tuple[ChaosProxy, str, str]) -> None:
    proxy, url, _ = proxied
    async with connected(url) as one, connected(url) as two:
        assert proxy.cut_all() == 2
        for connection in (one, two):
            with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
                await connection.fetch("select 1")
