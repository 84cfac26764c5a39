"""What waiting without threads costs and gains: the same reply from threads, awaited in new connections, and ours."""

from benchmarks.api.servers import Child
from benchmarks.api.turns import Turns
from benchmarks.queue.report import Table


async def measure(plain: Child, ours: Child, turns: Turns) -> Table:
    """Return the table: a reply that asks nobody, and a list of 100 rows by the same query.

    The plain server is without an index for the order of the list, as the earlier one was.
    """
    table = Table(
        f"Threads, awaiting, and ours: {turns.connections} connections",
        ["reply", "way", "answers/s", "CPU µs", "p50 ms", "p99 ms"],
    )
    servers = {"plain": plain, "ours": ours}
    for reply, ways in _WAYS.items():
        found = await turns.take({way: (servers[server], [path]) for way, (server, path) in ways.items()})
        for way, costs in found.items():
            table.rows.append((reply, way, costs.rate, costs.cpu_us, costs.quantile_ms(0.5), costs.quantile_ms(0.99)))
    return table


_WAYS = {
    "asks nobody": {
        "a plain function in a thread": ("plain", "/threads/health"),
        "awaited": ("plain", "/api/v1/health"),
        "ours": ("ours", "/api/v1/health"),
    },
    "100 images": {
        "a plain function in a thread, a connection each": ("plain", "/threads/images"),
        "awaited, a connection each": ("plain", "/async/images"),
        "ours": ("ours", "/api/v1/images?limit=100"),
    },
}
