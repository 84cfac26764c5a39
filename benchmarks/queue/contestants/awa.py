"""awa-pg: a Rust core behind Python handlers."""

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from awa import AsyncClient
from benchmarks.queue.contestants import Handle, Spawn


@dataclass
class Noop:
    """The parameters of a task."""

    params: dict[str, Any]


class Awa:
    """awa-pg."""

    left = "select count(*) from awa.jobs where state::text not in ('completed', 'failed', 'cancelled')"

    async def version(self) -> str:
        """Return its version."""
        return importlib.metadata.version("awa-pg")

    async def install(self, url: str) -> None:
        """Create the schema, with the storage that a fresh installation has."""
        client = AsyncClient(url)
        await client.migrate()
        await client.install_queue_storage()
        await client.close()

    async def load(self, url: str, all_params: list[Mapping[str, Any]]) -> None:
        """Enqueue through COPY, 5,000 a call."""
        client = AsyncClient(url)
        for start in range(0, len(all_params), 5000):
            jobs = [Noop(dict(params)) for params in all_params[start : start + 5000]]
            await client.enqueue_many_copy(jobs, queue="bench")
        await client.close()

    @asynccontextmanager
    async def spawner(self, url: str) -> AsyncIterator[Spawn]:
        """Insert one."""
        client = AsyncClient(url)
        yield lambda params: client.insert(Noop(dict(params)), queue="bench")
        await client.close()

    async def work(self, url: str, concurrency: int, handle: Handle, stop: asyncio.Event) -> None:
        """Run its worker."""
        client = AsyncClient(url)

        @client.task(Noop, queue="bench")
        async def noop(job: Any) -> None:
            await handle(job.args.params)

        await client.start([("bench", concurrency)])
        await stop.wait()
        await client.shutdown()
        await client.close()


CONTESTANT = Awa()
