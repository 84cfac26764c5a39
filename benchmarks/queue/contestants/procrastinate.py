"""procrastinate on psycopg 3 with its pool; finished jobs are kept, as by default."""

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from benchmarks.queue.contestants import Handle, Spawn
from procrastinate import App, PsycopgConnector


def _app(url: str, pool: int) -> App:
    return App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=pool))


class Procrastinate:
    """procrastinate."""

    left = "select count(*) from procrastinate_jobs where status in ('todo', 'doing')"

    async def version(self) -> str:
        """Return its version."""
        return importlib.metadata.version("procrastinate")

    async def install(self, url: str) -> None:
        """Create the schema."""
        async with _app(url, 2).open_async() as app:
            await app.schema_manager.apply_schema_async()

    async def load(self, url: str, all_params: list[Mapping[str, Any]]) -> None:
        """Defer 1,000 a call."""
        async with _app(url, 2).open_async() as app:
            noop = app.configure_task("noop", allow_unknown=True)
            for start in range(0, len(all_params), 1000):
                await noop.batch_defer_async(*({"params": dict(p)} for p in all_params[start : start + 1000]))

    @asynccontextmanager
    async def spawner(self, url: str) -> AsyncIterator[Spawn]:
        """Defer one."""
        async with _app(url, 2).open_async() as app:
            noop = app.configure_task("noop", allow_unknown=True)
            yield lambda params: noop.defer_async(params=dict(params))

    async def work(self, url: str, concurrency: int, handle: Handle, stop: asyncio.Event) -> None:
        """Run its worker."""
        app = _app(url, min(concurrency, 10) + 2)

        @app.task(name="noop")
        async def noop(params: Mapping[str, Any]) -> None:
            await handle(params)

        async with app.open_async():
            running = asyncio.create_task(
                app.run_worker_async(
                    concurrency=concurrency, install_signal_handlers=False, shutdown_graceful_timeout=1
                )
            )
            await asyncio.wait({running, asyncio.ensure_future(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


CONTESTANT = Procrastinate()
