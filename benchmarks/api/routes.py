"""Processor time, rate and latency of each route, ours beside the plain implementation and the bare servers."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.api import contestants
from benchmarks.api.load import Answers, ask
from benchmarks.api.servers import Child
from benchmarks.api.world import World
from benchmarks.queue.report import Table, median

CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Route:
    """One route as this benchmark asks it.

    Attributes
    ----------
    name : str
        Shown in the table.
    paths : list of str
        Asked in turn.
    goal : float, optional
        How many times less processor time than the plain implementation it should take (design of the API).
    share : float
        Part of the usual number of requests; the plain implementation is slow at some.
    """

    name: str
    paths: list[str]
    goal: float | None = None
    share: float = 1.0


def routes(world: World) -> list[Route]:
    """Return the routes that are measured, with many different things asked for."""
    images = [f"/api/v1/images/{i}" for i in range(1, world.images, max(1, world.images // 97))]
    sources = [world.source_id(i) for i in range(0, world.sources, max(1, world.sources // 97))]
    each = [f"/api/v1/sources/{name}" for name in sources]
    return [
        Route("image detail", images, 18),
        Route("image list, 100", ["/api/v1/images?limit=100"], 120, 0.2),
        Route("source list, 100", ["/api/v1/sources?limit=100"], 12, 0.1),
        Route("source detail", each, 180, 0.5),
        Route("light curve", [f"{path}/lightcurve" for path in each], 17, 0.5),
        Route("variability", [f"{path}/variability" for path in each], 1000, 0.5),
        Route("job list, 100", ["/api/v1/jobs?limit=100"], 55, 0.2),
        Route("stats", ["/api/v1/stats"], 700, 0.1),
    ]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one round of one route took."""

    cpu_us: float
    answers: Answers


async def cost(child: Child, paths: list[str], requests: int) -> Cost:
    """Ask and return the server's processor time of one answer, microseconds."""
    before_s = child.cpu_s()
    answers = (await ask(child.port, paths, CONNECTIONS, requests)).require_ok()
    return Cost((child.cpu_s() - before_s) / answers.count * 1e6, answers)


async def measure(world: World, servers: Mapping[str, Child], rounds: int, requests: int) -> Table:
    """Return the table of all routes; servers are asked in turn in every round.

    Parameters
    ----------
    world : World
        What lies in the databases.
    servers : mapping
        ``plain`` and any number of ours, by name.
    rounds, requests : int
        How often each is asked for how many answers.
    """
    table = Table(
        f"One request: processor time of the server, rate and latency ({world.images:,} images, "
        f"{world.measurements:,} measurements; {CONNECTIONS} connections)",
        ["route", "server", "CPU µs", "times less than plain", "goal", "answers/s", "p50 ms", "p99 ms", "bytes"],
    )
    for route in routes(world):
        found: dict[str, list[Cost]] = {name: [] for name in servers}
        for number in range(rounds + 1):
            for name, child in servers.items():
                wanted = max(CONNECTIONS, int(requests * (route.share if name == "plain" else 1.0)))
                measured = await cost(child, route.paths, wanted)
                if number:  # the first round warms up
                    found[name].append(measured)
        _add(table, route, found)
        await _add_ceilings(table, route, found, requests)
    return table


def _add(table: Table, route: Route, found: Mapping[str, list[Cost]]) -> None:
    plain_us = median(each.cpu_us for each in found["plain"])
    for name, costs in found.items():
        cpu_us = median(each.cpu_us for each in costs)
        last = costs[-1].answers
        ratio, goal = (None, None) if name == "plain" else (plain_us / cpu_us, route.goal)
        rate = median(each.answers.rate for each in costs)
        p50, p99 = (median(each.answers.quantile_ms(share) for each in costs) for share in (0.5, 0.99))
        table.rows.append((route.name, name, cpu_us, ratio, goal, rate, p50, p99, last.bytes_read // last.count))


async def _add_ceilings(table: Table, route: Route, found: Mapping[str, list[Cost]], requests: int) -> None:
    """Measure what the server itself and the framework take for a body of the same size."""
    answers = next(costs[-1].answers for name, costs in found.items() if name != "plain")
    size = answers.bytes_read // answers.count
    plain_us = median(each.cpu_us for each in found["plain"])
    for kind in ("asgi", "fastapi"):
        with contestants.bare(kind, size) as child:
            await cost(child, ["/"], requests // 4)
            measured = await cost(child, ["/"], requests)
        row = (route.name, f"bare {kind}", measured.cpu_us, plain_us / measured.cpu_us, None, measured.answers.rate)
        table.rows.append((*row, *(measured.answers.quantile_ms(share) for share in (0.5, 0.99)), size))
