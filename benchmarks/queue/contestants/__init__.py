"""The queues that are compared: each in a file of its own, behind one Protocol."""

import asyncio
import importlib
import importlib.util
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

Handle = Callable[[Mapping[str, Any]], Awaitable[None]]
Spawn = Callable[[Mapping[str, Any]], Awaitable[Any]]

#: Name → package that must be installed for it.
KNOWN = {
    "ours": "dsa110_contimg", "raw": "asyncpg", "pgqueuer": "pgqueuer", "procrastinate": "procrastinate",
    "absurd_sdk": "absurdctl", "awa": "awa",
}  # fmt: skip


class Contestant(Protocol):
    """One queue."""

    async def version(self) -> str:
        """Return its version."""

    async def install(self, url: str) -> None:
        """Create its schema in an empty database."""

    async def load(self, url: str, all_params: list[Mapping[str, Any]]) -> None:
        """Spawn many tasks in the fastest way it offers."""

    def spawner(self, url: str) -> AbstractAsyncContextManager[Spawn]:
        """Give a function that spawns one task."""

    #: Statement that counts the tasks that are not over.
    left: str

    async def work(self, url: str, concurrency: int, handle: Handle, stop: asyncio.Event) -> None:
        """Run a worker until ``stop``."""


def installed() -> list[str]:
    """Return the names of the contestants that can run here."""
    return [name for name, package in KNOWN.items() if importlib.util.find_spec(package)]


def get(name: str) -> Contestant:
    """Return a contestant by name."""
    contestant: Contestant = importlib.import_module(f"benchmarks.queue.contestants.{name}").CONTESTANT
    return contestant
