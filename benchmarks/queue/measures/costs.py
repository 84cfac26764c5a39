"""What a task costs the server: statements, commits, bytes of write-ahead log; for small and large parameters."""

import asyncio

from benchmarks.queue.arena import LARGE_BYTES, SMALL_BYTES, Arena
from benchmarks.queue.fleet import Fleet
from benchmarks.queue.report import Table

_FULL = 10_000
_CONCURRENCY = 10


async def measure(arena: Arena) -> Table:
    """Count what one worker with ten slots needs."""
    table = Table(
        "Cost of a task", ["queue", "params, B", "WAL spawn, B", "WAL run, B", "statements", "commits"],
        note="One worker, 10 slots; spawned in bulk. The write-ahead log holds no full-page images.",
    )  # fmt: skip
    for n_bytes in (SMALL_BYTES, LARGE_BYTES):
        for name in arena.names:
            table.rows.append(await _count(arena, name, n_bytes))
    return table


async def _count(arena: Arena, name: str, n_bytes: int) -> list[object]:
    server, n_tasks = arena.server, arena.sized(_FULL, 100)
    url = await arena.database(name)
    before = await server.wal_bytes()
    await arena.load(name, url, n_tasks, n_bytes)
    spawned = await server.wal_bytes()
    commits = await server.commits(url)
    await server.log_statements(url)
    with Fleet(name, url, 1, _CONCURRENCY).running() as fleet:
        await fleet.until(1, 30.0)
        await fleet.until(n_tasks, 20 * arena.window_s)
        await asyncio.sleep(1.0)  # what is recorded late
        done = fleet.count()
        ran = await server.wal_bytes()
    await asyncio.sleep(0.5)  # sessions tell their statistics when they end
    return [
        name, n_bytes, (spawned - before) / n_tasks, (ran - spawned) / done, server.statements(url) / done,
        (await server.commits(url) - commits) / done,
    ]  # fmt: skip
