"""What a flush costs, in pages looked at: the same, whatever else the queue holds and whoever holds an old snapshot."""

import json
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest

from dsa110_contimg.absurd.ids import new_id
from dsa110_contimg.absurd.specs import TaskSpec
from dsa110_contimg.up.servers import EmbeddedPostgres
from fixtures.queue_bench import QUEUE, Bench, open_bench
from fixtures.queue_database import database_with_queue


@pytest.fixture(scope="module")
def large_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database of our own: what a million tasks leave behind would slow the tests that come after."""
    with database_with_queue(postgres) as url:
        yield url


@pytest.fixture
async def queue(large_database: str) -> AsyncIterator[Bench]:
    async with open_bench(large_database) as bench:
        yield bench


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all nodes of a plan."""
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes_of(child))]


async def test_the_claim_is_one_index_scan_whatever_else_is_in_the_queue(queue: Bench) -> None:
    """The very statement of claim_ready, explained beside 10,000 finished, 10,000 later and 10,000 ready tasks."""
    await queue.connection.execute(
        """insert into absurd.task (task_id, queue, name, params, rank, max_attempts, has_children, created_at, outcome)
           select absurd.new_id(), $1, 'small', '{}', n % 5, 1, false, now(), case when n <= 10000 then 'completed' end
           from generate_series(1, 30000) n""",
        QUEUE,
    )
    await queue.connection.execute(
        """with open as (select *, row_number() over () as i from absurd.task where outcome is null),
           l as (insert into absurd.later
                  select now() + interval '1 day', task_id, 0, 0, 'retry' from open where i <= 10000)
           insert into absurd.ready select queue, rank, now(), task_id, name, 0, 0 from open where i > 10000"""
    )
    source = await queue.sql("select prosrc from pg_proc where oid = 'absurd.claim_ready'::regproc")
    select = source[source.index("select r.task_id") : source.index("for update skip locked") + 22]
    values = {
        "p_queue": f"'{QUEUE}'", "p_names": "array['small']", "p_limit": "10", "v_rank": "2",
        "v_at": "'-infinity'::timestamptz", "v_task": "null::uuid",
    }  # fmt: skip
    for name, value in values.items():
        select = select.replace(name, value)
    await queue.connection.execute(
        "set search_path = absurd; set enable_seqscan = off; set enable_bitmapscan = off"
    )  # as the function does
    [explained] = await queue.connection.fetch(f"explain (analyze, buffers, format json) {select}")
    await queue.connection.execute("reset all")
    nodes = nodes_of(json.loads(explained[0])[0]["Plan"])
    assert [node["Node Type"] for node in nodes] == ["Limit", "LockRows", "Index Scan"]
    assert nodes[-1]["Index Name"] == "ready_pkey"
    assert nodes[-1]["Shared Hit Blocks"] + nodes[-1]["Shared Read Blocks"] < 60
    config = await queue.sql("select proconfig from pg_proc where oid = 'absurd.claim_ready'::regproc")
    assert {"enable_seqscan=off", "enable_bitmapscan=off"} <= set(config)


async def fill(queue: Bench, finished: int, waiting: int) -> None:
    """Put in finished tasks, and as many for next week and parked as ``waiting``."""
    await queue.connection.execute(
        """with made as (
               insert into absurd.task (task_id, queue, name, params, rank, max_attempts, has_children, created_at,
                                        outcome, finished_at, attempts, conc_key)
               select absurd.new_id(), $1, 'small', '{"n": 1}', 0, 1, false, now(),
                      case when n <= $2 then 'completed' end, case when n <= $2 then now() end, 1,
                      case when n > $2 + $3 then 'dish' end
               from generate_series(1, $2 + 2 * $3) n returning task_id, outcome, conc_key),
           l as (insert into absurd.later
                 select now() + interval '7 days', task_id, 0, 0, 'scheduled' from made
                 where outcome is null and conc_key is null)
           insert into absurd.parked
           select $1, 'dish', -9, now(), task_id, 'small', 0, 0 from made where conc_key is not null""",
        QUEUE, finished, waiting,
    )  # fmt: skip
    await queue.connection.execute("insert into absurd.conc values ($1, 'dish', 1, 1)", QUEUE)


async def spawn(queue: Bench, count: int) -> None:
    """Spawn plain tasks."""
    for start in range(0, count, 1000):
        nodes = [{"task_id": str(new_id()), "queue": QUEUE, "name": "small"} for _ in range(min(1000, count - start))]
        await queue.sql("select count(*) from absurd.spawn_tasks($1)", nodes)


class Flushes:
    """A busy worker of ten slots in a session of its own."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._held: list[Any] = []

    async def run(self, count: int) -> int:
        """Complete and claim ten tasks so often; return how many were completed."""
        completed = 0
        for _ in range(count):
            rows = await self._session.fetch(f"select * from {self._call()}", *self._arguments())
            completed += sum(row["verdict"] == "completed" for row in rows)
            self._held = [row for row in rows if row["verdict"] == "claimed"]
        return completed

    async def pages(self) -> float:
        """Return how many pages a flush looks at: the median of ten, so that a plan made anew does not count."""
        seen = []
        for _ in range(10):
            explain = f"explain (analyze, buffers, format json) select * from {self._call()}"
            [answer] = await self._session.fetch(explain, *self._arguments())
            plan = json.loads(answer[0])[0]["Plan"]
            seen.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
            self._held = await self._session.fetch("select task_id, claim from absurd.lease where worker_id = 'w'")
            assert len(self._held) == 10
        return statistics.median(seen)

    def _call(self) -> str:
        return (
            f"absurd.flush('w', $1, $2, array_fill('1'::jsonb, array[cardinality($1::uuid[])]), array['{QUEUE}'], 10)"
        )

    def _arguments(self) -> tuple[list[UUID], list[int]]:
        return [row["task_id"] for row in self._held], [row["claim"] for row in self._held]


@pytest.mark.parametrize(
    ("finished", "waiting"), [(10_000, 2_000), pytest.param(1_000_000, 100_000, marks=pytest.mark.slow)]
)
async def test_finished_future_and_parked_tasks_make_a_flush_no_dearer(
    queue: Bench, finished: int, waiting: int
) -> None:
    await spawn(queue, 500)
    async with queue.session() as session:
        flushes = Flushes(session)
        await flushes.run(10)
        alone = await flushes.pages()
        await fill(queue, finished, waiting)
        await flushes.run(3)
        beside = await flushes.pages()
    # An index of a million has one level more than one of hundreds: that is all that may come on top.
    assert beside <= 1.2 * alone + 10 * 4
    await queue.connection.execute("delete from absurd.parked; delete from absurd.later; delete from absurd.conc")
    await queue.connection.execute("delete from absurd.task where outcome is null and conc_key is not null")
    await queue.connection.execute(
        "delete from absurd.task where outcome is null and finished_at is null and attempts = 1"
    )


@pytest.mark.parametrize("tasks", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_an_old_snapshot_that_somebody_holds_makes_a_flush_no_dearer(queue: Bench, tasks: int) -> None:
    """What has been claimed cannot be cleaned away then; the claim must not wade through it each time.

    Once a second it does, to find what has come before its place; that is left out here, since a second holds hundreds
    of flushes when a queue is busy, and this test counts ten (`benchmarks.queue` measures both together).
    """
    await spawn(queue, tasks + 400)
    async with queue.session() as holder, queue.session() as session:
        await holder.execute("begin isolation level repeatable read")
        await holder.fetchval("select count(*) from absurd.task")
        await session.execute("set absurd.rescan_s = 3600")
        flushes = Flushes(session)
        await flushes.run(5)
        before = await flushes.pages()
        assert await flushes.run(tasks // 10) == tasks
        after = await flushes.pages()
    assert after <= 1.3 * before


#: What autovacuum leaves behind, depending on when it comes by.
NEVER_SEEN: tuple[str, ...] = ()
SEEN_EMPTY = ("analyze absurd.task, absurd.lease, absurd.ready, absurd.blocked, absurd.edge",)
CLEANED_EMPTY = ("vacuum analyze absurd.task, absurd.lease, absurd.ready, absurd.blocked, absurd.edge",)


async def pretend_empty(queue: Bench, maintenance: tuple[str, ...]) -> None:
    """Leave the statistics that the tables have after tasks came and went; nobody listens to events."""
    await spawn(queue, 50)
    await queue.connection.execute("delete from absurd.ready; delete from absurd.task; delete from absurd.audience")
    for statement in maintenance:
        await queue.connection.execute(statement)


async def rows_read(session: Any) -> Counter[str]:
    """Return how many rows of each table this session has looked at, the months of ``task`` together.

    Some of what lies before the transaction is forgotten when that begins, and nothing within it.
    """
    read = await session.fetch(
        """select case when relname like 'task%' then 'task' else relname end as name,
                  sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::integer as rows
           from pg_stat_xact_all_tables where schemaname = 'absurd' group by 1"""
    )
    return Counter({row["name"]: row["rows"] for row in read if row["rows"]})


@pytest.mark.parametrize("maintenance", [NEVER_SEEN, SEEN_EMPTY, CLEANED_EMPTY])
async def test_a_flush_looks_at_its_own_tasks_only_whatever_the_statistics_say(
    queue: Bench, maintenance: tuple[str, ...]
) -> None:
    """Of 300 that wait and 20 of another worker: each of ten is read twice or thrice, no other at all."""
    await pretend_empty(queue, maintenance)
    await spawn(queue, 320)
    await queue.claim(20, "another")
    async with queue.session() as session:
        flushes = Flushes(session)
        await flushes.run(1)
        async with session.transaction():
            before = await rows_read(session)
            assert await flushes.run(2) == 20
            read = await rows_read(session) - before
    # Claimed: found in `ready`, deleted there, its parameters read; completed: taken out of `lease`, written in `task`.
    assert read == {"ready": 2 * 20, "lease": 20, "task": 2 * 20}


@pytest.mark.parametrize("maintenance", [NEVER_SEEN, SEEN_EMPTY, CLEANED_EMPTY])
async def test_the_end_of_a_parent_looks_at_its_own_children_only_whatever_the_statistics_say(
    queue: Bench, maintenance: tuple[str, ...]
) -> None:
    await pretend_empty(queue, maintenance)
    parents = [TaskSpec("small") for _ in range(100)]
    await queue.client.spawn_many([*parents, *(TaskSpec("small", depends_on=[parent.task_id]) for parent in parents)])
    [claimed] = await queue.claim()
    async with queue.session() as session, session.transaction():
        assert await session.fetchval("select absurd.complete_task($1, $2, null)", claimed["task_id"], claimed["claim"])
        read = await rows_read(session)
    assert all(count < 20 for count in read.values()), read
