"""What live views cost: events are written while somebody listens, and not otherwise."""

import asyncpg
from benchmarks.queue.arena import Arena, Drained
from benchmarks.queue.fleet import Fleet
from benchmarks.queue.report import Table, median

_FULL = 20_000


async def measure(arena: Arena) -> Table:
    """Drain with and without a listener, in turns, with ten and with fifty slots."""
    table = Table("Events", ["slots", "listener", "tasks/s", "server CPU µs/task"])
    for concurrency in (10, 50):
        found: dict[bool, list[Drained]] = {False: [], True: []}
        for _ in range(arena.rounds):
            for heard, runs in found.items():
                runs.append(await _once(arena, concurrency, heard))
        for heard, runs in found.items():
            cost_us = median(1e6 * run.server_cpu_s / run.n_tasks for run in runs)
            table.rows.append([concurrency, "yes" if heard else "no", median(run.rate for run in runs), cost_us])
    return table


async def _once(arena: Arena, concurrency: int, heard: bool) -> Drained:
    n_tasks = arena.sized(_FULL, 100)
    url = await arena.loaded("ours", n_tasks)
    if heard:
        connection = await asyncpg.connect(url)
        await connection.execute("select absurd.listen(3600)")
        await connection.close()
    with Fleet("ours", url, 1, concurrency).running() as fleet:
        return await arena.drain("ours", url, fleet, n_tasks)
