"""The ceiling: the least that can be written by hand with the same guarantees, and nothing else.

One table with one index. A claim takes its number from a sequence; a completion must name it (the fence). One asyncio
task a queue task; one statement records what has finished, with results, and claims for the free slots; there is at
most one in flight, and what finishes meanwhile waits for it. No retries, heartbeat, events, statistics, dependencies.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from benchmarks.queue.contestants import Handle, Spawn

SCHEMA = """
create sequence claim_number;
create table job (
    id bigint generated always as identity, state smallint not null default 0, claim bigint, worker text,
    params jsonb not null, result jsonb
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
create index job_state on job (state, id) where state < 2
"""
FLUSH = """
with finished as (
    update job set state = 2, result = f.result
    from unnest($1::bigint[], $2::bigint[], $3::jsonb[]) f(id, claim, result)
    where job.state = 1 and job.state < 2 and job.id = f.id and job.claim = f.claim),
free as materialized (
    select id from job where state = 0 and state < 2 order by id limit $4 for update skip locked)
update job set state = 1, claim = nextval('claim_number'), worker = $5
from free where job.id = free.id and job.state = 0 and job.state < 2
returning job.id, job.claim, job.params
"""
SPAWN = "with made as (insert into job (params) select unnest($1::jsonb[])) select pg_notify('ready', '')"
_POLL_S = 1.0


async def _connect(url: str) -> Any:
    connection = await asyncpg.connect(url)
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await connection.execute("set enable_seqscan = off; set enable_bitmapscan = off")
    return connection


class _Loop:
    """The worker: running tasks, what of them has finished, and one flush at a time."""

    def __init__(self, connection: Any, concurrency: int, handle: Handle) -> None:
        self._connection = connection
        self._free = concurrency
        self._handle = handle
        self._running: set[asyncio.Task[None]] = set()
        self._finished: list[tuple[int, int]] = []
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Flush whenever there is something to say or a slot is free."""
        await self._connection.add_listener("ready", lambda *_: self._wake.set())
        while not stop.is_set():
            self._wake.clear()
            told, self._finished = self._finished, []
            rows = await self._connection.fetch(
                FLUSH, [job for job, _ in told], [claim for _, claim in told], [{"ok": True}] * len(told),
                self._free, "raw",
            )  # fmt: skip
            self._free -= len(rows)
            for row in rows:
                task = asyncio.create_task(self._run(row["id"], row["claim"], row["params"]))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            if rows:
                await asyncio.sleep(0)  # no-op handlers end here, so that the next flush has something to say
            if not self._finished:
                try:
                    await asyncio.wait_for(self._wake.wait(), _POLL_S)
                except TimeoutError:
                    continue

    async def _run(self, job: int, claim: int, params: Mapping[str, Any]) -> None:
        await self._handle(params)
        self._finished.append((job, claim))
        self._free += 1
        self._wake.set()


class Raw:
    """The hand-written loop."""

    left = "select count(*) from job where state < 2"

    async def version(self) -> str:
        """Return the driver's version."""
        return f"asyncpg {asyncpg.__version__}"

    async def install(self, url: str) -> None:
        """Create the table."""
        connection = await asyncpg.connect(url)
        await connection.execute(SCHEMA)
        await connection.close()

    async def load(self, url: str, all_params: list[Mapping[str, Any]]) -> None:
        """Insert 5,000 rows a statement."""
        connection = await _connect(url)
        for start in range(0, len(all_params), 5000):
            await connection.execute(SPAWN, all_params[start : start + 5000])
        await connection.close()

    @asynccontextmanager
    async def spawner(self, url: str) -> AsyncIterator[Spawn]:
        """Insert one row and notify."""
        connection = await _connect(url)
        yield lambda params: connection.execute(SPAWN, [params])
        await connection.close()

    async def work(self, url: str, concurrency: int, handle: Handle, stop: asyncio.Event) -> None:
        """Run the loop."""
        connection = await _connect(url)
        await _Loop(connection, concurrency, handle).run(stop)
        await connection.close()


CONTESTANT = Raw()
