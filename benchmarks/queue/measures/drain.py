"""Tasks a second: a queue full of tasks that do nothing, drained by one or two worker processes."""

from collections import defaultdict

from benchmarks.queue.arena import Arena, Drained
from benchmarks.queue.fleet import Fleet
from benchmarks.queue.report import Table, median

#: (concurrency, processes) → tasks in a full run.
SHAPES = {(1, 1): 3_000, (10, 1): 30_000, (50, 1): 40_000, (10, 2): 40_000, (50, 2): 50_000}

#: What a sync of the machine took on which the targets were set.
_SLOW_US = 3_400


async def once(arena: Arena, name: str, shape: tuple[int, int], n_tasks: int) -> Drained:
    """Drain a fresh queue."""
    concurrency, processes = shape
    url = await arena.loaded(name, n_tasks)
    with Fleet(name, url, processes, concurrency).running() as fleet:
        return await arena.drain(name, url, fleet, n_tasks)


async def measure(arena: Arena) -> Table:
    """Measure every contestant in every shape, on this disk."""
    async with arena.server.slow_commits(0) as commit_ms:
        return await _measure(arena, f"Drain, {commit_ms:.2f} ms a commit")


async def measure_slow_commits(arena: Arena) -> Table:
    """Measure the same on a disk that syncs in milliseconds."""
    async with arena.server.slow_commits(_SLOW_US) as commit_ms:
        return await _measure(arena, f"Drain, {commit_ms:.2f} ms a commit")


async def _measure(arena: Arena, title: str) -> Table:
    """Measure every contestant in every shape, in turns."""
    table = Table(
        title, ["slots × processes", "queue", "tasks/s", "of raw", "of pgqueuer", "CPU µs/task", "worker", "server"],
        note="Medians; ratios are medians of the ratios within a round. CPU: worker and server together.",
    )  # fmt: skip
    shapes = list(SHAPES.items())[:: 4 if arena.scale < 0.01 else 1]  # a tiny run takes the first and the last
    for shape, full in shapes:
        runs: dict[str, list[Drained]] = defaultdict(list)
        for _ in range(arena.rounds):
            for name in arena.names:
                runs[name].append(await once(arena, name, shape, arena.sized(full, 100)))
        for name, found in runs.items():
            table.rows.append([
                f"{shape[0]} × {shape[1]}", name, median(run.rate for run in found),
                ratio(found, runs.get("raw")), ratio(found, runs.get("pgqueuer")), median(run.cpu_us for run in found),
                median(1e6 * run.worker_cpu_s / run.n_tasks for run in found),
                median(1e6 * run.server_cpu_s / run.n_tasks for run in found),
            ])  # fmt: skip
    return table


def ratio(found: list[Drained], others: list[Drained] | None) -> float | None:
    """Return the median of the rates' ratios, round by round."""
    return median(a.rate / b.rate for a, b in zip(found, others, strict=True)) if others else None
