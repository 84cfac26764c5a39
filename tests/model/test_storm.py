"""Many sessions at one small queue, each doing whatever comes to its mind: no error comes out, and the tables fit."""

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dsa110_contimg.absurd.connection import persist
from dsa110_contimg.absurd.ids import new_id
from fixtures.queue_bench import Bench

pytest_plugins = ["fixtures.queue_database"]

QUEUE = "storm"
FLUSH = "select verdict, task_id, claim from absurd.flush($1, $2::uuid[], $3::bigint[], $4::jsonb[], $5::text[], $6)"
KEYS = (None, None, "k0", "k1")
PERMITS = """
select c.key, c.running, (select count(*) from absurd.ready r where r.conc_key = c.key)
                       + (select count(*) from absurd.lease l where l.conc_key = c.key)
from absurd.conc c
"""
COUNTED = """
select coalesce(sum(completed), 0), coalesce(sum(failed), 0), coalesce(sum(cancelled), 0), coalesce(sum(skipped), 0)
from absurd.stats where queue = 'storm'
"""
OUTCOMES = """
select count(*) filter (where outcome = 'completed'), count(*) filter (where outcome = 'failed'),
       count(*) filter (where outcome = 'cancelled'), count(*) filter (where outcome = 'skipped')
from absurd.task where queue = 'storm'
"""


class Actor:
    """One session, with a part of the common memory of tasks and claims."""

    def __init__(self, session: Any, number: int, seed: int, tasks: list[UUID], claims: list[tuple[UUID, int]]) -> None:
        self.session = session
        self.name = f"w{number}"
        self.chance = random.Random(seed * 100 + number)
        self.crossed: list[str] = []
        self.tasks = tasks
        self.claims = claims

    async def act(self, until_s: float) -> int:
        """Do random things until the time is over; return how many."""
        await self.ask("select absurd.register_worker($1, 'here', 1, array['storm'], 8)", self.name)
        deeds: dict[Callable[[], Awaitable[Any]], float] = {
            self.spawn: 6, self.flush: 8, self.fail: 2, self.release: 1, self.snooze: 1, self.cancel: 2, self.retry: 2,
            self.beat: 2, self.reap: 1, self.leave: 0.3, self.limit: 0.3, self.repair: 0.3, self.prune: 0.2,
        }  # fmt: skip
        loop, count = asyncio.get_running_loop(), 0
        while loop.time() < until_s:
            await self.chance.choices(list(deeds), list(deeds.values()))[0]()
            count += 1
        return count

    async def ask(self, statement: str, *args: Any) -> list[Any]:
        """Ask as every caller does: again, when two transactions have crossed (and each such time is counted)."""

        async def call() -> list[Any]:
            try:
                return list(await self.session.fetch(statement, *args))
            except asyncpg.DeadlockDetectedError:
                self.crossed.append(statement)
                raise

        return await persist(call, 5.0, (asyncpg.DeadlockDetectedError,))

    def some_task(self) -> UUID:
        return self.chance.choice(self.tasks[-30:]) if self.tasks else new_id()

    def some_claim(self) -> tuple[UUID, int]:
        return self.chance.choice(self.claims[-30:]) if self.claims else (new_id(), 0)

    async def spawn(self) -> None:
        """Spawn a few tasks, of which some depend on each other and on tasks of anybody."""
        nodes: list[dict[str, Any]] = []
        there = {row["task_id"] for row in await self.ask("select task_id from absurd.task where queue = 'storm'")}
        for _ in range(self.chance.randrange(1, 4)):
            parents = {self.some_task() for _ in range(self.chance.randrange(3))} & there
            parents |= {UUID(node["task_id"]) for node in nodes if self.chance.random() < 0.4}
            nodes.append({
                "task_id": str(new_id()), "queue": QUEUE, "name": "t", "concurrency_key": self.chance.choice(KEYS),
                "max_attempts": self.chance.randrange(1, 3), "retry": {"base_s": 0, "cap_s": 0},
                "idempotency_key": self.chance.choice((None, None, f"i{self.chance.randrange(4)}")),
                "idempotency_ttl_s": 0.2,
                "depends_on": [{"task_id": str(p), "policy": self.chance.choice(("success", "done", "failure"))}
                               for p in parents],
            })  # fmt: skip
        rows = await self.ask("select task_id from absurd.spawn_tasks($1)", nodes)
        self.tasks.extend(row["task_id"] for row in rows)

    async def flush(self) -> None:
        done = list({self.some_claim() for _ in range(self.chance.randrange(3))})
        done = list(dict(done).items())
        rows = await self.ask(
            FLUSH, self.name, [t for t, _ in done], [c for _, c in done], [{} for _ in done], [QUEUE],
            self.chance.randrange(4),
        )  # fmt: skip
        self.claims.extend((row["task_id"], row["claim"]) for row in rows if row["verdict"] == "claimed")

    async def fail(self) -> None:
        await self.ask("select absurd.fail_task($1, $2, '{}', $3, 0)", *self.some_claim(), self.chance.random() < 0.7)

    async def release(self) -> None:
        await self.ask("select absurd.release_task($1, $2)", *self.some_claim())

    async def snooze(self) -> None:
        await self.ask("select absurd.snooze_task($1, $2, 0.05)", *self.some_claim())

    async def cancel(self) -> None:
        await self.ask("select absurd.cancel_tasks($1)", [self.some_task() for _ in range(self.chance.randrange(1, 4))])

    async def retry(self) -> None:
        await self.ask("select absurd.retry_tasks($1)", [self.some_task() for _ in range(self.chance.randrange(1, 4))])

    async def beat(self) -> None:
        await self.ask("select absurd.heartbeat($1, $2::bigint[], 0.5)", self.name, [c for _, c in self.claims[-20:]])

    async def reap(self) -> None:
        """Keep house; it gives up when it waits long for a lock, and its caller asks again later."""
        with contextlib.suppress(asyncpg.LockNotAvailableError):
            await self.ask("select absurd.reap(0.3, 3)")

    async def leave(self) -> None:
        await self.ask("select absurd.leave($1, 'stopped')", self.name)
        await self.ask("select absurd.register_worker($1, 'here', 1, array['storm'], 8)", self.name)

    async def limit(self) -> None:
        limit = self.chance.randrange(3)
        await self.ask("select absurd.set_concurrency($1, $2, $3)", QUEUE, self.chance.choice(KEYS[2:]), limit)

    async def repair(self) -> None:
        """Repair finds nothing, at any moment."""
        with contextlib.suppress(asyncpg.LockNotAvailableError):
            assert [row[0] for row in await self.ask("select absurd.repair()")] == [0]

    async def prune(self) -> None:
        await self.ask("select absurd.prune_tasks(3600)")


async def weather(queue: Bench, sessions: int, seconds: float) -> None:
    """Let the storm pass, and look at what it has left."""
    seed = int(os.environ.get("DSA110_TEST_SEED", random.randrange(2**31)))
    print(f"DSA110_TEST_SEED={seed}")
    tasks: list[UUID] = []
    claims: list[tuple[UUID, int]] = []
    until_s = asyncio.get_running_loop().time() + seconds

    async def run(number: int) -> int:
        async with queue.session() as session:
            return await Actor(session, number, seed, tasks, claims).act(until_s)

    deeds = sum(await asyncio.gather(*(run(number) for number in range(sessions))))
    print(f"{deeds} calls, {len(tasks)} tasks, {len(claims)} claims")
    assert [tuple(row)[1] for row in await queue.connection.fetch(PERMITS)] == [
        tuple(row)[2] for row in await queue.connection.fetch(PERMITS)
    ]
    assert tuple(await queue.connection.fetchrow(COUNTED)) == tuple(await queue.connection.fetchrow(OUTCOMES))
    await queue.assert_sound()


@pytest.mark.slow
async def test_no_error_comes_out_of_a_storm_and_everything_fits_afterwards(queue: Bench) -> None:
    await weather(queue, sessions=6, seconds=3.0)


@pytest.mark.slow
async def test_no_error_comes_out_of_a_long_storm(queue: Bench) -> None:
    await weather(queue, sessions=12, seconds=15.0)
