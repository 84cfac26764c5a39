"""Roles: each may do what it is there for, and nothing else; PUBLIC may do nothing."""

import asyncio
import importlib
import pkgutil
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from dsa110_contimg.absurd import setup, statements
from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import Database, open_connection
from dsa110_contimg.absurd.dead_letters import DeadLetters
from dsa110_contimg.absurd.schedules import Schedules
from dsa110_contimg.absurd.scheduling import TaskScheduler
from dsa110_contimg.absurd.templates import Step, Templates
from dsa110_contimg.up.servers import EmbeddedPostgres
from fixtures.databases import new_database
from fixtures.queue_bench import EMPTY, QUEUE, Bench

ROLES = ("absurd_owner", "absurd_api", "absurd_worker", "absurd_reader")
READER, API, WORKER = "absurd_reader", "absurd_api", "absurd_worker"


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Address of a queue that was set up with roles; the tests of this module share it."""
    with new_database(postgres) as url:
        asyncio.run(setup.init(url, roles=True))
        yield url


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Any]:
    """A connection of the administrator to the queue, which is empty."""
    connection = await open_connection(database, "test")
    await connection.execute(EMPTY)
    yield connection
    await connection.close()


@asynccontextmanager
async def login(admin: Any, url: str, role: str | None) -> AsyncIterator[str]:
    """Give the address of the queue for somebody who is a member of one of the roles (None: of none)."""
    name = f"somebody_{uuid.uuid4().hex[:8]}"
    await admin.execute(f"create role {name} login password 'x' " + (f"in role {role}" if role else ""))
    parts = urlsplit(url)
    yield urlunsplit(parts._replace(netloc=f"{name}:x@{parts.hostname}:{parts.port}"))
    await admin.execute(f"drop owned by {name}; drop role {name}")


async def allowed(admin: Any, role: str) -> set[str]:
    """Return the functions of the queue that a role may call."""
    rows = await admin.fetch(
        "select proname from pg_proc where pronamespace = 'absurd'::regnamespace "
        "and has_function_privilege($1, oid, 'execute')",
        role,
    )
    return {row[0] for row in rows}


async def test_public_may_do_nothing(admin: Any, database: str) -> None:
    async with login(admin, database, None) as url:
        name = urlsplit(url).username or ""
        assert await allowed(admin, name) == set()
        assert not await admin.fetchval("select has_schema_privilege($1, 'absurd', 'usage')", name)
        rights = await admin.fetch(
            """select c.oid::regclass from pg_class c where relnamespace = 'absurd'::regnamespace
               and relkind in ('r', 'p', 'v')
               and has_table_privilege($1, c.oid, 'select,insert,update,delete,truncate')""",
            name,
        )
        assert rights == []
        stranger = await asyncpg.connect(url)
        for statement in ("select * from absurd.tasks", "select absurd.clock()"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await stranger.fetch(statement)
        await stranger.close()


async def test_every_function_has_a_fixed_search_path_that_ends_with_the_temporary_schema(admin: Any) -> None:
    paths = await admin.fetch(
        """select p.proname, (select c from unnest(p.proconfig) c where c like 'search_path=%') as path
           from pg_proc p where p.pronamespace = 'absurd'::regnamespace"""
    )
    assert len(paths) > 40
    wrong = [tuple(row) for row in paths if row["path"] != "search_path=pg_catalog, absurd, pg_temp"]
    assert wrong == []


async def test_every_function_that_runs_as_the_owner_is_meant_for_a_role_and_the_other_way_round(admin: Any) -> None:
    definers = {
        row[0]
        for row in await admin.fetch(
            "select proname from pg_proc where pronamespace = 'absurd'::regnamespace and prosecdef"
        )
    }
    named = {row[0]: set() for row in await admin.fetch("select distinct call from absurd.role_calls()")}
    for role, call in await admin.fetch("select role, call from absurd.role_calls()"):
        named[call].add(role)
    assert definers - named.keys() == set(), "name these in role_calls()"
    writers = {call for call, roles in named.items() if roles - {READER}}
    assert writers - definers == set(), "these must be SECURITY DEFINER: their callers may write to no table"


async def test_each_role_may_call_its_functions_and_no_other(admin: Any) -> None:
    calls: dict[str, set[str]] = {role: set() for role in ROLES}
    for role, call in await admin.fetch("select role, call from absurd.role_calls()"):
        calls[role].add(call)
    assert await allowed(admin, READER) == calls[READER]
    assert await allowed(admin, API) == calls[API] | calls[READER]
    assert await allowed(admin, WORKER) == calls[WORKER] | calls[READER]
    assert not calls[API] & {"claim_task", "flush", "complete_task", "fail_task", "heartbeat", "reap", "repair"}
    assert not calls[WORKER] & {"cancel_task", "prune_tasks", "retry_task", "purge_dead", "pause_queue"}


async def test_no_role_but_the_owner_writes_to_a_table_of_tasks(admin: Any) -> None:
    written = {
        role: {
            row[0]
            for row in await admin.fetch(
                """select relname from pg_class where relnamespace = 'absurd'::regnamespace
                   and relkind in ('r', 'p', 'v')
                   and has_table_privilege($1, oid, 'insert,update,delete,truncate')""",
                role,
            )
        }
        for role in (READER, API, WORKER)
    }
    assert written == {READER: set(), API: {"cron", "template"}, WORKER: set()}


async def test_everything_belongs_to_the_owner_who_cannot_log_in(admin: Any) -> None:
    owners = await admin.fetch(
        """select distinct pg_get_userbyid(o) from (
               select relowner as o from pg_class where relnamespace = 'absurd'::regnamespace
               union select proowner from pg_proc where pronamespace = 'absurd'::regnamespace
               union select nspowner from pg_namespace where nspname = 'absurd') x"""
    )
    assert [row[0] for row in owners] == ["absurd_owner"]
    assert not await admin.fetchval(
        "select bool_or(rolcanlogin or rolsuper) from pg_roles where rolname = any($1)", ROLES
    )


#: Statements of the worker and the scheduler; those of `installation` are the owner's, all others the API's.
OF_THE_WORKER = {("schedules", "FIRE"), ("schedules", "NOTE_ERROR")}


async def test_every_statement_of_python_calls_only_what_its_role_may_call(admin: Any) -> None:
    everything = await allowed(admin, "absurd_owner")
    may = {role: await allowed(admin, role) for role in (API, WORKER)}
    checked = 0
    for found in pkgutil.iter_modules(statements.__path__):
        module = importlib.import_module(f"{statements.__name__}.{found.name}")
        for name, text in vars(module).items():
            if name.isupper() and isinstance(text, str) and found.name != "installation":
                role = WORKER if found.name == "work" or (found.name, name) in OF_THE_WORKER else API
                called = set(re.findall(r"absurd\.(\w+)\s*\(", text)) & everything
                assert called <= may[role], f"{role} runs {found.name}.{name}"
                checked += len(called)
    assert checked > 30


async def refused(connection: Any, *statements: str) -> None:
    """Each of these statements is refused."""
    for statement in statements:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_an_api_spawns_and_keeps_but_cannot_claim(admin: Any, database: str) -> None:
    async with login(admin, database, API) as url:
        config = AbsurdConfig(database_url=url)
        async with AbsurdClient(config) as client:
            tables = Database(url, "test", 2)
            await tables.connect()
            parent = await client.spawn("small")
            child = await client.spawn("small", depends_on=[parent])
            assert await client.cancel_task(parent)
            assert await client.retry_task(parent)
            task = await client.get_task(child)
            assert task is not None and task["status"] == "blocked"
            assert (await client.get_queue_stats(QUEUE))["pending"] == 1
            schedules = Schedules(tables, config)
            await schedules.create("s", task_name="small", cron_expression="0 3 * * *")
            assert await schedules.pause("s") and await schedules.trigger("s") and await schedules.delete("s")
            templates = Templates(tables, config, client)
            await templates.create("t", [Step("small")])
            assert await templates.run("t") and await templates.delete("t")
            assert await DeadLetters(tables).replay_many() == 0
            await tables.close()
        api = await asyncpg.connect(url)
        assert await api.fetchval("select absurd.prune_tasks(0)") == 0
        await refused(
            api,
            f"select absurd.claim_task('{QUEUE}', 'w')",
            "select absurd.complete_task(absurd.new_id(), 1, '{}')",
            "select absurd.repair()",
            "delete from absurd.task",
            "insert into absurd.ready select * from absurd.ready",
            "create table absurd.mine (x int)",
        )
        await api.close()


async def test_a_worker_runs_tasks_and_fires_schedules_but_cannot_cancel_or_prune(admin: Any, database: str) -> None:
    async with AbsurdClient(AbsurdConfig(database_url=database)) as client:
        tasks = [await client.spawn("small") for _ in range(3)]
        tables = Database(database, "test", 2)
        await tables.connect()
        await Schedules(tables, client.config).create("s", task_name="small", cron_expression="* * * * *")
        await tables.close()
        await admin.execute("update absurd.cron set next_at = now() - interval '1 s'")
        async with login(admin, database, WORKER) as url:
            config = AbsurdConfig(database_url=url)
            async with AbsurdClient(config) as limited:
                bench = Bench(url, limited, admin)
                async with bench.worker():
                    for task in tasks:
                        await bench.until_state(task, "completed")
                await bench.assert_sound()
            scheduler = TaskScheduler(config)
            await scheduler.connect()
            assert await scheduler.fire_due() == 1
            await scheduler.close()
            worker = await asyncpg.connect(url)
            await worker.execute("select absurd.reap(10, 2); select absurd.repair()")
            await refused(
                worker,
                "select absurd.cancel_task(absurd.new_id())",
                "select absurd.prune_tasks(0)",
                "select absurd.purge_dead()",
                "select absurd.retry_task(absurd.new_id())",
                "update absurd.cron set state = 'paused'",
                "delete from absurd.lease",
            )
            await worker.close()


async def test_a_reader_sees_everything_and_changes_nothing(admin: Any, database: str) -> None:
    async with login(admin, database, READER) as url:
        async with AbsurdClient(AbsurdConfig(database_url=url)) as client:
            assert await client.list_tasks() == []
            assert (await client.health())["status"] == "critical"
            assert await client.list_queue_stats() == []
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await client.spawn("small")
        reader = await asyncpg.connect(url)
        tables = await admin.fetch(
            "select oid::regclass from pg_class where relnamespace = 'absurd'::regnamespace "
            "and relkind in ('r', 'p', 'v')"
        )
        for (table,) in tables:
            await reader.fetch(f"select * from {table} limit 1")
        await refused(reader, "delete from absurd.dead", "select absurd.cancel_task(absurd.new_id())")
        await reader.close()


async def test_a_temporary_table_of_a_caller_is_not_taken_for_one_of_the_queue(admin: Any, database: str) -> None:
    """The trap of functions that run as their owner: names of the caller's own."""
    async with login(admin, database, API) as url:
        caller = await asyncpg.connect(url)
        await caller.execute(
            "create temp table task (task_id uuid, outcome text); create temp table ready (x int); "
            "set search_path = pg_temp, public"
        )
        task = await caller.fetchval("select absurd.spawn_task('q', 'small')")
        assert await caller.fetchval("select count(*) from pg_temp.task") == 0
        assert await admin.fetchval("select queue_name from absurd.tasks where task_id = $1", task) == "q"
        await caller.close()


async def test_init_keeps_the_rights_up_to_date_and_status_tells_the_roles(admin: Any, database: str) -> None:
    now = setup.current_release()
    added = (
        "create table if not exists absurd.extra (x int);"
        "create or replace function absurd.extra() returns int language sql "
        "set search_path = pg_catalog, absurd, pg_temp as 'select 1';"
    )
    await setup.init(database, release=replace(now, schema=(added, *now.schema)))
    assert await admin.fetchval("select has_table_privilege('absurd_reader', 'absurd.extra', 'select')")
    assert await admin.fetchval("select tableowner from pg_tables where tablename = 'extra'") == "absurd_owner"
    assert "extra" not in await allowed(admin, "absurd_worker")
    assert (await setup.status(database))["roles"] == ", ".join(ROLES)
    await setup.reset(database)
    assert "claim_task" in await allowed(admin, WORKER)


async def test_a_queue_without_roles_belongs_to_whom_made_it(postgres_database: str) -> None:
    await setup.init(postgres_database)
    assert (await setup.status(postgres_database))["roles"] == "none"


async def test_the_owner_can_be_lent_to_an_administrator_without_further_rights(admin: Any, database: str) -> None:
    async with login(admin, database, "absurd_owner") as url:
        await setup.init(url)
        await setup.init(url, roles=True)
        assert (await setup.status(url))["misplaced"] == 0
    async with login(admin, database, API) as url:
        with pytest.raises(setup.SchemaError, match="may not"):
            await setup.init(url)


async def test_two_databases_of_a_server_share_the_roles(admin: Any, database: str) -> None:
    await asyncio.gather(*(setup.init(database, roles=True) for _ in range(2)))
    assert await admin.fetchval("select count(*) from pg_roles where rolname = any($1)", ROLES) == 4
