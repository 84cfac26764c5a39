"""Whether queries stay as fast when the database grows."""

from collections.abc import Mapping, Sequence

from benchmarks.api.routes import Route
from benchmarks.api.servers import Child
from benchmarks.api.turns import Costs, Turns
from benchmarks.api.world import World
from benchmarks.queue.report import Table

LIMIT = 1.3

_POINTS = 40
_ASKED = 200


def grown(images: int, measurements: int) -> World:
    """Return a world in which nothing but the number of sources grows with the measurements."""
    return World(images, measurements // _POINTS, measurements, crowded=0)


def paths(world: World) -> list[Route]:
    """Return what is asked: all of it must find as little in however much."""
    step = world.sources // min(_ASKED, world.sources)
    each = [f"/api/v1/sources/{world.source_id(i)}" for i in range(0, world.sources, step)[:_ASKED]]
    return [
        Route("source detail", each),
        Route(f"light curve, {_POINTS} points", [f"{path}/lightcurve" for path in each]),
        Route("variability", [f"{path}/variability" for path in each]),
        Route("source list, 100", ["/api/v1/sources?limit=100"]),
        Route("image list, 100", ["/api/v1/images?limit=100"]),
        Route("stats", ["/api/v1/stats"]),
    ]


async def measure(found: Mapping[str, Sequence[tuple[World, Child]]], turns: Turns) -> Table:
    """Return the table of each database kind at each size; sizes are asked in turn.

    The 99th percentile is that of each turn, and compared with the smallest size's of the same round: of all turns
    together it would be that of the machine's worst moments.

    Parameters
    ----------
    found : mapping
        By name of the server: its sizes in rising order.
    turns : Turns
        How they are asked.
    """
    table = Table(
        f"Growth: latency of one request with {turns.connections} connections by number of measurements",
        ["route", "server", "measurements", "CPU µs", "p50 ms", "p99 ms", "p99 to the smallest", "limit"],
    )
    for server, sizes in found.items():
        for routes in zip(*(paths(world) for world, _ in sizes), strict=True):
            asked = {
                f"{world.measurements:,}": (child, route.paths)
                for (world, child), route in zip(sizes, routes, strict=True)
            }
            _add(table, routes[0].name, server, await turns.take(asked))
    return table


def _add(table: Table, route: str, server: str, found: Mapping[str, Costs]) -> None:
    smallest = next(iter(found.values()))
    for size, costs in found.items():
        times = [costs.quantile_ms(0.5), costs.quantile_ms(0.99), costs.times_later(smallest, 0.99)]
        table.rows.append((route, server, size, costs.cpu_us, *times, LIMIT))
