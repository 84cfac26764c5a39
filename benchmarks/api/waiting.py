"""What waiting without threads costs and gains: the same reply from threads, awaited in new connections, and ours."""

from benchmarks.api.load import Answers, ask
from benchmarks.api.servers import Child
from benchmarks.queue.report import Table, median

CONNECTIONS = 50


async def measure(plain: Child, ours: Child, rounds: int, requests: int) -> Table:
    """Return the table: a reply that asks nobody, and a list of 100 rows by the same query.

    The plain server is without an index for the order of the list, as the earlier one was.
    """
    table = Table(
        f"Threads, awaiting, and ours: {CONNECTIONS} connections",
        ["reply", "way", "answers/s", "CPU µs", "p50 ms", "p99 ms"],
    )
    for reply, ways in _WAYS.items():
        found: dict[str, list[tuple[Answers, float]]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, (server, path) in ways.items():
                measured = await _one(plain if server == "plain" else ours, path, requests)
                if number:  # the first round warms up
                    found[way].append(measured)
        for way, rows in found.items():
            figures = [(a.rate, cpu_us, a.quantile_ms(0.5), a.quantile_ms(0.99)) for a, cpu_us in rows]
            table.rows.append((reply, way, *(median(row[i] for row in figures) for i in range(4))))
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


async def _one(child: Child, path: str, requests: int) -> tuple[Answers, float]:
    before_s = child.cpu_s()
    answers = (await ask(child.port, [path], CONNECTIONS, requests)).require_ok()
    return answers, (child.cpu_s() - before_s) / answers.count * 1e6
