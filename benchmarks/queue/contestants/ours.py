"""ABSURD as it is: client and worker with the settings that they have by default."""

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.queue.contestants import Handle, Spawn

from dsa110_contimg.absurd import AbsurdClient, TaskSpec, setup
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.worker import AbsurdWorker, ClaimedTask, TaskContext

QUEUE = "bench"
_CHUNK = 5000


def config(url: str, **settings: Any) -> AbsurdConfig:
    """Return the configuration of client and worker."""
    return AbsurdConfig(database_url=url, queue_name=QUEUE, **settings)


class Ours:
    """ABSURD."""

    left = "select " + " + ".join(f"(select count(*) from absurd.{table})" for table in ("ready", "lease", "blocked"))

    async def version(self) -> str:
        """Return the version of this package."""
        return importlib.metadata.version("dsa110-contimg")

    async def install(self, url: str) -> None:
        """Create the schema."""
        await setup.init(url)

    async def load(self, url: str, all_params: list[Mapping[str, Any]]) -> None:
        """Spawn with ``spawn_many``, 5,000 a call."""
        async with AbsurdClient(config(url)) as client:
            for start in range(0, len(all_params), _CHUNK):
                await client.spawn_many([TaskSpec("noop", params) for params in all_params[start : start + _CHUNK]])

    @asynccontextmanager
    async def spawner(self, url: str) -> AsyncIterator[Spawn]:
        """Spawn with ``spawn``."""
        async with AbsurdClient(config(url)) as client:
            yield lambda params: client.spawn("noop", params)

    async def work(self, url: str, concurrency: int, handle: Handle, stop: asyncio.Event) -> None:
        """Run a worker."""

        async def noop(task: ClaimedTask, context: TaskContext) -> Mapping[str, Any]:
            await handle(task.params)
            return {"ok": True}

        worker = AbsurdWorker(config(url, worker_concurrency=concurrency), {"noop": noop})
        running = asyncio.create_task(worker.run())
        await stop.wait()
        worker.request_stop()
        worker.request_stop()
        await running


CONTESTANT = Ours()
