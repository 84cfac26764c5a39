"""A campaign from its first process to its evidence."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dsa110_contimg.absurd import setup
from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.connection import PASSING, open_connection
from dsa110_contimg.absurd.statements import work
from dsa110_contimg.chaos import faults, statements
from dsa110_contimg.chaos.evidence import Evidence, Terms
from dsa110_contimg.chaos.history import History, read_history
from dsa110_contimg.chaos.parties import Fleet, Party
from dsa110_contimg.chaos.proxy import ChaosProxy
from dsa110_contimg.chaos.server import Ground, open_ground
from dsa110_contimg.chaos.settings import KEYS, QUEUE, PartySettings
from dsa110_contimg.chaos.soundings import sound_claim, sound_snapshot
from dsa110_contimg.exit_codes import CommandError, ExitCode

_JOURNAL = Path(__file__).with_name("journal.sql")
_SKEW_S = 5.0
_FAN_IN = 1000
_SPEED = 180.0
_SCHEDULE = "chaos"


@dataclass(frozen=True)
class Plan:
    """What a campaign is to do.

    Attributes
    ----------
    directory : Path
        Where history, logs, evidence and the embedded server's data go.
    duration_s : float
        How long clients spawn and faults strike.
    drain_s : float
        How long the queue may take afterwards to end every task.
    wakes : int
        How many tasks are spawned one by one in the end, on the idle queue, without notifications.
    """

    directory: Path
    seed: int
    tasks: int = 10_000
    kills: int = 50
    kinds: Collection[str] = faults.KINDS
    duration_s: float = 180.0
    drain_s: float = 120.0
    wakes: int = 5
    workers: int = 3
    clients: int = 2
    schedulers: int = 3
    lease_s: float = 3.0
    database_url: str | None = None


class NotEmptyError(CommandError):
    """The database that was named is in use."""

    exit_code = ExitCode.USAGE


class Campaign:
    """One campaign on one database."""

    def __init__(self, plan: Plan, ground: Ground, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._ground = ground
        self._say = say
        self._chance = random.Random(plan.seed)  # noqa: S311 - to be repeatable, not to be secret
        self._ghost_writes = itertools.cycle(_GHOST_WRITES.items())
        self._history = History(plan.directory / "history.jsonl", "campaign")
        self._proxy = ChaosProxy(*ground.address, random.Random(plan.seed + 1))  # noqa: S311
        self._clients: list[Party] = []
        self._base_s = time.time()
        self._first_tick: datetime | None = None

    async def run(self) -> Evidence:
        """Do everything and return what was seen."""
        await self._prepare()
        address = self._ground.through(await self._proxy.start())
        self._proxy.on_cut = lambda cut: self._history.write("fault", kind="cut", op="begin", when=cut)
        fleet = Fleet(self._plan.workers, self._plan.directory, lambda number: self._settings(address, number))
        schedulers = Fleet(
            self._plan.schedulers,
            self._plan.directory,
            lambda number: self._clockwork(address, number),
            "scheduler",
            "s",
        )
        scene = faults.Scene(
            self._ground, self._proxy, fleet, schedulers, self._history, self._chance, self._plan.lease_s
        )
        try:
            await self._disturb(scene, address)
            await self._drain(scene)
            await self._wake(fleet)
            await self._stop(fleet)
            return await self._gather()
        finally:
            fleet.kill()
            schedulers.kill()
            for client in self._clients:
                client.kill()
            await self._proxy.stop()
            self._history.close()

    # ------------------------------------------------------------------------------------------------------- beginning
    async def _prepare(self) -> None:
        """Set up queue and journal, and measure what a claim costs in the empty queue."""
        await setup.init(self._ground.url)
        async with self._session() as session:
            if count := await session.fetchval(statements.TASKS_THERE):
                raise NotEmptyError(f"the queue of the database holds {count} tasks; give an empty one")
            await session.execute(_JOURNAL.read_text(encoding="utf-8"))
            await sound_claim(session, self._history)
            if self._plan.schedulers:
                await session.execute(statements.FAST_CLOCK)
            for key, limit in KEYS.items():
                await session.fetch(statements.SET_CONCURRENCY, QUEUE, key, limit)

    def _settings(self, address: str, number: int) -> PartySettings:
        """Return the settings of the n-th worker."""
        return PartySettings(
            f"w{number}", address, str(self._history.path), self._plan.seed + number, skew_s=self._skew_s(number),
            lease_s=self._plan.lease_s, beat_s=self._plan.lease_s / 6,
        )  # fmt: skip

    def _clockwork(self, address: str, number: int) -> PartySettings:
        """Return the settings of the n-th scheduler: in its sessions three minutes pass every second."""
        return replace(self._settings(address, number), who=f"s{number}", speed=_SPEED, base_s=self._base_s)

    async def _create_schedule(self) -> None:
        """Create a schedule of every minute, whose times may not be missed."""
        if self._plan.schedulers:
            settings = self._clockwork(self._ground.url, 0)
            async with AbsurdClient(settings.queue()) as client:
                made = await client.schedules.create(
                    _SCHEDULE, task_name="plain", cron_expression="* * * * *", queue_name=QUEUE, policy="catch_up",
                    overlap=True,
                )  # fmt: skip
            self._first_tick = datetime.fromisoformat(made["next_run_at"])

    def _skew_s(self, number: int) -> float:
        """Return by how much the host of the n-th worker or client has a wrong clock: some are fast, some slow."""
        return (0.0, _SKEW_S, -_SKEW_S)[number % 3] if "skew" in self._plan.kinds else 0.0

    # ------------------------------------------------------------------------------------------------------- the storm
    async def _disturb(self, scene: faults.Scene, address: str) -> None:
        """Let clients spawn and workers work while faults strike, until both are through."""
        plan = self._plan
        await self._create_schedule()
        scene.fleet.replenish()
        scene.schedulers.replenish()
        share = plan.tasks // plan.clients
        for number in range(plan.clients):
            settings = PartySettings(
                f"c{number}", address, str(self._history.path), plan.seed * 1000 + number,
                tasks=share, duration_s=plan.duration_s * 0.8, skew_s=self._skew_s(number + 1),
                fan_in=_FAN_IN if number == 0 and share > 3 * _FAN_IN else 0,
            )  # fmt: skip
            self._clients.append(Party("load", settings, plan.directory))
        watching = [asyncio.create_task(self._watch(scene)), asyncio.create_task(self._haunt())]
        try:
            await self._strike(scene)
            for client in self._clients:
                await asyncio.to_thread(client.process.wait)
                client.check()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.wait(watching)
        for task in watching:
            if not task.cancelled():
                task.result()  # it ended by itself: it has found something

    async def _strike(self, scene: faults.Scene) -> None:
        began_s = time.monotonic()
        running: list[asyncio.Task[None]] = []
        for moment_s, kind in faults.schedule(self._chance, self._plan.kinds, self._plan.kills, self._plan.duration_s):
            await asyncio.sleep(max(0.0, began_s + moment_s - time.monotonic()))
            self._say(f"{time.monotonic() - began_s:6.1f} s  {kind}")
            running.append(asyncio.create_task(faults.FAULTS[kind](scene), name=kind))
        await asyncio.gather(*running)

    async def _watch(self, scene: faults.Scene) -> None:
        """Replace processes that have ended, and look whether any task is misplaced."""
        while True:
            scene.fleet.replenish()
            scene.schedulers.replenish()
            await self._quietly(self._sample)
            await asyncio.sleep(0.25)

    async def _sample(self, session: Any) -> None:
        self._history.write("sample", misplaced=await session.fetchval(statements.MISPLACED))

    async def _haunt(self) -> None:
        """Write under claims that are over, all the time."""
        while True:
            await self._quietly(self._haunt_once)
            await asyncio.sleep(0.5)

    async def _haunt_once(self, session: Any) -> None:
        for row in await session.fetch(statements.OLD_CLAIMS, 5):
            verb, (statement, more) = next(self._ghost_writes)
            answer = await session.fetchval(statement, row["task_id"], row["claim"], *more)
            self._history.write(
                "ghost", verb=verb, task=row["task_id"], claim=row["claim"], accepted=answer not in (None, False)
            )

    async def _quietly(self, look: Callable[[Any], Awaitable[None]]) -> None:
        """Do something on a session of its own; when the server is away just now, leave it out."""
        try:
            session = await open_connection(self._ground.url, "chaos")
        except PASSING:
            return
        try:
            await look(session)
        except PASSING:
            if not session.is_closed():
                raise
        finally:
            session.terminate()

    # ------------------------------------------------------------------------------------------------------------- end
    async def _drain(self, scene: faults.Scene) -> None:
        """Wait until every task has ended; those that have not when the time is over count as lost."""
        deadline = time.monotonic() + self._plan.drain_s
        self._say("the storm is over; the queue drains")
        scene.schedulers.close()
        for scheduler in scene.schedulers:
            await asyncio.to_thread(scheduler.process.wait, 20.0)
        while time.monotonic() < deadline:
            scene.fleet.replenish()
            async with self._session() as session:
                if await session.fetchval(statements.LIVE) == 0:
                    return
            await asyncio.sleep(0.25)
        self._say(f"the queue has not drained in {self._plan.drain_s:g} s")

    async def _wake(self, fleet: Fleet) -> None:
        """Spawn single tasks for the idle workers while every notification is lost."""
        if not self._plan.wakes:
            return
        self._proxy.drop_notifications = True
        fleet.replenish()
        async with AbsurdClient(PartySettings("wake", self._ground.url, "", 0).queue()) as client:
            await asyncio.sleep(2.0)
            for _ in range(self._plan.wakes):
                task = await client.spawn("plain", {}, queue=QUEUE)
                self._history.write("wake", task=task)
                await asyncio.sleep(self._chance.uniform(1.2, 1.6))
        self._proxy.drop_notifications = False

    async def _stop(self, fleet: Fleet) -> None:
        for worker in fleet.running():
            self._history.write("fault", kind="term", op="end of the campaign", worker=worker.who)
        fleet.close()
        for worker in fleet:
            await asyncio.to_thread(worker.process.wait, 20.0)

    async def _gather(self) -> Evidence:
        async with self._session() as session:
            await sound_claim(session, self._history)
            before = time.time()
            server_s = await session.fetchval(statements.TRUE_CLOCK)
            ahead_s = server_s - (before + time.time()) / 2.0
            evidence = Evidence(
                terms=Terms(lease_s=self._plan.lease_s),
                journal=[dict(row) | {"at": row["at"] - ahead_s} for row in await session.fetch(statements.JOURNAL)],
                tasks=[row["row"] for row in await session.fetch(statements.TASKS)],
                attempts=[dict(row) for row in await session.fetch(statements.ATTEMPTS)],
                edges=[dict(row) for row in await session.fetch(statements.EDGES)],
                ticks=[dict(row) for row in await session.fetch(statements.TICKS, self._first_tick)],
                permits=[dict(row) for row in await session.fetch(statements.PERMITS)],
                server_words=self._ground.server.errors() if self._ground.server else [],
            )
        if self._plan.wakes:
            await sound_snapshot(self._ground.url, self._history)
        evidence.events.extend(read_history(self._history.path))
        evidence.save(self._plan.directory)
        return evidence

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        """Give a connection to the server itself, past the proxy."""
        connection = await open_connection(self._ground.url, "chaos")
        try:
            yield connection
        finally:
            connection.terminate()


_GHOST_WRITES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "complete": (work.COMPLETE_TASK, ({"claim": -1},)),
    "flush": (statements.STALE_FLUSH, ()),
    "fail": (work.FAIL_TASK, ({"type": "Ghost", "message": "from beyond"}, True, 0.0)),
    "snooze": (work.SNOOZE_TASK, (0.0,)),
    "release": (work.RELEASE_TASK, ()),
    "progress": (work.REPORT_PROGRESS, (0.5, "boo")),
    "beat": (statements.STALE_BEAT, ()),
}


async def _run(plan: Plan, ground: Ground, say: Callable[[str], None]) -> Evidence:
    return await Campaign(plan, ground, say).run()


def run_campaign(plan: Plan, say: Callable[[str], None]) -> Evidence:
    """Run a campaign and return its evidence, which is also written to its directory."""
    plan.directory.mkdir(parents=True, exist_ok=True)
    with open_ground(plan.database_url, plan.directory) as ground:
        return asyncio.run(_run(plan, ground, say))
