"""A client of a campaign: it spawns, cancels and retries, and writes down what it asked and what it was told."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from dsa110_contimg.absurd.client import AbsurdClient, Dependency, Policy, TaskSpec
from dsa110_contimg.absurd.connection import PASSING, QueueUnavailableError, open_connection
from dsa110_contimg.chaos.history import History
from dsa110_contimg.chaos.settings import KEYS, LENIENT, PartySettings, set_clock

_POLICIES: Sequence[Policy] = ("success", "success", "done", "failure")


class Load:
    """Spawns a given number of tasks of all kinds in a random order that the seed decides."""

    def __init__(self, client: AbsurdClient, history: History, settings: PartySettings) -> None:
        self._client = client
        self._history = history
        self._settings = settings
        self._chance = random.Random(settings.seed)  # noqa: S311 - to be repeatable, not to be secret
        self._calls = 0
        self._spawned = 0
        self._recent: list[UUID] = []

    async def run(self) -> None:
        """Spawn until the number is reached, over the time that was asked for."""
        kinds: Mapping[Callable[[], Awaitable[None]], float] = {
            self._plain: 8, self._chain: 2, self._diamond: 2, self._fan_in: 0.7, self._flaky: 2, self._idempotent: 3,
            self._keyed: 4, self._transactional: 3, self._later: 2, self._slow: 0.5, self._poison: 0.2,
            self._cancel: 2, self._retry: 1,
        }  # fmt: skip
        pause_s = self._settings.duration_s / max(1, self._settings.tasks)
        if self._settings.fan_in:
            await self._gather(self._settings.fan_in)
        while self._spawned < self._settings.tasks:
            before = self._spawned
            await self._chance.choices(list(kinds), list(kinds.values()))[0]()
            await asyncio.sleep(pause_s * (self._spawned - before) * self._chance.uniform(0.5, 1.5))

    # ------------------------------------------------------------------------------------------------------- the kinds
    def _spec(self, name: str, depends_on: Sequence[UUID | Dependency] = (), **params: Any) -> TaskSpec:
        sleep_s = self._chance.choice((0.0, 0.0, 0.01, 0.03, 0.1, 0.4))
        return TaskSpec(
            name, {"sleep_s": sleep_s, **params}, depends_on=depends_on, priority=self._chance.randrange(-2, 3),
            max_retries=3, backoff_base_sec=0.05, backoff_cap_sec=0.5, max_crashes=LENIENT,
        )  # fmt: skip

    async def _plain(self) -> None:
        await self._many([self._spec("plain")])

    async def _flaky(self) -> None:
        await self._many([self._spec("flaky", fail=self._chance.choice((1, 2, 3, 9)))])

    async def _chain(self) -> None:
        nodes: list[TaskSpec] = []
        for _ in range(self._chance.randrange(2, 6)):
            nodes.append(self._spec("node", [nodes[-1].task_id] if nodes else []))
        await self._graph(nodes)

    async def _diamond(self) -> None:
        first = self._spec("node", fail=self._chance.choice((0, 0, 1, 9)))
        middle = [
            self._spec("node", [Dependency(first.task_id, self._chance.choice(_POLICIES))])
            for _ in range(self._chance.randrange(2, 5))
        ]
        last = self._spec("node", [Dependency(one.task_id, self._chance.choice(_POLICIES[1:3])) for one in middle])
        await self._graph([first, *middle, last])

    async def _fan_in(self) -> None:
        await self._gather(self._chance.randrange(10, 40))

    async def _gather(self, count: int) -> None:
        """Spawn a task that waits for many."""
        parents = [self._spec("node", sleep_s=0.0) for _ in range(count)]
        await self._graph([*parents, self._spec("node", [one.task_id for one in parents])])

    async def _keyed(self) -> None:
        key = self._chance.choice(list(KEYS))
        await self._many(
            [replace(self._spec("keyed"), concurrency_key=key) for _ in range(self._chance.randrange(1, 5))]
        )

    async def _later(self) -> None:
        moment = datetime.now(UTC) + timedelta(seconds=self._chance.uniform(0.2, 2.0))
        await self._many([replace(self._spec("plain"), run_at=moment)])

    async def _slow(self) -> None:
        """Spawn what takes longer than it may."""
        await self._many([replace(self._spec("slow", sleep_s=5.0), timeout_sec=0.3, max_retries=1)])

    async def _poison(self) -> None:
        await self._many([replace(self._spec("poison", kill=True, sleep_s=0.05), max_crashes=2)])

    async def _idempotent(self) -> None:
        """Spawn with one key from several places at once: whoever comes first makes the task, all get it."""
        key = f"{self._settings.who}-{self._calls}"
        calls = [[replace(self._spec("plain"), idempotency_key=key)] for _ in range(3)]
        await asyncio.gather(*(self._many(specs, key) for specs in calls))

    async def _transactional(self) -> None:
        """Spawn in a transaction of our own, and roll it back in four cases of ten."""
        specs = [self._spec("plain") for _ in range(self._chance.randrange(1, 4))]
        told = self._tell_invocation(specs, None)
        connection = None
        try:
            connection = await open_connection(self._settings.queue().database_url, "absurd chaos transaction")
            transaction = connection.transaction()
            await transaction.start()
            await self._client.spawn_graph_on(connection, "chaos", specs)
            if self._chance.random() < 0.4:
                await transaction.rollback()
                self._history.write("spawn", op="aborted", **told)
            else:
                await transaction.commit()
                self._history.write("spawn", op="ok", **told)
        except PASSING as error:
            self._history.write("spawn", op="unknown", error=repr(error), **told)
        finally:
            if connection is not None:
                connection.terminate()

    async def _cancel(self) -> None:
        if self._recent:
            await self._tell("cancel", self._client.cancel_task, self._chance.choice(self._recent))

    async def _retry(self) -> None:
        if self._recent:
            await self._tell("retry", self._client.retry_task, self._chance.choice(self._recent))

    # ---------------------------------------------------------------------------------------------- asking and telling
    async def _graph(self, specs: Sequence[TaskSpec]) -> None:
        async def call() -> list[UUID]:
            await self._client.spawn_graph("chaos", specs)
            return [spec.task_id for spec in specs]

        await self._persist(call, self._tell_invocation(specs, None))

    async def _many(self, specs: Sequence[TaskSpec], key: str | None = None) -> None:
        async def call() -> list[UUID]:
            return [spawned.task_id for spawned in await self._client.spawn_many(specs)]

        await self._persist(call, self._tell_invocation(specs, key))

    def _tell_invocation(self, specs: Sequence[TaskSpec], key: str | None) -> dict[str, Any]:
        self._calls += 1
        self._spawned += len(specs)
        told = {"call": self._calls, "tasks": [str(spec.task_id) for spec in specs], "key": key}
        self._history.write("spawn", op="invoke", **told)
        return told

    async def _persist(self, call: Callable[[], Awaitable[list[UUID]]], told: dict[str, Any]) -> None:
        """Spawn, and in half the cases spawn the same again when the answer got lost."""
        for _ in range(10):
            try:
                tasks = await call()
            except QueueUnavailableError as error:
                self._history.write("spawn", op="unknown", error=str(error), **told)
                if self._chance.random() < 0.5:
                    return
                await asyncio.sleep(0.2)
            else:
                self._history.write("spawn", op="ok", **{**told, "tasks": [str(task) for task in tasks]})
                self._recent = [*self._recent[-200:], *tasks]
                return

    async def _tell(self, verb: str, call: Callable[[UUID], Awaitable[bool]], task: UUID) -> None:
        self._history.write(verb, op="invoke", task=task)
        try:
            self._history.write(verb, op="ok", task=task, answer=await call(task))
        except QueueUnavailableError as error:
            self._history.write(verb, op="unknown", task=task, error=str(error))


async def spawn_all(settings: PartySettings, history: History) -> None:
    """Connect, through whatever is broken just now, and spawn."""
    for _ in range(50):
        client = AbsurdClient(settings.queue())
        try:
            await client.connect()
        except QueueUnavailableError as error:
            history.write("word", level="INFO", text=str(error))
            await asyncio.sleep(0.2)
            continue
        await Load(client, history, settings).run()
        await client.close()
        return


def main() -> None:
    """Spawn as standard input says."""
    settings = PartySettings.from_stdin()
    history = History(settings.path, settings.who)
    set_clock(settings.skew_s)
    asyncio.run(spawn_all(settings, history))


if __name__ == "__main__":
    main()
