"""Chains: five tasks that wait for each other, against the same number of tasks that wait for nothing."""

from benchmarks.queue.arena import Arena, Drained, params
from benchmarks.queue.contestants import ours
from benchmarks.queue.fleet import Fleet
from benchmarks.queue.report import Table, median

from dsa110_contimg.absurd import AbsurdClient, TaskSpec

_FULL = 4_000  # chains
_LENGTH = 5
_AT_ONCE = 200


async def measure(arena: Arena) -> Table:
    """Drain both in turns, with ten and with fifty slots."""
    table = Table("Chains of five", ["slots", "flat, tasks/s", "chains, tasks/s", "of flat"])
    for concurrency in (10, 50):
        runs: dict[int, list[Drained]] = {1: [], _LENGTH: []}
        for _ in range(arena.rounds):
            for length, found in runs.items():
                found.append(await _once(arena, concurrency, length))
        pairs = zip(runs[_LENGTH], runs[1], strict=True)
        flat, chained = (median(run.rate for run in found) for found in runs.values())
        table.rows.append([concurrency, flat, chained, median(a.rate / b.rate for a, b in pairs)])
    return table


async def _once(arena: Arena, concurrency: int, length: int) -> Drained:
    n_chains = arena.sized(_FULL, 20) * _LENGTH // length
    url = await arena.database("ours")
    async with AbsurdClient(ours.config(url)) as client:
        for start in range(0, n_chains, _AT_ONCE):
            specs: list[TaskSpec] = []
            for _ in range(min(_AT_ONCE, n_chains - start)):
                specs += _chain(length)
            await client.spawn_many(specs)
    with Fleet("ours", url, 1, concurrency).running() as fleet:
        return await arena.drain("ours", url, fleet, n_chains * length)


def _chain(length: int) -> list[TaskSpec]:
    chain = [TaskSpec("noop", params())]
    for _ in range(length - 1):
        chain.append(TaskSpec("noop", params(), depends_on=[chain[-1].task_id]))
    return chain
