"""How long a task stays alone when the worker that runs it is killed: until another worker has started it again."""

import asyncio

from benchmarks.queue import contestants
from benchmarks.queue.arena import START_LIMIT_S, Arena
from benchmarks.queue.fleet import Fleet
from benchmarks.queue.report import Table, median
from benchmarks.queue.server import now_s

_LIMIT_IN_WINDOWS = 15


async def measure(arena: Arena) -> Table:
    """Kill with -9, all contestants at the same time (they only wait); ours several times."""
    limit_s = _LIMIT_IN_WINDOWS * arena.window_s
    table = Table(
        "Recovery after kill -9", ["queue", "median, s", "longest, s"],
        note=f"Two workers with the settings by default, one of them killed; waited for {limit_s:g} s at most. "
        "The hand-written loop has no recovery.",
    )  # fmt: skip
    peers = [name for name in arena.names if name not in ("ours", "raw")]
    if "ours" in arena.names:
        for words, with_children in (("ours", False), ("ours, its beating process killed too", True)):
            took = [await _once(arena, "ours", limit_s, with_children) or limit_s for _ in range(arena.rounds)]
            table.rows.append([words, median(took), max(took)])
    for name, took_s in zip(peers, await asyncio.gather(*(_once(arena, name, limit_s) for name in peers)), strict=True):
        table.rows.append([name, f"> {limit_s:g}" if took_s is None else took_s, None])
    return table


async def _once(arena: Arena, name: str, limit_s: float, with_children: bool = False) -> float | None:
    url = await arena.database(name)
    with Fleet(name, url, 2, 2).running() as fleet:
        async with contestants.get(name).spawner(url) as spawn:
            await spawn({"warm": True})
            await fleet.until(1, START_LIMIT_S)
            await asyncio.sleep(2.0)  # both workers are there
            before = fleet.counts()
            await spawn({"hold": True})
            await fleet.until(2, START_LIMIT_S)
        holder = next(i for i, (now, then) in enumerate(zip(fleet.counts(), before, strict=True)) if now > then)
        fleet.kill(holder, with_children)
        killed_s = now_s()
        return fleet.last_s() - killed_s if await fleet.until(3, limit_s) else None
