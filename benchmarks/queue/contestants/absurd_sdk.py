"""absurd-sdk (the durable-execution library of the same name), with the schema that ``absurdctl`` carries."""

import asyncio
import importlib.metadata
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import absurdctl
import asyncpg
from absurd_sdk import AsyncAbsurd
from benchmarks.queue.contestants import Handle, Spawn

_SPAWN = "select absurd.spawn_task('bench', 'noop', p::jsonb, '{}'::jsonb) from unnest($1::text[]) p"


class AbsurdSdk:
    """absurd-sdk."""

    left = "select count(*) from absurd.t_bench where state in ('pending', 'running', 'sleeping')"

    async def version(self) -> str:
        """Return its version."""
        return importlib.metadata.version("absurd-sdk")

    async def install(self, url: str) -> None:
        """Create the schema and one queue."""
        connection = await asyncpg.connect(url)
        await connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
        await connection.execute("select absurd.create_queue('bench')")
        await connection.close()

    async def load(self, url: str, all_params: list[Mapping[str, Any]]) -> None:
        """Call its SQL function for 1,000 tasks a statement (the library has no call for many)."""
        connection = await asyncpg.connect(url)
        for start in range(0, len(all_params), 1000):
            await connection.execute(_SPAWN, [json.dumps(params) for params in all_params[start : start + 1000]])
        await connection.close()

    @asynccontextmanager
    async def spawner(self, url: str) -> AsyncIterator[Spawn]:
        """Spawn one."""
        app = AsyncAbsurd(url, queue_name="bench")
        yield lambda params: app.spawn("noop", dict(params), queue="bench")
        await app.close()

    async def work(self, url: str, concurrency: int, handle: Handle, stop: asyncio.Event) -> None:
        """Run its worker."""
        app = AsyncAbsurd(url, queue_name="bench")

        @app.register_task(name="noop")
        async def noop(params: Mapping[str, Any], _context: Any) -> Mapping[str, Any]:
            await handle(params)
            return {"ok": True}

        running = asyncio.create_task(app.start_worker(concurrency=concurrency))
        await asyncio.wait({running, asyncio.ensure_future(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        app.stop_worker()
        await running
        await app.close()


CONTESTANT = AbsurdSdk()
