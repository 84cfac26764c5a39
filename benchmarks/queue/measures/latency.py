"""Idle latency: from the call that spawns a task to the start of its handler, on a queue with nothing else to do."""

import asyncio
import random

import asyncpg
from benchmarks.queue import contestants
from benchmarks.queue.arena import START_LIMIT_S, Arena
from benchmarks.queue.fleet import Fleet
from benchmarks.queue.report import Table, median, quantile
from benchmarks.queue.server import now_s

_FULL = 100  # tasks a round
_DEAF = "create or replace function absurd.wake(p_queues text[]) returns void language sql as $$ select $$"


async def measure(arena: Arena) -> Table:
    """Measure every contestant; ours also with every notification lost."""
    found: dict[str, list[float]] = {name: [] for name in arena.names}
    for _ in range(arena.rounds):
        for name in arena.names:
            found[name] += await _once(arena, name, arena.sized(_FULL, 5))
    if "ours" in arena.names:
        found["ours, every NOTIFY lost"] = await _once(arena, "ours", arena.sized(_FULL, 3), deaf=True)
    floor = found.get("raw")
    table = Table(
        "Idle latency", ["queue", "p50, ms", "p99, ms", "longest, ms", "p50 of raw", "p99 of raw"],
        note="From the call of spawn to the handler, one worker with 10 slots. Raw is the floor: LISTEN and one claim.",
    )  # fmt: skip
    for name, all_s in found.items():
        p50, p99 = median(all_s), quantile(all_s, 0.99)
        ratios = [p50 / median(floor), p99 / quantile(floor, 0.99)] if floor else [None, None]
        table.rows.append([name, 1e3 * p50, 1e3 * p99, 1e3 * max(all_s), *ratios])
    return table


async def _once(arena: Arena, name: str, n_tasks: int, deaf: bool = False) -> list[float]:
    url = await arena.database(name)
    chance = random.Random(n_tasks)
    contestant = contestants.get(name)
    with Fleet(name, url, 1, 10, n_tasks).running() as fleet:
        async with contestant.spawner(url) as spawn:
            await spawn({"warm": True})
            await fleet.until(1, START_LIMIT_S)
            if deaf:
                await _deafen(url)
            for number in range(n_tasks):
                await asyncio.sleep(chance.uniform(0.03, 0.12))
                await spawn({"number": number, "spawned_s": now_s()})
                await fleet.until(number + 2, 10.0)
    return [latency_s for latency_s in fleet.latencies_s if latency_s]


async def _deafen(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(_DEAF)
    await connection.close()
