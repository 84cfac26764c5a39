"""Run the benchmarks of the API.

python -m benchmarks.api --quick
python -m benchmarks.api --full --json figures.json
python -m benchmarks.api --only routes --databases sqlite
python -m benchmarks.api --only routes --earlier ../earlier
python -m benchmarks.api --quick --page docs/ASYNC_PERFORMANCE_REPORT.md
"""

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from benchmarks.api import contestants, earlier, generator, growth, pressure, routes, waiting
from benchmarks.api.page import renew
from benchmarks.api.servers import Child, on_one_processor
from benchmarks.api.turns import Turns
from benchmarks.api.world import World
from benchmarks.queue.report import Table

from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.up.servers import EmbeddedPostgres

DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    world: World
    growth: tuple[int, ...]
    rounds: int
    turn_s: float
    requests: int
    window_s: float
    clients: int


#: A light curve has 200 measurements in each, but in the tiny one; most sources of the others have 16.
SIZES = {
    "tiny": Size(World(200, 50, 1_000, crowded=200), (400, 800), 1, 0.02, 20, 0.5, 20),
    "quick": Size(World(20_000, 50_000, 1_000_000, curve=200), (10_000, 1_000_000), 7, 0.3, 400, 5.0, 2_000),
    "full": Size(
        World(20_000, 50_000, 1_000_000, curve=200), (10_000, 1_000_000, 10_000_000), 7, 0.3, 1_000, 60.0, 9_000
    ),
}


@dataclass(slots=True)
class Bench:
    """The databases of one run, each made when first asked for."""

    size: Size
    databases: list[str]
    home: Path
    checkout: Path | None = None
    postgres: EmbeddedPostgres | None = None
    made: dict[str, dict[str, str]] = field(default_factory=dict)

    def database(self, kind: str, world: World) -> dict[str, str]:
        """Return the settings of a database that holds ``world``."""
        name = f"{kind}_{world.images}_{world.sources}_{world.measurements}"
        if name not in self.made:
            began = time.monotonic()
            self.made[name] = self._settings(kind, name)
            generator.write(APIConfig.from_env(self.made[name]).database, world)
            print(f"({name} made in {time.monotonic() - began:.0f} s)", flush=True)
        return self.made[name]

    def _settings(self, kind: str, name: str) -> dict[str, str]:
        state = self.home / name
        state.mkdir()
        common = {"DSA110_STATE_DIR": str(state), "DSA110_DB_BACKEND": kind}
        if kind == "sqlite":
            return common
        if self.postgres is None:
            settings = {"shared_buffers": "512MB", "max_wal_size": "8GB", "fsync": "off"}
            self.postgres = EmbeddedPostgres(self.home / "postgres", settings)
            self.postgres.start()
        return common | {"DSA110_DB_PG_URL": _new_database(self.postgres, name)}

    def earlier(self, world: World) -> Path:
        """Return the folder of databases of the earlier backend that hold ``world``."""
        folder = self.home / "earlier"
        if not folder.exists():
            earlier.write(folder, world)
        return folder

    def turns(self, connections: int, rounds: int = 1) -> Turns:
        """Return how servers are asked in turn; ``rounds`` are counted in those of this size."""
        return Turns(rounds * self.size.rounds, self.size.turn_s, connections)

    @contextmanager
    def before(self, world: World) -> Iterator[dict[str, Child]]:
        """Run the earlier backend, if there is a checkout of it."""
        if self.checkout is None:
            yield {}
            return
        with contestants.earlier(self.checkout, self.earlier(world)) as child:
            yield {"earlier": child}

    @contextmanager
    def remembering(self, world: World) -> Iterator[dict[str, Child]]:
        """Run our API once more over each database kind, as it is by default: it keeps its replies."""
        with ExitStack() as stack:
            settings = {kind: self.database(kind, world) | {"DSA110_REPLY_MEMORY_MB": "16"} for kind in self.databases}
            yield {f"ours, {kind}": stack.enter_context(contestants.ours(settings[kind])) for kind in self.databases}

    @contextmanager
    def ours(self, world: World) -> Iterator[dict[str, Child]]:
        """Run our API over each database kind."""
        with ExitStack() as stack:
            yield {
                f"ours, {kind}": stack.enter_context(contestants.ours(self.database(kind, world)))
                for kind in self.databases
            }


def _new_database(postgres: EmbeddedPostgres, name: str) -> str:
    asyncio.run(_create(postgres.url, name))
    return postgres.database_url(name)


async def _create(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(f"create database {name}")
    await connection.close()


def _measured(table: Coroutine[Any, Any, Table]) -> Table:
    with on_one_processor():
        return asyncio.run(table)


def measure_routes(bench: Bench) -> Table:
    """Measure every hot route: the earlier backend if it is there, plain and ours, with the ceilings."""
    world = bench.size.world
    with (
        bench.before(world) as before,
        bench.ours(world) as ours,
        bench.remembering(world) as remembering,
        contestants.plain(bench.earlier(world) / earlier.PRODUCTS) as plain,
        contestants.bare("asgi") as asgi,
        contestants.bare("fastapi") as fastapi,
    ):
        servers = {**before, "plain": plain, **ours}
        ceilings = {"bare asgi": asgi, "bare fastapi": fastapi}
        return _measured(routes.measure(world, servers, remembering, ceilings, bench.turns(connections=4)))


def measure_waiting(bench: Bench) -> Table:
    """Measure threads against awaiting against ours."""
    world = bench.size.world
    settings = bench.database("sqlite", world)
    with contestants.plain(bench.earlier(world) / earlier.PRODUCTS) as plain, contestants.ours(settings) as ours:
        return _measured(waiting.measure(plain, ours, bench.turns(connections=50)))


def measure_growth(bench: Bench) -> Table:
    """Measure the same routes at rising numbers of measurements."""
    worlds = [growth.grown(bench.size.world.images, n) for n in bench.size.growth]
    with ExitStack() as stack:
        found: dict[str, list[tuple[World, Child]]] = {}
        for world in worlds:
            for name, child in stack.enter_context(bench.ours(world)).items():
                found.setdefault(name, []).append((world, child))
        return _measured(growth.measure(found, bench.turns(connections=2, rounds=2)))


def measure_mixed(bench: Bench) -> Table:
    """Measure short replies beside long ones."""
    with bench.ours(bench.size.world) as ours:
        return _measured(pressure.beside_long_replies(ours, bench.size.world, bench.size.requests))


def measure_overload(bench: Bench) -> Table:
    """Measure four times what can be served, on the first of the databases."""
    with contestants.ours(bench.database(bench.databases[0], bench.size.world)) as child:
        return _measured(pressure.overload(child, 4, bench.size.window_s))


def measure_watchers(bench: Bench) -> Table:
    """Measure many WebSockets."""
    with contestants.ours(bench.database("sqlite", bench.size.world) | {"ABSURD_ENABLED": "true"}) as child:
        return _measured(pressure.watchers(child, bench.size.clients))


def measure_start(bench: Bench) -> Table:
    """Measure how long the API takes until it serves, and what it holds then."""
    table = Table("Start", ["database", "s until it serves", "CPU s", "MiB"])
    for kind in bench.databases:
        settings = bench.database(kind, bench.size.world)
        for _ in range(bench.size.rounds):
            began = time.perf_counter()
            with contestants.ours(settings) as child:
                table.rows.append((kind, time.perf_counter() - began, child.cpu_s(), child.rss_mib()))
    return table


MEASURES: dict[str, Callable[[Bench], Table]] = {
    "routes": measure_routes,
    "waiting": measure_waiting,
    "growth": measure_growth,
    "mixed": measure_mixed,
    "overload": measure_overload,
    "watchers": measure_watchers,
    "start": measure_start,
}


def run(
    size: str, measures: list[str], databases: list[str], page: Path | None = None, checkout: Path | None = None
) -> dict[str, object]:
    """Run benchmarks one after the other; print each table when it is there, and write it into ``page``."""
    figures: dict[str, object] = {"size": size, "cores": os.cpu_count(), "python": platform.python_version()}
    print(f"{figures}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="api-bench-") as home:
        bench = Bench(SIZES[size], databases, Path(home), checkout)
        try:
            for name in measures:
                began = time.monotonic()
                table = MEASURES[name](bench)
                figures[name] = asdict(table)
                print(table.markdown())
                if page:
                    renew(page, [table])
                print(f"({time.monotonic() - began:.0f} s)\n", flush=True)
        finally:
            if bench.postgres:
                bench.postgres.stop()
    return figures


def main() -> None:
    """Read the arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for size, amount in SIZES.items():
        parser.add_argument(f"--{size}", dest="size", action="store_const", const=size, help=f"{amount}")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES), help="these benchmarks")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES), help="these databases")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--page", type=Path, help="also put the tables into this page, in the place of earlier ones")
    parser.add_argument(
        "--earlier",
        type=Path,
        metavar="DIRECTORY",
        help="a checkout of the earlier backend with its interpreter in .venv",
    )
    parser.set_defaults(size="quick")
    arguments = parser.parse_args()
    figures = run(arguments.size, arguments.only, arguments.databases, arguments.page, arguments.earlier)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
