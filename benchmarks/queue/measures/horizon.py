"""A pinned horizon: another session holds an old snapshot, so no dead row can be removed while tasks pass."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from benchmarks.queue.arena import START_LIMIT_S, Arena
from benchmarks.queue.fleet import Fleet
from benchmarks.queue.report import Table, median

_FULL = 20_000
_CONCURRENCY = 10


async def measure(arena: Arena) -> Table:
    """Measure the server's time for the first and for the last tenth of the tasks."""
    table = Table(
        "Pinned horizon", ["queue", "snapshot held", "first tenth, µs/task", "last tenth, µs/task", "ratio"],
        note=f"{arena.sized(_FULL, 200):,} tasks, one worker with {_CONCURRENCY} slots; processor time of the server.",
    )  # fmt: skip
    for name in arena.names:
        for pinned in (False, True):
            runs = [await _once(arena, name, pinned) for _ in range(max(1, arena.rounds // 2))]
            first, last = median(run[0] for run in runs), median(run[1] for run in runs)
            table.rows.append([name, "yes" if pinned else "no", first, last, last / first if first else None])
    return table


async def _once(arena: Arena, name: str, pinned: bool) -> tuple[float, float]:
    n_tasks = arena.sized(_FULL, 200)
    url = await arena.loaded(name, n_tasks)
    async with _snapshot(url, pinned):
        with Fleet(name, url, 1, _CONCURRENCY).running() as fleet:
            await fleet.until(1, START_LIMIT_S)
            marks = []
            for tenth in range(1, 11):
                await fleet.until(tenth * n_tasks // 10, 20 * arena.window_s)
                marks.append((fleet.count(), arena.server.cpu_s()))
    return _cost_us(marks[0], marks[1]), _cost_us(marks[-2], marks[-1])


def _cost_us(start: tuple[int, float], end: tuple[int, float]) -> float:
    return 1e6 * (end[1] - start[1]) / max(1, end[0] - start[0])


@asynccontextmanager
async def _snapshot(url: str, wanted: bool) -> AsyncIterator[None]:
    if not wanted:
        yield
        return
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("select count(*) from pg_class")
            yield
    finally:
        await connection.close()
