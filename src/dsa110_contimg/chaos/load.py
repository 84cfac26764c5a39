"""A client of a campaign: it spawns, cancels and retries, and writes down what it asked and what it was told."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from uuid6 import uuid7

from dsa110_contimg.absurd.client import AbsurdClient, Dependency, Policy, TaskSpec
from dsa110_contimg.absurd.connection import QueueUnavailableError
from dsa110_contimg.chaos.history import History
from dsa110_contimg.chaos.settings import PartySettings, set_clock

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
        kinds: Sequence[tuple[Callable[[], Awaitable[None]], int]] = (
            (self._plain, 10), (self._chain, 2), (self._diamond, 2), (self._fan_in, 1), (self._flaky, 2),
            (self._idempotent, 3), (self._cancel, 2), (self._retry, 1),
        )  # fmt: skip
        pause_s = self._settings.duration_s / max(1, self._settings.tasks)
        while self._spawned < self._settings.tasks:
            before = self._spawned
            kind = self._chance.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
            await kind()
            await asyncio.sleep(pause_s * (self._spawned - before) * self._chance.uniform(0.5, 1.5))

    # ------------------------------------------------------------------------------------------------------- the kinds
    def _spec(self, name: str, depends_on: Sequence[UUID | Dependency] = (), **params: Any) -> TaskSpec:
        sleep_s = self._chance.choice((0.0, 0.0, 0.01, 0.03, 0.1, 0.4))
        return TaskSpec(
            name, {"sleep_s": sleep_s, **params}, uuid7(), depends_on, self._chance.randrange(-2, 3),
            max_retries=3, backoff_base_sec=0.05, backoff_cap_sec=0.5,
        )  # fmt: skip

    async def _plain(self) -> None:
        await self._graph([self._spec("plain")])

    async def _flaky(self) -> None:
        await self._graph([self._spec("flaky", fail=self._chance.choice((1, 2, 3, 9)))])

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
        parents = [self._spec("node") for _ in range(self._chance.randrange(10, 40))]
        await self._graph([*parents, self._spec("node", [one.task_id for one in parents])])

    async def _idempotent(self) -> None:
        """Spawn one task several times at once, as callers do that lost the answer: the same ids, the same task."""
        specs = [self._spec("plain")]
        await asyncio.gather(*(self._graph(specs, key=str(specs[0].task_id)) for _ in range(3)))

    async def _cancel(self) -> None:
        if self._recent:
            await self._tell("cancel", self._client.cancel_task, self._chance.choice(self._recent))

    async def _retry(self) -> None:
        if self._recent:
            await self._tell("retry", self._client.retry_task, self._chance.choice(self._recent))

    # ---------------------------------------------------------------------------------------------- asking and telling
    async def _graph(self, specs: Sequence[TaskSpec], key: str | None = None) -> None:
        """Spawn, and spawn again in half the cases when the answer got lost."""
        self._calls += 1
        told: Mapping[str, Any] = {"call": self._calls, "tasks": [str(spec.task_id) for spec in specs], "key": key}
        self._history.write("spawn", op="invoke", **told)
        self._spawned += len(specs)
        for _ in range(10):
            try:
                await self._client.spawn_graph("chaos", specs)
            except QueueUnavailableError as error:
                self._history.write("spawn", op="unknown", error=str(error), **told)
                if self._chance.random() < 0.5:
                    return
                await asyncio.sleep(0.2)
            else:
                self._history.write("spawn", op="ok", **told)
                self._recent = [*self._recent[-200:], *(spec.task_id for spec in specs)]
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
