"""Concurrency keys: their limit holds, and tasks without a key do not pay for them."""

import asyncio

import asyncpg
from benchmarks.queue.arena import START_LIMIT_S, Arena, params
from benchmarks.queue.contestants import ours
from benchmarks.queue.fleet import Fleet
from benchmarks.queue.report import Table, median
from benchmarks.queue.server import now_s

from dsa110_contimg.absurd import AbsurdClient, TaskSpec

_FULL = 10_000
_LIMIT = 3


async def measure(arena: Arena) -> Table:
    """Drain tasks without keys, with and without parked ones beside them; then tasks of one key by two workers."""
    table = Table("Concurrency keys", ["what", "tasks/s", "of plain", "most at once"])
    plain, beside = [], []
    for _ in range(arena.rounds):
        plain.append(await _unkeyed(arena, parked=False))
        beside.append(await _unkeyed(arena, parked=True))
    ratio = median(b / a for a, b in zip(plain, beside, strict=True))
    table.rows.append(["no keys", median(plain), 1.0, None])
    table.rows.append(["no keys, beside 1,000 tasks parked at a key", median(beside), ratio, None])
    rate, most = await _keyed(arena)
    table.rows.append([f"one key with limit {_LIMIT}, 2 workers", rate, rate / median(plain), most])
    return table


async def _spawn_keyed(url: str, n_tasks: int, limit: int) -> None:
    async with AbsurdClient(ours.config(url)) as client:
        await client.set_concurrency(ours.QUEUE, "key", limit)
        await client.spawn_many([TaskSpec("noop", params(), concurrency_key="key") for _ in range(n_tasks)])


async def _unkeyed(arena: Arena, parked: bool) -> float:
    n_tasks = arena.sized(_FULL, 100)
    url = await arena.database("ours")
    if parked:
        await _spawn_keyed(url, 1_000, 0)
    await arena.load("ours", url, n_tasks)
    with Fleet("ours", url, 1, 10).running() as fleet:
        return (await arena.drain("ours", url, fleet, n_tasks)).rate


async def _keyed(arena: Arena) -> tuple[float, int]:
    n_tasks = arena.sized(_FULL, 50)
    url = await arena.database("ours")
    await _spawn_keyed(url, n_tasks, _LIMIT)
    connection = await asyncpg.connect(url)
    most = 0
    with Fleet("ours", url, 2, 10).running() as fleet:
        await fleet.until(1, START_LIMIT_S)
        deadline = now_s() + 5 * arena.window_s
        while fleet.count() < n_tasks and now_s() < deadline:
            most = max(most, await connection.fetchval("select count(*) from absurd.lease where conc_key = 'key'"))
            await asyncio.sleep(0.01)
        rate = fleet.count() / (now_s() - fleet.first_s())
    await connection.close()
    return rate, most
