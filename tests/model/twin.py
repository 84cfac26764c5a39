"""The queue and its model side by side: each operation is done to both, and both must say and be the same."""

import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from dsa110_contimg.absurd.connection import open_connection
from model.queue_model import ENDED, LEASE_S, MAX_CRASHES, Model, Task, Worker

QUEUE = "model"
EPOCH = 1_790_000_000.0
WORKERS = ("w0", "w1", "w2")
KEYS = ("k0", "k1")
POLICIES = ("success", "done", "failure")

SNAPSHOT = """
select (select jsonb_object_agg(task_id, jsonb_build_array(status, attempt)) from absurd.tasks),
       (select jsonb_agg(task_id) from absurd.misplaced),
       (select jsonb_agg(jsonb_build_array(c.key, c.max_running, c.running,
            (select count(*) from absurd.ready r where r.conc_key = c.key) +
            (select count(*) from absurd.lease l where l.conc_key = c.key))) from absurd.conc c),
       (select jsonb_agg(task_id) from absurd.dead),
       (select jsonb_build_array(sum(completed), sum(failed), sum(cancelled), sum(skipped)) from absurd.stats)
"""
FLUSH = "select verdict, task_id, claim from absurd.flush($1, $2::uuid[], $3::bigint[], $4::jsonb[], $5::text[], $6)"
EMPTY = """
do $$ declare t regclass; begin
for t in select oid from pg_class where relnamespace = 'absurd'::regnamespace and relkind in ('r', 'p')
         and not relispartition and relname not in ('meta')
loop execute format('delete from %s', t); end loop; end $$
"""


class DisagreementError(AssertionError):
    """The queue and its model differ."""


@dataclass(frozen=True)
class Operation:
    """Something that can be done: its name, how often a walk does it, and the range of each argument."""

    name: str
    weight: int
    ranges: Mapping[str, int]  # argument → values 0 .. n - 1


OPERATIONS: list[Operation] = []
Method = Callable[..., Awaitable[None]]


def operation(weight: int, **ranges: int) -> Callable[[Method], Method]:
    """Declare a method of :class:`Twin` an operation."""

    def declare(method: Method) -> Method:
        OPERATIONS.append(Operation(method.__name__, weight, ranges))
        return method

    return declare


@dataclass
class Twin:
    """One queue under comparison."""

    sql: Any
    model: Model = field(default_factory=lambda: Model(EPOCH))
    made: int = 0
    claims: list[tuple[UUID, int]] = field(default_factory=list)  # all that were ever handed out lately
    seen: dict[str, list[Any]] = field(default_factory=dict)
    ceilings: dict[str, int] = field(default_factory=dict)
    paused: bool = False

    @classmethod
    async def open(cls, url: str) -> "Twin":
        """Connect to an empty queue."""
        return await cls(await open_connection(url, "model")).reset()

    async def reset(self) -> "Twin":
        """Return a twin of the same connection, with both sides empty."""
        await self.sql.execute(EMPTY)
        fresh = Twin(self.sql)
        await fresh.set_clock()
        for worker in WORKERS:
            await fresh.register(worker)
        return fresh

    async def do(self, name: str, arguments: Mapping[str, int]) -> None:
        """Do one operation to both, and compare."""
        await getattr(self, name)(**arguments)
        await self.compare()

    async def ask(self, statement: str, *args: Any) -> Any:
        return await self.sql.fetchval(statement, *args)

    async def set_clock(self) -> None:
        await self.sql.fetchval("select set_config('absurd.fake_now', to_timestamp($1)::text, false)", self.model.now)

    async def register(self, worker: str) -> None:
        await self.ask("select absurd.register_worker($1, 'here', 1, array['model'], 4)", worker)
        self.model.workers[worker] = Worker(self.model.now)

    def same(self, what: str, theirs: Any, ours: Any, about: Any = "") -> None:
        if theirs != ours:
            raise DisagreementError(f"{what} {about}: the queue says {theirs!r}, the model {ours!r}")

    def pick(self, n: int) -> Task | None:
        """Return one of the newer tasks."""
        tasks = list(self.model.tasks.values())[-12:]
        return tasks[-1 - n % len(tasks)] if tasks else None

    def pick_claim(self, n: int) -> tuple[UUID, int] | None:
        """Return one of the newer claims: by turns a current one, one whose task somebody else holds now, any."""
        current = [claim for claim in self.claims if self.model.held(*claim)]
        held = {task for task, _ in current}
        overtaken = [claim for claim in self.claims if claim[0] in held and claim not in current]
        chosen = (current, overtaken, self.claims)[n % 3] or self.claims
        return chosen[-1 - n // 3 % len(chosen)] if chosen else None

    # ------------------------------------------------------------------------------------------------------- spawning
    @operation(12, parents=4, policy=3, key=8, later=6, priority=3, attempts=3, idempotency=12)
    async def spawn(
        self, parents: int, policy: int, key: int, later: int, priority: int, attempts: int, idempotency: int
    ) -> None:
        self.made += 1
        recent = list(self.model.tasks)[-6:]
        task = Task(
            UUID(int=(int(EPOCH * 1000) + self.made) << 80 | 7 << 76 | 2 << 62 | self.made),
            priority - 1, self.model.now + 5.0 if later == 0 else 0.0, attempts + 1,
            (None, 1, 3)[attempts], 20.0 if later == 1 else None, KEYS[key] if key < len(KEYS) else None,
            {parent: POLICIES[(policy + i) % 3] for i, parent in enumerate(recent[: max(0, parents - 1)])},
        )  # fmt: skip
        word = f"i{idempotency}" if idempotency < 3 else None
        node = {
            "task_id": str(task.id), "queue": QUEUE, "name": "t", "params": {}, "priority": task.priority,
            "max_attempts": task.max_attempts, "max_crashes": task.max_crashes, "timeout_s": task.timeout_s,
            "retry": {"base_s": 0, "cap_s": 0}, "concurrency_key": task.key, "idempotency_key": word,
            "idempotency_ttl_s": 15.0 if word else None,
            "run_at": datetime.fromtimestamp(task.run_at, UTC).isoformat() if task.run_at else None,
            "depends_on": [{"task_id": str(parent), "policy": policy} for parent, policy in task.edges.items()],
        }  # fmt: skip
        row = await self.sql.fetchrow("select task_id, created from absurd.spawn_tasks($1::jsonb)", [node])
        self.same("spawn", tuple(row), self.model.spawn(task, word, 15.0))

    # ------------------------------------------------------------------------------------------------------ the worker
    @operation(10, worker=3, limit=4)
    async def claim(self, worker: int, limit: int) -> None:
        """Claim from the front: exactly the first tasks in the order of priority, time and id."""
        rows = await self.sql.fetch(
            "select task_id, claim from absurd.claim_task($1, $2, $3)", QUEUE, WORKERS[worker], limit
        )
        ready = sorted(self.pending(), key=lambda task: (-task.priority, task.ready_at, task.id))
        expected = [] if self.paused else ready[:limit]
        self.same("claimed", {row["task_id"] for row in rows}, {task.id for task in expected})
        self.note_claims(rows, worker)

    @operation(10, worker=3, limit=4, first=8, count=3)
    async def flush(self, worker: int, limit: int, first: int, count: int) -> None:
        """Complete some claims, among them such as are over, and claim; wherever the cursor stands, legally."""
        done = list(
            dict.fromkeys(self.claims[-1 - (first + i) % len(self.claims)] for i in range(count) if self.claims)
        )
        done = list({task: (task, claim) for task, claim in done}.values())
        rows = await self.sql.fetch(
            FLUSH,
            WORKERS[worker], [t for t, _ in done], [c for _, c in done], [{"by": c} for _, c in done], [QUEUE], limit,
        )  # fmt: skip
        verdicts = {(row["task_id"], row["claim"]): row["verdict"] for row in rows if row["verdict"] != "claimed"}
        expected = {(t, c): "completed" if self.model.complete(t, c) else "stale" for t, c in done}
        self.same("verdicts", verdicts, expected)
        claimed = [row for row in rows if row["verdict"] == "claimed"]
        legal = all(self.model.tasks[row["task_id"]].state == "waiting" for row in claimed)
        self.same(
            "claims are legal", (legal, len(claimed) <= limit, self.paused and bool(claimed)), (True, True, False)
        )
        if not claimed and limit and not self.paused and not done:
            self.same("left lying", [task.id for task in self.pending()], [])
        self.note_claims(claimed, worker)

    def pending(self) -> list[Task]:
        """Return the tasks that stood in `ready` when the two were last compared."""
        return [self.model.tasks[UUID(key)] for key, (state, _) in self.seen.items() if state == "pending"]

    def note_claims(self, rows: list[Any], worker: int) -> None:
        for row in rows:
            self.model.claim(row["task_id"], row["claim"], WORKERS[worker])
            self.claims = [*self.claims[-15:], (row["task_id"], row["claim"])]

    @operation(6, which=12)
    async def complete(self, which: int) -> None:
        if held := self.pick_claim(which):
            answer = await self.ask("select absurd.complete_task($1, $2, $3)", *held, {"by": held[1]})
            self.same("complete", answer, self.model.complete(*held))

    @operation(5, which=12, retryable=3, after=3)
    async def fail(self, which: int, retryable: int, after: int) -> None:
        if held := self.pick_claim(which):
            error = {"type": "E", "message": "m"}
            answer = await self.ask(
                "select absurd.fail_task($1, $2, $3, $4, $5)", *held, error, retryable > 0, float(after * 4)
            )
            self.same("fail", answer, self.model.fail(*held, retryable > 0, float(after * 4)))

    @operation(2, which=12)
    async def release(self, which: int) -> None:
        if held := self.pick_claim(which):
            self.same("release", await self.ask("select absurd.release_task($1, $2)", *held), self.model.release(*held))

    @operation(2, which=12)
    async def snooze(self, which: int) -> None:
        if held := self.pick_claim(which):
            answer = await self.ask("select absurd.snooze_task($1, $2, 6)", *held)
            self.same("snooze", answer, self.model.snooze(*held, 6.0))

    @operation(3, which=12)
    async def progress(self, which: int) -> None:
        if held := self.pick_claim(which):
            answer = await self.ask("select absurd.report_progress($1, $2, 0.5, 'half')", *held)
            self.same("progress", answer, self.model.held(*held) is not None)

    @operation(5, worker=3, forget=4)
    async def beat(self, worker: int, forget: int) -> None:
        """Beat with all claims, those over included, or, as after a lost answer, with none."""
        name = WORKERS[worker]
        claims = [] if forget == 0 else [claim for _, claim in self.claims]
        rows = await self.sql.fetch(
            "select claim, verdict from absurd.heartbeat($1, $2::bigint[], $3)", name, claims, LEASE_S
        )
        self.same("verdicts of the beat", {tuple(row) for row in rows}, self.model.beat(name, claims))

    @operation(2, worker=3)
    async def enrol(self, worker: int) -> None:
        await self.register(WORKERS[worker])

    @operation(1, worker=3)
    async def leave(self, worker: int) -> None:
        await self.ask("select absurd.leave($1, 'stopped')", WORKERS[worker])
        self.model.leave(WORKERS[worker])

    @operation(5)
    async def reap(self) -> None:
        self.same("reap", await self.ask("select absurd.reap($1, $2)", LEASE_S, MAX_CRASHES), self.model.reap())

    @operation(2)
    async def repair(self) -> None:
        self.same("repaired", await self.ask("select absurd.repair()"), 0)

    @operation(5, seconds=4)
    async def advance(self, seconds: int) -> None:
        self.model.now += (1.0, 3.0, 6.0, 11.0)[seconds]
        await self.set_clock()

    # --------------------------------------------------------------------------------------------------- the operators
    @operation(3, which=12)
    async def cancel(self, which: int) -> None:
        if task := self.pick(which):
            self.same("cancel", await self.ask("select absurd.cancel_task($1)", task.id), self.model.cancel(task.id))

    @operation(3, which=12)
    async def retry(self, which: int) -> None:
        if task := self.pick(which):
            self.same("retry", await self.ask("select absurd.retry_task($1)", task.id), self.model.retry(task.id))

    @operation(1, paused=3)
    async def pause(self, paused: int) -> None:
        self.paused = paused == 0
        await self.ask("select absurd.pause_queue($1, $2)", QUEUE, self.paused)

    @operation(1, key=2, limit=3)
    async def limit(self, key: int, limit: int) -> None:
        await self.ask("select absurd.set_concurrency($1, $2, $3)", QUEUE, KEYS[key], limit)
        self.ceilings[KEYS[key]] = max(limit, self.ceilings.get(KEYS[key], 1))

    @operation(1)
    async def prune(self) -> None:
        """Forget ended tasks; only such may go, and none that a task which has not ended still waits for."""
        before = {task.id for task in self.model.tasks.values()}
        await self.ask("select absurd.prune_tasks(0)")
        after = {row["task_id"] for row in await self.sql.fetch("select task_id from absurd.task")}
        needed = {p for task in self.model.tasks.values() if task.state not in ENDED for p in task.edges}
        gone = [self.model.tasks[task] for task in before - after]
        self.same("pruned wrongly", [t.id for t in gone if t.state not in ENDED or t.id in needed], [])
        for task in gone:
            del self.model.tasks[task.id]

    # -------------------------------------------------------------------------------------------------------- comparing
    async def compare(self) -> None:
        """Compare every task, the permits, the dead letters and the counters."""
        states, misplaced, permits, dead, ends = await self.sql.fetchrow(SNAPSHOT)
        self.seen = states or {}
        self.same("misplaced", misplaced, None)
        self.same("tasks", self.seen.keys(), {str(task) for task in self.model.tasks})
        parked = {key: 0 for key in KEYS}
        for task in self.model.tasks.values():
            state, attempt = self.seen[str(task.id)]
            if task.state == "waiting":
                self.same("state of", state in (("pending", "parked") if task.key else ("pending",)), True, task)
                if task.key:
                    parked[task.key] += state == "parked"
            else:
                self.same("state of", state, task.state, task)
            self.same("attempt of", attempt, task.attempt, task)
        self.compare_permits(permits or [], parked)
        self.same("dead letters", set(dead or []), {str(task) for task in self.model.dead})
        self.same("counters", [int(n or 0) for n in ends], list(self.model.ends.values()))

    def compare_permits(self, permits: list[Any], parked: dict[str, int]) -> None:
        for key, limit, running, counted in permits:
            self.same(f"permits of {key}", running, counted)
            self.same(f"a permit of {key} is free and a task waits for it", parked[key] > 0 and running < limit, False)
            ceiling = self.ceilings.get(key, 1)
            self.same(f"{running} run under {key}, {ceiling} may", running <= ceiling, True)
            self.ceilings[key] = max(limit, running)


@dataclass(frozen=True)
class Walk:
    """A random walk that ended in disagreement, or did not."""

    seed: int
    steps: int
    error: str | None
    trace: list[str]


async def walk(twin: Twin, seed: int, steps: int) -> Walk:
    """Do ``steps`` random operations that the seed decides, on an empty queue; stop at the first disagreement."""
    chance = random.Random(seed)
    twin = await twin.reset()
    names = OPERATIONS
    weights = [operation.weight for operation in names]
    trace: list[str] = []
    for step in range(steps):
        chosen = chance.choices(names, weights)[0]
        arguments = {name: chance.randrange(n) for name, n in chosen.ranges.items()}
        trace.append(f"{chosen.name}({json.dumps(arguments)})")
        try:
            await twin.do(chosen.name, arguments)
        except DisagreementError as error:
            return Walk(seed, step + 1, str(error), trace[-40:])
    return Walk(seed, steps, None, [])
