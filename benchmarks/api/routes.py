"""Processor time, rate and latency of each route: ours, the earlier backend, a plain implementation, bare servers."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from benchmarks.api.load import ask
from benchmarks.api.servers import Child
from benchmarks.api.turns import Costs, Turns
from benchmarks.api.world import World
from benchmarks.queue.report import Table


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
        How many times less processor time than the earlier backend it should take (design of the API).
    """

    name: str
    paths: list[str]
    goal: float | None = None


def hot(world: World) -> list[Route]:
    """Return the routes that every implementation has, with many different things asked for."""
    sources = [f"/api/v1/sources/{world.source_id(i)}" for i in _some(world.sources, but=world.curved())]
    long = world.curved() or range(world.sources)
    curved = [f"/api/v1/sources/{world.source_id(i)}" for i in long[:: max(1, len(long) // 97)]]
    return [
        Route("image detail", [f"/api/v1/images/{i + 1}" for i in _some(world.images)], 18),
        Route("image list, 100", ["/api/v1/images?limit=100"], 120),
        Route("source list, 100", ["/api/v1/sources?limit=100"], 12),
        Route("source detail", sources, 180),
        Route("light curve", [f"{path}/lightcurve" for path in curved], 17),
        Route("variability", [f"{path}/variability" for path in curved], 1000),
        Route("job list, 100", ["/api/v1/jobs?limit=100"], 55),
        Route("stats", ["/api/v1/stats"], 700),
    ]


def others(world: World) -> list[Route]:
    """Return what else the earlier backend could be asked for."""
    numbers = _some(world.images)
    sets = [quote(world.ms_path(i), safe="") for i in numbers]
    tables = [quote(path, safe="") for path, _ in world.cal_tables()]
    asked = {
        "health": ["health"],
        "image provenance": [f"images/{i + 1}/provenance" for i in numbers],
        "image quality": [f"images/{i + 1}/qa" for i in numbers],
        "source quality": [f"sources/{world.source_id(i)}/qa" for i in _some(world.sources, but=world.curved())],
        "job detail": [f"jobs/{world.run_id(i)}" for i in numbers],
        "job provenance": [f"jobs/{world.run_id(i)}/provenance" for i in numbers],
        "job logs": [f"jobs/{world.run_id(i)}/logs" for i in numbers],
        "logs": [f"logs/{world.run_id(i)}" for i in numbers],
        "measurement set": [f"ms/{path}/metadata" for path in sets],
        "its calibrators": [f"ms/{path}/calibrator-matches" for path in sets],
        "its provenance": [f"ms/{path}/provenance" for path in sets],
        "report of an image": [f"qa/image/{i + 1}" for i in numbers],
        "report of a set": [f"qa/ms/{path}" for path in sets],
        "report of a job": [f"qa/job/{world.run_id(i)}" for i in numbers],
        "calibration table": [f"cal/{path}" for path in tables],
    }
    return [Route(name, [f"/api/v1/{path}" for path in paths], 10) for name, paths in asked.items()]


def _some(total: int, but: range = range(0)) -> list[int]:
    return [i for i in range(total) if i not in but][:: max(1, total // 97)]


def each_once(world: World) -> Route:
    """Return details of all images but those of :func:`hot`: so many that no turn comes to one that was asked for."""
    asked = set(_some(world.images))
    return Route(
        "image detail, each once", [f"/api/v1/images/{i + 1}" for i in range(world.images) if i not in asked], 18
    )


async def measure(
    world: World, servers: Mapping[str, Child], again: Mapping[str, Child], ceilings: Mapping[str, Child], turns: Turns
) -> Table:
    """Return the table of all routes.

    Parameters
    ----------
    world : World
        What lies in the databases.
    servers : mapping
        By name; the others are compared with the first. ``earlier`` may be among them, and then it is asked for all
        that it had, ``plain``, which has the hot routes only, and any number of ours.
    again : mapping
        Those of ours that keep replies.
    ceilings : mapping
        Bare servers: they answer with a body of the size of ours.
    turns : Turns
        How all that have a route are asked for it.
    """
    first = next(iter(servers))
    table = Table(
        f"One request: processor time of the server, rate and latency ({world.images:,} images, "
        f"{world.measurements:,} measurements; {turns.connections} connections)",
        ["route", "server", "CPU µs", f"times less than {first}", "goal", "answers/s", "p50 ms", "p99 ms", "bytes"],
    )
    able = {name: child for name, child in servers.items() if name != "plain" or first == "plain"}
    asked_again = {f"{name}, asked again": child for name, child in again.items()}
    asked_first = {f"{name}, asked the first time": child for name, child in again.items()}
    for route in hot(world):
        asked = _asked({**servers, **asked_again}, route)
        size = await _size(next(iter(again.values())), route)
        asked |= {name: (child, [f"/{size}"]) for name, child in ceilings.items()}
        _add(table, route, await turns.take(asked))
    route = each_once(world)
    _add(table, route, await turns.take(_asked({**able, **asked_first}, route)))
    for route in others(world) if first == "earlier" else []:
        _add(table, route, await turns.take(_asked({**able, **asked_again}, route)))
    return table


def _asked(servers: Mapping[str, Child], route: Route) -> dict[str, tuple[Child, list[str]]]:
    return {name: (child, route.paths) for name, child in servers.items()}


async def _size(ours: Child, route: Route) -> int:
    """Return how many bytes our answers have."""
    answers = await ask(ours.port, route.paths, connections=1)
    return answers.bytes_read // answers.count


def _add(table: Table, route: Route, found: Mapping[str, Costs]) -> None:
    first = next(iter(found.values()))
    for name, costs in found.items():
        ratio = None if costs is first else costs.times_less_cpu(first)
        goal = route.goal if name.startswith("ours") else None
        times = [costs.quantile_ms(0.5), costs.quantile_ms(0.99)]
        table.rows.append((route.name, name, costs.cpu_us, ratio, goal, costs.rate, *times, costs.size))
