"""What a claim costs beside a million finished tasks, 100,000 that are not due and 100,000 that wait for a permit."""

import asyncpg
from benchmarks.queue.arena import Arena
from benchmarks.queue.contestants import ours
from benchmarks.queue.fleet import Fleet
from benchmarks.queue.report import Table, median

_FULL = 10_000
_HISTORY = """
with made as (
    insert into absurd.task (task_id, queue, name, params, rank, max_attempts, has_children, created_at, started_at,
                             finished_at, outcome, attempts, conc_key)
    select absurd.new_id(), $2, 'noop', '{"path": "/data/a.ms"}', 0, 4, false, now(), now(),
           case when $3 = 'completed' then now() end, case when $3 = 'completed' then $3 end, 1,
           case when $3 = 'parked' then 'k' || i % 100 end
    from generate_series(1, $1::integer) i returning task_id, conc_key),
future as (
    insert into absurd.later (run_at, task_id, attempt, crashes, why)
    select now() + interval '30 days', task_id, 0, 0, 'scheduled' from made where $3 = 'later')
insert into absurd.parked (queue, conc_key, rank, run_at, task_id, name, attempt, crashes)
select $2, conc_key, 0, now(), task_id, 'noop', 0, 0 from made where $3 = 'parked'
"""
_FULL_KEYS = (
    "insert into absurd.conc (queue, key, max_running, running) select $1, 'k' || i, 0, 0 from generate_series(0, 99) i"
)


async def measure(arena: Arena) -> Table:
    """Compare the server's time a task with and without them, in turns."""
    table = Table("Backlog", ["queue holds", "tasks/s", "server CPU µs/task", "of the empty queue"])
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(arena.rounds):
        for full, results in found.items():
            results.append(await _once(arena, full))
    base = median(cost for _, cost in found[False])
    words = {
        False: "nothing else",
        True: "1,000,000 finished, 100,000 future, 100,000 parked (times the size of this run)",
    }
    for full, results in found.items():
        cost = median(cost for _, cost in results)
        table.rows.append([words[full], median(rate for rate, _ in results), cost, cost / base if base else None])
    return table


async def _once(arena: Arena, full: bool) -> tuple[float, float]:
    n_tasks = arena.sized(_FULL, 100)
    url = await arena.database("ours")
    if full:
        connection = await asyncpg.connect(url)
        await connection.execute(_FULL_KEYS, ours.QUEUE)
        for state, count in (("completed", 1_000_000), ("later", 100_000), ("parked", 100_000)):
            await connection.execute(_HISTORY, arena.sized(count), ours.QUEUE, state)
        await connection.execute("analyze")
        await connection.close()
    await arena.load("ours", url, n_tasks)
    with Fleet("ours", url, 1, 10).running() as fleet:
        drained = await arena.drain("ours", url, fleet, n_tasks)
    return drained.rate, 1e6 * drained.server_cpu_s / drained.n_tasks
