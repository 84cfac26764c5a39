"""Spawning: many tasks, many with idempotency keys, and a graph of 1,000 tasks with 3,000 dependencies."""

import random
import time
from uuid import uuid4

from benchmarks.queue.arena import Arena, params
from benchmarks.queue.contestants import ours
from benchmarks.queue.report import Table, median

from dsa110_contimg.absurd import AbsurdClient, TaskSpec

_FULL = 50_000
_CHUNK = 5_000


async def measure(arena: Arena) -> Table:
    """Measure every contestant's bulk call; ours also with keys and with dependencies."""
    table = Table("Spawning", ["what", "tasks/s", "ms a call", "statements a call"])
    n_tasks = arena.sized(_FULL, 200)
    rates: dict[str, list[float]] = {name: [] for name in arena.names}
    for _ in range(arena.rounds):
        for name in arena.names:
            url = await arena.database(name)
            started = time.perf_counter()
            await arena.load(name, url, n_tasks)
            rates[name].append(n_tasks / (time.perf_counter() - started))
    table.rows = [[f"{name}, in bulk", median(found), None, None] for name, found in rates.items()]
    if "ours" in arena.names:
        table.rows.append(
            ["ours, with idempotency keys", median([await _keyed(arena) for _ in range(arena.rounds)]), None, None]
        )
        table.rows.append(await _graphs(arena, min(1000, arena.sized(10_000, 20)), 3))
    return table


async def _keyed(arena: Arena) -> float:
    n_tasks = arena.sized(_FULL, 200)
    url = await arena.database("ours")
    async with AbsurdClient(ours.config(url)) as client:
        started = time.perf_counter()
        for _ in range(0, n_tasks, _CHUNK):
            specs = [TaskSpec("noop", params(), idempotency_key=str(uuid4())) for _ in range(min(_CHUNK, n_tasks))]
            await client.spawn_many(specs)
        return n_tasks / (time.perf_counter() - started)


async def _graphs(arena: Arena, n_nodes: int, n_parents: int) -> list[object]:
    """Spawn graphs in which each task depends on up to ``n_parents`` earlier ones."""
    url = await arena.database("ours")
    await arena.server.log_statements(url)
    chance, took_ms = random.Random(1), []
    async with AbsurdClient(ours.config(url)) as client:
        await client.spawn("noop", {})  # opens the connection
        before = arena.server.statements(url)
        for _ in range(arena.rounds):
            nodes: list[TaskSpec] = []
            for _ in range(n_nodes):
                parents = chance.sample(nodes, min(n_parents, len(nodes)))
                nodes.append(TaskSpec("noop", params(), depends_on=[parent.task_id for parent in parents]))
            started = time.perf_counter()
            await client.spawn_graph("graph", nodes)
            took_ms.append(1e3 * (time.perf_counter() - started))
        statements = (arena.server.statements(url) - before) / arena.rounds
    n_edges = sum(len(node.depends_on) for node in nodes)
    words = f"ours, graph of {n_nodes} tasks, {n_edges} dependencies"
    return [words, 1e3 * n_nodes / median(took_ms), median(took_ms), statements]
