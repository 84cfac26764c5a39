"""What is done to the queue, and when: a schedule that a seed decides."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from dsa110_contimg.absurd.connection import PASSING
from dsa110_contimg.chaos import statements
from dsa110_contimg.chaos.history import History
from dsa110_contimg.chaos.parties import Fleet, Party
from dsa110_contimg.chaos.proxy import ChaosProxy
from dsa110_contimg.chaos.server import Ground


@dataclass
class Scene:
    """What faults can get hold of."""

    ground: Ground
    proxy: ChaosProxy
    fleet: Fleet
    schedulers: Fleet
    history: History
    chance: random.Random
    lease_s: float

    @contextlib.contextmanager
    def noted(self, kind: str, **what: Any) -> Iterator[None]:
        """Write down begin and end of a fault."""
        self.history.write("fault", kind=kind, op="begin", **what)
        yield
        self.history.write("fault", kind=kind, op="end", **what)


async def kill(scene: Scene) -> None:
    """Kill a worker (kill -9), alone or with its whole machine, and start another in its place; in half the cases a
    scheduler dies, too."""
    if victim := await _victim(scene):
        whole = scene.chance.random() < 0.5
        scene.history.write("fault", kind="kill", op="begin", worker=victim.who, whole=whole)
        victim.kill(whole)
        scene.fleet.replenish()
    if (schedulers := scene.schedulers.running()) and scene.chance.random() < 0.5:
        scene.chance.choice(schedulers).kill()


async def term(scene: Scene) -> None:
    """Ask a worker to stop softly (SIGTERM), as a rolling restart does; another takes its place."""
    if victim := await _victim(scene):
        scene.history.write("fault", kind="term", op="begin", worker=victim.who)
        victim.ask_to_stop()


async def freeze(scene: Scene) -> None:
    """Stop a worker past its lease (SIGSTOP) and let it go on (SIGCONT), sure of itself and wrong."""
    victim = await _victim(scene)
    if victim is None:
        return
    whole = scene.chance.random() < 0.5
    with scene.noted("freeze", worker=victim.who, whole=whole):
        victim.freeze(whole)
        await asyncio.sleep(scene.lease_s + scene.chance.uniform(0.3, 1.5))
        victim.thaw()


async def sessions(scene: Scene) -> None:
    """End some of the queue's sessions (pg_terminate_backend)."""
    with scene.noted("sessions"):
        await _ask(scene, statements.CUT_SESSIONS, scene.chance.randrange(1, 6))


async def restart(scene: Scene) -> None:
    """Crash the server (immediate shutdown) and start it again."""
    server = scene.ground.server
    if server is not None:
        with scene.noted("restart"):
            await asyncio.to_thread(server.crash)
            await asyncio.to_thread(server.start)


async def commit(scene: Scene) -> None:
    """Cut connections at the commit: some before the server hears of it, some after it has answered."""
    with scene.noted("commit"):
        for _ in range(5):
            scene.proxy.arm("after" if scene.chance.random() < 0.7 else "before")
            await asyncio.sleep(scene.chance.uniform(0.0, 0.1))


async def partition(scene: Scene) -> None:
    """Cut every connection at once."""
    with scene.noted("partition", connections=scene.proxy.cut_all()):
        pass


async def blackout(scene: Scene) -> None:
    """Let nobody reach the server for a while, as when a switch starts again."""
    with scene.noted("blackout"):
        scene.proxy.refuse = True
        scene.proxy.cut_all()
        await asyncio.sleep(scene.chance.uniform(0.5, 0.5 * scene.lease_s))
        scene.proxy.refuse = False


async def silence(scene: Scene) -> None:
    """Lose every notification for a while."""
    with scene.noted("silence"):
        scene.proxy.drop_notifications = True
        await asyncio.sleep(scene.chance.uniform(1.0, 3.0))
        scene.proxy.drop_notifications = False


async def delay(scene: Scene) -> None:
    """Hold every packet back for up to 50 ms, for a while."""
    with scene.noted("delay"):
        scene.proxy.delay_s = 0.05
        await asyncio.sleep(scene.chance.uniform(0.5, 2.0))
        scene.proxy.delay_s = 0.0


async def exhaust(scene: Scene) -> None:
    """Take every connection that the server has left, and cut the queue's, so that it has to ask for new ones."""
    if scene.ground.server is None:
        return  # others may need that server
    held: list[Any] = []
    with scene.noted("exhaust"):
        try:
            while len(held) < 1000:
                held.append(await asyncpg.connect(scene.ground.url, timeout=2.0))
        except (*PASSING, asyncpg.PostgresError):
            scene.proxy.cut_all()
            await asyncio.sleep(scene.chance.uniform(0.3, 1.2))
        finally:
            for connection in held:
                connection.terminate()


async def _victim(scene: Scene) -> Party | None:
    """Choose a worker: one that runs a task, if there is one, because only such a loss is worth the trouble."""
    holders = {row["worker_id"] for row in await _ask(scene, statements.HOLDERS)}
    running = scene.fleet.running()
    busy = [worker for worker in running if worker.who in holders]
    return scene.chance.choice(busy or running) if running else None


async def _ask(scene: Scene, statement: str, *args: Any) -> list[Any]:
    """Run a statement past the proxy; nothing when the server is down, because another fault is at work."""
    try:
        connection = await asyncpg.connect(scene.ground.url, timeout=2.0)
    except PASSING:
        return []
    try:
        return list(await connection.fetch(statement, *args))
    except PASSING:
        return []
    finally:
        connection.terminate()


#: Kind → what does it. ``skew`` has no entry: it is a property of workers, not a moment.
FAULTS: Mapping[str, Callable[[Scene], Coroutine[Any, Any, None]]] = {
    "kill": kill,
    "term": term,
    "freeze": freeze,
    "sessions": sessions,
    "restart": restart,
    "commit": commit,
    "partition": partition,
    "blackout": blackout,
    "silence": silence,
    "delay": delay,
    "exhaust": exhaust,
}
KINDS = (*FAULTS, "skew")


def schedule(chance: random.Random, kinds: Collection[str], kills: int, duration_s: float) -> list[tuple[float, str]]:
    """Return when (in seconds from the beginning) which fault strikes; the same seed gives the same schedule.

    Workers are killed ``kills`` times; each other kind strikes once for every eight kills, at least once.
    """
    moments = []
    for kind in sorted(set(kinds) & FAULTS.keys()):
        count = kills if kind == "kill" else max(1, kills // 8)
        moments += [(chance.uniform(0.05, 0.95) * duration_s, kind) for _ in range(count)]
    return sorted(moments)
