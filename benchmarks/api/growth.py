"""Whether queries stay as fast when the database grows."""

from collections.abc import Mapping

from benchmarks.api.load import ask
from benchmarks.api.routes import CONNECTIONS, Route, cost
from benchmarks.api.servers import Child
from benchmarks.api.world import World
from benchmarks.queue.report import Table, median

LIMIT = 1.3


def paths(world: World, points: int) -> list[Route]:
    """Return what is asked: all of it must find little in much; a curve always has ``points`` measurements."""
    step = max(1, world.sources // 997)
    each = [f"/api/v1/sources/{world.source_id(i)}" for i in range(0, world.sources, step)]
    return [
        Route("source detail", each),
        Route(f"light curve, {points} points", [f"{path}/lightcurve" for path in each]),
        Route("variability", [f"{path}/variability" for path in each]),
        Route("source list, 100", ["/api/v1/sources?limit=100"]),
        Route("image list, 100", ["/api/v1/images?limit=100"]),
        Route("stats", ["/api/v1/stats"]),
    ]


async def measure(found: Mapping[str, list[tuple[World, Child]]], rounds: int, requests: int, points: int) -> Table:
    """Return the table of each database kind at each size, smallest first; sizes are asked in turn.

    Parameters
    ----------
    found : mapping
        By name of the server: its sizes in rising order.
    rounds, requests, points : int
        How often each is asked for how many answers; measurements of one source.
    """
    table = Table(
        "Growth: latency of one request with two connections by number of measurements",
        ["route", "server", "measurements", "CPU µs", "p50 ms", "p99 ms", "p99 to the smallest", "limit"],
    )
    for server, sizes in found.items():
        for number in range(len(paths(sizes[0][0], points))):
            _add(table, server, [world for world, _ in sizes], await _one(sizes, number, rounds, requests, points))
    return table


Figures = tuple[str, float, float, float]


async def _one(sizes: list[tuple[World, Child]], number: int, rounds: int, requests: int, points: int) -> list[Figures]:
    measured: list[list[tuple[float, float, float]]] = [[] for _ in sizes]
    name = ""
    for round_number in range(rounds + 1):
        for place, (world, child) in enumerate(sizes):
            route = paths(world, points)[number]
            name = route.name
            one = await cost(child, route.paths, requests)
            answers = await ask(child.port, route.paths, CONNECTIONS // 2, requests)
            if round_number:
                measured[place].append((one.cpu_us, answers.quantile_ms(0.5), answers.quantile_ms(0.99)))
    return [(name, *(median(each[i] for each in rows) for i in range(3))) for rows in measured]


def _add(table: Table, server: str, worlds: list[World], figures: list[Figures]) -> None:
    smallest = figures[0][3]
    for world, (name, cpu_us, p50, p99) in zip(worlds, figures, strict=True):
        table.rows.append((name, server, world.measurements, cpu_us, p50, p99, p99 / smallest, LIMIT))
