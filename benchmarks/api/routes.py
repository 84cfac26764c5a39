"""Processor time, rate and latency of each route: ours, the earlier backend, a plain implementation, bare servers."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from benchmarks.api import contestants
from benchmarks.api.load import Answers, ask
from benchmarks.api.servers import Child
from benchmarks.api.world import World
from benchmarks.queue.report import Table, median

CONNECTIONS = 4


#: A server is asked for so long in one turn at most: some of the earlier replies take 0.3 s.
_TURN_S = 4.0


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
        By name; the others are compared with the first. ``earlier`` may be among them, and then it is asked for all
        that it had, ``plain``, which has the hot routes only, and any number of ours.
    rounds, requests : int
        How often each is asked for how many answers, or as many as come in ``_TURN_S``.
    """
    first = next(iter(servers))
    table = Table(
        f"One request: processor time of the server, rate and latency ({world.images:,} images, "
        f"{world.measurements:,} measurements; {CONNECTIONS} connections)",
        ["route", "server", "CPU µs", f"times less than {first}", "goal", "answers/s", "p50 ms", "p99 ms", "bytes"],
    )
    for route in hot(world):
        found = await _in_turn(route, servers, rounds, requests)
        _add(table, route, found)
        await _add_ceilings(table, route, found, requests)
    if first == "earlier":
        able = {name: child for name, child in servers.items() if name != "plain"}
        for route in others(world):
            _add(table, route, await _in_turn(route, able, rounds, requests))
    return table


async def _in_turn(route: Route, servers: Mapping[str, Child], rounds: int, requests: int) -> dict[str, list[Cost]]:
    found: dict[str, list[Cost]] = {name: [] for name in servers}
    numbers = {name: await _answers_of_a_turn(child, route, requests) for name, child in servers.items()}
    for number in range(rounds + 1):
        for name, child in servers.items():
            measured = await cost(child, route.paths, numbers[name])
            if number:  # the first round warms up
                found[name].append(measured)
    return found


async def _answers_of_a_turn(child: Child, route: Route, requests: int) -> int:
    fewest = 2 * CONNECTIONS
    await ask(child.port, route.paths, CONNECTIONS, fewest)  # imports what it needs for this route
    tried = await ask(child.port, route.paths, CONNECTIONS, fewest)
    return max(fewest, min(requests, int(tried.rate * _TURN_S)))


def _add(table: Table, route: Route, found: Mapping[str, list[Cost]]) -> None:
    first, first_us = _first(found)
    for name, costs in found.items():
        cpu_us = median(each.cpu_us for each in costs)
        last = costs[-1].answers
        ratio = None if name == first else first_us / cpu_us
        goal = route.goal if name.startswith("ours") else None
        rate = median(each.answers.rate for each in costs)
        p50, p99 = (median(each.answers.quantile_ms(share) for each in costs) for share in (0.5, 0.99))
        table.rows.append((route.name, name, cpu_us, ratio, goal, rate, p50, p99, last.bytes_read // last.count))


def _first(found: Mapping[str, list[Cost]]) -> tuple[str, float]:
    name, costs = next(iter(found.items()))
    return name, median(each.cpu_us for each in costs)


async def _add_ceilings(table: Table, route: Route, found: Mapping[str, list[Cost]], requests: int) -> None:
    """Measure what the server itself and the framework take for a body of the size of ours."""
    answers = next(costs[-1].answers for name, costs in found.items() if name.startswith("ours"))
    size = answers.bytes_read // answers.count
    for kind in ("asgi", "fastapi"):
        with contestants.bare(kind, size) as child:
            await cost(child, ["/"], requests // 4)
            measured = await cost(child, ["/"], requests)
        ratio = _first(found)[1] / measured.cpu_us
        row = (route.name, f"bare {kind}", measured.cpu_us, ratio, None, measured.answers.rate)
        table.rows.append((*row, *(measured.answers.quantile_ms(share) for share in (0.5, 0.99)), size))
