"""Run the benchmarks of the queue.

python -m benchmarks.queue --quick
python -m benchmarks.queue --full --json figures.json
python -m benchmarks.queue --only drain --queues ours raw pgqueuer
"""

import argparse
import asyncio
import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.queue import contestants
from benchmarks.queue.arena import Arena
from benchmarks.queue.measures import MEASURES
from benchmarks.queue.server import Server

#: Rounds, seconds that one drain may take, share of the full number of tasks.
SIZES = {"tiny": (1, 2.0, 0.002), "quick": (3, 4.0, 0.25), "full": (5, 12.0, 1.0)}


async def run(size: str, measures: list[str], names: list[str]) -> dict[str, Any]:
    """Run benchmarks one after the other; print each table when it is there."""
    rounds, window_s, scale = SIZES[size]
    figures: dict[str, Any] = {"size": size, "cores": os.cpu_count(), "python": platform.python_version()}
    async with Server() as server:
        figures["postgresql"] = await server.version()
        figures["queues"] = {name: await contestants.get(name).version() for name in names}
        print(f"{figures}\n", flush=True)
        arena = Arena(server, names, rounds, window_s, scale)
        for name in measures:
            started = time.monotonic()
            table = await MEASURES[name](arena)
            figures[name] = asdict(table)
            print(table.markdown())
            print(f"({time.monotonic() - started:.0f} s)\n", flush=True)
    return figures


def main() -> None:
    """Read the arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for size in SIZES:
        parser.add_argument(f"--{size}", dest="size", action="store_const", const=size, help=f"{SIZES[size]}")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES), help="these benchmarks")
    parser.add_argument(
        "--queues", nargs="+", choices=list(contestants.KNOWN), help="these queues (default: installed)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.set_defaults(size="quick")
    arguments = parser.parse_args()
    figures = asyncio.run(run(arguments.size, arguments.only, arguments.queues or contestants.installed()))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
