"""A drain: tasks spawned beforehand, workers started on them, and what that took."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
from benchmarks.queue import contestants
from benchmarks.queue.fleet import Fleet
from benchmarks.queue.server import Server, now_s

START_LIMIT_S = 30.0
SMALL_BYTES = 120
LARGE_BYTES = 1500


def params(n_bytes: int = SMALL_BYTES) -> Mapping[str, Any]:
    """Return parameters whose JSON has so many bytes."""
    return {"path": "x" * (n_bytes - len(json.dumps({"path": ""})))}


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain took."""

    n_tasks: int  # completed within the window
    wall_s: float
    worker_cpu_s: float
    server_cpu_s: float

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.n_tasks / self.wall_s

    @property
    def cpu_us(self) -> float:
        """Processor time of workers and server a task, µs."""
        return 1e6 * (self.worker_cpu_s + self.server_cpu_s) / self.n_tasks


@dataclass(slots=True)
class Arena:
    """The server, and how large the measurements are."""

    server: Server
    names: list[str]
    rounds: int
    window_s: float
    scale: float

    def sized(self, n_tasks: int, at_least: int = 20) -> int:
        """Return a number of tasks for this size of run."""
        return max(at_least, int(n_tasks * self.scale))

    async def database(self, name: str) -> str:
        """Return the address of a fresh database of a contestant."""
        return await self.server.database(name, contestants.get(name).install)

    async def loaded(self, name: str, n_tasks: int, n_bytes: int = SMALL_BYTES) -> str:
        """Return the address of a fresh database with so many tasks."""
        url = await self.database(name)
        await self.load(name, url, n_tasks, n_bytes)
        return url

    async def load(self, name: str, url: str, n_tasks: int, n_bytes: int = SMALL_BYTES) -> None:
        """Spawn so many tasks in bulk."""
        await contestants.get(name).load(url, [params(n_bytes)] * n_tasks)

    async def drain(self, name: str, url: str, fleet: Fleet, n_tasks: int) -> Drained:
        """Let a running fleet work through the tasks, for the window at most."""
        if not await fleet.until(1, START_LIMIT_S):
            raise RuntimeError(f"no worker of {name} started a task within {START_LIMIT_S:g} s")
        cpu_s = fleet.cpu_s(), self.server.cpu_s()
        await fleet.until(n_tasks, self.window_s)
        left = await self.settle(name, url, self.window_s if fleet.count() >= n_tasks else 0.0)
        wall_s = now_s() - fleet.first_s()
        return Drained(n_tasks - left, wall_s, fleet.cpu_s() - cpu_s[0], self.server.cpu_s() - cpu_s[1])

    async def settle(self, name: str, url: str, limit_s: float) -> int:
        """Wait until no task is left, for so long at most; return how many are."""
        connection = await asyncpg.connect(url)
        try:
            deadline = now_s() + limit_s
            while True:
                left = int(await connection.fetchval(contestants.get(name).left))
                if not left or now_s() >= deadline:
                    return left
                await asyncio.sleep(0.01)
        finally:
            await connection.close()
