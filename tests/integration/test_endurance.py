"""A server that is asked many things for long holds as much as before, and nothing holds its event loop.

``SOAK_SECONDS=600 pytest -rP -m slow tests/integration/test_endurance.py`` asks for ten minutes.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect

from dsa110_contimg.up.servers import EmbeddedPostgres, free_port
from fixtures import watched_server
from fixtures.api_server import fill_queue, segments
from fixtures.api_world import World, build, settings
from fixtures.databases import new_database
from fixtures.live_api import add_keys

SECONDS = float(os.environ.get("SOAK_SECONDS", "12"))
A_SECOND = 50
LANES = 20
#: A run as long as the goal is judged by it, MiB in ten minutes; what is kept up to a bound is filled to it before.
LONG_S = 600.0
MOST_GROWTH_MIB = 1.0
TASKS = 5000  # with as many updates and entries of the record of changes: more than a process keeps, and SQLite's pages
HEADS = 300
#: After it everything has been asked for, and what is opened once is open.
WARM_SHARE = 0.4

READS = [
    "/images", "/images?limit=5&sort=-noise_jy", "/images/1", "/images/1/provenance", "/images/1/qa",
    "/images/1/versions",
    "/images/1/ratings", "/images/1/masks", "/images/1/fits", "/images/1/thumbnail", "/images/bulk-download?ids=1",
    "/images?cursor=nonsense", "/images/none", "/sources", "/sources?ra=188.5&dec=42&radius=1", "/sources/{source}",
    "/sources/{source}/lightcurve", "/sources/{source}/variability", "/sources/{source}/qa",
    "/sources/export?ids={source}",
    "/jobs", "/jobs/{run}", "/jobs/{run}/logs", "/jobs/{run}/provenance", "/jobs/export?ids={run}", "/jobs?limit=0",
    "/ms", "/ms/{ms}", "/ms/{ms}/metadata", "/ms/{ms}/calibrator-matches", "/ms/{ms}/download", "/cal", "/cal/1",
    "/qa/image/1", "/qa/ms/{ms}", "/qa/job/{run}", "/stats", "/health", "/health?detailed=true", "/health/ready",
    "/services/status", "/services/history", "/metrics", "/cache", "/queue", "/queue/jobs", "/batches", "/nothing",
    "/absurd/tasks", "/absurd/queues/stats", "/absurd/status", "/absurd/workers", "/absurd/metrics", "/absurd/health",
    "/absurd/workflows/{workflow}/dag", "/absurd/metrics/prometheus",
]  # fmt: skip
#: Each starts a process.
DEAR = ["/images/1/header", "/images/1/statistics", "/images/1/cutout?ra=188.5&dec=0&radius=0.01", "/ms/{ms}/antennas"]
WRITES: list[tuple[str, Any, str]] = [
    ("/images/1/rating", {"rating": 3}, "write:qa"),
    ("/absurd/tasks", {"task_name": "small"}, "write:jobs"),
    ("/images/1/rating", {"rating": 300}, "write:qa"),
    ("/absurd/tasks", {}, "nobody"),
]


class Crowd:
    """Those who ask, and what they hear."""

    def __init__(self, port: int, names: dict[str, str], keys: dict[str, str]) -> None:
        self.base = f"127.0.0.1:{port}/api/v1"
        self.names = names
        self.keys = keys
        self.http = httpx.AsyncClient(timeout=60.0, limits=httpx.Limits(max_connections=20))
        self.heard: Counter[int | str] = Counter()
        self.chance = random.Random(37)
        self.reads = itertools.cycle(READS)

    async def read(self) -> None:
        address = self.chance.choice(DEAR) if self.chance.random() < 0.003 else next(self.reads)
        reply = await self.http.get(f"http://{self.base}{address.format(**self.names)}")
        self.heard[reply.status_code] += 1

    async def write(self) -> None:
        path, body, scope = self.chance.choice(WRITES)
        key = {"X-API-Key": self.keys[scope]} if scope in self.keys else {}
        self.heard[(await self.http.post(f"http://{self.base}{path}", json=body, headers=key)).status_code] += 1

    async def ask_alone(self) -> None:
        async with httpx.AsyncClient(timeout=60.0) as http:
            await http.get(f"http://{self.base}{next(self.reads).format(**self.names)}")

    async def leave(self) -> None:
        """Ask and go away before there is a reply, with a connection that is lost by that."""
        asking = asyncio.create_task(self.ask_alone())
        await asyncio.sleep(self.chance.random() * 0.01)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking

    async def watch(self) -> None:
        async with connect(f"ws://{self.base}/ws/pipeline", proxy=None) as socket:
            await socket.send('{"type": "ping"}')
            while json.loads(await socket.recv())["type"] != "pong":
                pass

    async def fill(self) -> None:
        """Fill what the server keeps up to a bound."""
        turns = iter([*[self.spawn] * TASKS, *[self.watch] * HEADS])

        async def take_turns() -> None:
            for turn in turns:
                await turn()

        await asyncio.gather(*(take_turns() for _ in range(LANES)))

    async def spawn(self) -> None:
        headers = {"X-API-Key": self.keys["write:jobs"]}
        await self.http.post(f"http://{self.base}/absurd/tasks", json={"task_name": "small"}, headers=headers)

    async def ask(self, seconds: float) -> None:
        """Ask so many times a second, or as often as there are replies."""
        ends = time.monotonic() + seconds
        await asyncio.gather(*(self.lane(ends) for _ in range(LANES)))

    async def lane(self, ends: float) -> None:
        kinds = [self.read] * 40 + [self.write] * 4 + [self.leave] * 4 + [self.watch] * 2
        due = time.monotonic() + self.chance.random() * LANES / A_SECOND
        while due < ends:
            await asyncio.sleep(due - time.monotonic())
            asking = self.chance.choice(kinds)
            try:
                await asking()
            except (httpx.TransportError, OSError, TimeoutError) as error:  # a machine that is busy with other things
                self.heard[f"{asking.__qualname__}: {error!r}"] += 1
            due = max(due + LANES / A_SECOND, time.monotonic())


class Server:
    """The process that is asked."""

    def __init__(self, world: World, environ: dict[str, str], directory: Path) -> None:
        self.port = free_port()
        self.log = directory / "server.log"
        given = {**os.environ, **environ, "DSA110_PORT": str(self.port)}
        given |= {"DSA110_STATE_DIR": str(world.config.paths.state_dir), "DSA110_ENV": "testing"}
        given |= {"DSA110_RATE_LIMIT_DISABLED": "true", "DSA110_MAX_WEBSOCKETS_PER_ADDRESS": "1000"}
        given |= {"MALLOC_ARENA_MAX": "2"}  # as the unit of systemd does
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, watched_server.__file__], env=given, stdout=subprocess.PIPE, stderr=log
            )
        self.process = psutil.Process(self._child.pid)

    async def serves(self) -> None:
        async with httpx.AsyncClient() as http, asyncio.timeout(60):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"http://127.0.0.1:{self.port}/api/v1/health/ready")).status_code == 200:
                        return
                await asyncio.sleep(0.1)

    def holds(self) -> tuple[float, int, int]:
        """Return its memory (MiB), its descriptors and its threads."""
        info = self.process.memory_info()
        return info.rss / (1 << 20), self.process.num_fds(), self.process.num_threads()

    async def end(self) -> dict[str, Any]:
        self._child.send_signal(signal.SIGTERM)
        said, _ = await asyncio.to_thread(self._child.communicate, None, 30)
        told: dict[str, Any] = json.loads(said)
        return told

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()


@pytest.fixture
def queue_home(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Address of a database for the queue."""
    with new_database(postgres) as url:
        yield url


@pytest.fixture
async def asked(
    each_database: dict[str, str], queue_home: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[tuple[Server, Crowd]]:
    world = await build(settings(tmp_path / "state", **each_database))
    keys = await add_keys(world.config)
    queue = await fill_queue(queue_home)
    environ = {**each_database, "REDIS_URL": redis_url, "ABSURD_ENABLED": "true", "ABSURD_DATABASE_URL": queue_home}
    server = Server(world, environ, tmp_path)
    crowd = Crowd(server.port, segments(world, queue), keys)
    try:
        await server.serves()
        async with crowd.http:
            yield server, crowd
    finally:
        server.kill()


@pytest.mark.slow
async def test_a_server_that_is_asked_for_long_holds_no_more_than_before(asked: tuple[Server, Crowd]) -> None:
    server, crowd = asked
    seen: list[tuple[float, float]] = []

    async def look() -> None:
        while True:
            await asyncio.sleep(SECONDS / 100)
            seen.append((time.monotonic(), server.holds()[0]))

    if SECONDS >= LONG_S:
        await crowd.fill()
    await crowd.ask(SECONDS * WARM_SHARE)
    before = server.holds()
    looking = asyncio.create_task(look())
    await crowd.ask(SECONDS * (1 - WARM_SHARE))
    looking.cancel()
    after = server.holds()
    told = await server.end()
    print(f"{sum(crowd.heard.values())} replies {dict(crowd.heard)}; MiB, descriptors, threads {before} -> {after}")
    growth_mib = LONG_S * slope(seen)
    print(f"memory grew by {growth_mib:.2f} MiB in ten minutes; {told}")
    assert SECONDS < LONG_S or growth_mib < MOST_GROWTH_MIB
    assert {status for status in crowd.heard if isinstance(status, int) and status >= 500} == set()
    assert after[1] <= before[1] + 5, "descriptors"
    log = server.log.read_text()
    assert "never awaited" not in log and "never retrieved" not in log


def slope(points: list[tuple[float, float]]) -> float:
    """Return how fast something grows."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope
