"""pgqueuer on asyncpg.

Its worker has no simple number of slots: a batch is started as soon as the one before it has been. ``batch_size`` is
the concurrency here, without a cap on what runs, which is the faster way for it.
"""

import asyncio
import importlib.metadata
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from benchmarks.queue.contestants import Handle, Spawn
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries


class Pgqueuer:
    """pgqueuer."""

    left = "select count(*) from pgqueuer"

    async def version(self) -> str:
        """Return its version."""
        return importlib.metadata.version("pgqueuer")

    async def install(self, url: str) -> None:
        """Create the schema, with its own tuning of autovacuum."""
        connection = await asyncpg.connect(url)
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.optimize_autovacuum()
        await connection.close()

    async def load(self, url: str, all_params: list[Mapping[str, Any]]) -> None:
        """Enqueue 5,000 a call."""
        connection = await asyncpg.connect(url)
        queries = Queries(AsyncpgDriver(connection))
        for start in range(0, len(all_params), 5000):
            chunk = [json.dumps(params).encode() for params in all_params[start : start + 5000]]
            await queries.enqueue(["noop"] * len(chunk), chunk, [0] * len(chunk))
        await connection.close()

    @asynccontextmanager
    async def spawner(self, url: str) -> AsyncIterator[Spawn]:
        """Enqueue one."""
        connection = await asyncpg.connect(url)
        queries = Queries(AsyncpgDriver(connection))
        yield lambda params: queries.enqueue("noop", json.dumps(params).encode())
        await connection.close()

    async def work(self, url: str, concurrency: int, handle: Handle, stop: asyncio.Event) -> None:
        """Run its worker."""
        connection = await asyncpg.connect(url)
        queuer = PgQueuer(AsyncpgDriver(connection))

        @queuer.entrypoint("noop")
        async def noop(job: Job) -> None:
            await handle(json.loads(job.payload or b"{}"))

        running = asyncio.create_task(queuer.run(batch_size=concurrency))
        await asyncio.wait({running, asyncio.ensure_future(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        queuer.shutdown.set()
        await running


CONTESTANT = Pgqueuer()
