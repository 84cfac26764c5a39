"""Random walks at full size: ``python tests/model/walk.py --seeds 200 --steps 1000``."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsa110_contimg.absurd import setup
from dsa110_contimg.up.servers import EmbeddedPostgres
from model.twin import Twin, walk


async def walk_all(url: str, first: int, seeds: int, steps: int) -> int:
    """Walk with each seed; return how many walks ended in disagreement."""
    await setup.init(url)
    twin = await Twin.open(url)
    began_s, done, bad = time.monotonic(), 0, 0
    for seed in range(first, first + seeds):
        result = await walk(twin, seed, steps)
        done += result.steps
        if result.error:
            bad += 1
            print(f"seed {seed}, step {result.steps}: {result.error}\n  " + "\n  ".join(result.trace))
        if (seed - first) % 20 == 19:
            print(
                f"{seed - first + 1} seeds, {done} steps, {done / (time.monotonic() - began_s):.0f} steps/s", flush=True
            )
    print(f"{seeds} seeds, {done} steps in {time.monotonic() - began_s:.0f} s, {bad} disagreements")
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as home,
        EmbeddedPostgres(Path(home), {"fsync": "off", "autovacuum_naptime": "5s"}) as server,
    ):
        return int(asyncio.run(walk_all(server.url, options.first, options.seeds, options.steps)) > 0)


if __name__ == "__main__":
    sys.exit(main())
