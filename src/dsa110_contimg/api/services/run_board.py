"""The runs that are going on, looked at once for all who watch, and the growth of their logs.

States are shown, not handed over: a watcher that is slow or comes back sees the latest state of each run, never a queue
of old ones. Nothing is looked at while nobody watches.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from operator import itemgetter
from typing import Protocol

from dsa110_contimg.api.exceptions import DSA110APIError
from dsa110_contimg.api.interfaces import JobRecord
from dsa110_contimg.api.run_logs import RunLogs

LOOK_EVERY_S = 1.0
LOOK_AT_LOGS_EVERY_S = 0.5
#: Runs that ended within this time are shown too, for those who come back.
SHOWN_AFTER_END_S = 300.0


class Runs(Protocol):
    """Where runs are read."""

    async def lively_runs(self, ended_since_s: float) -> list[JobRecord]:
        """Return the newest runs that have not ended, then those that ended since a time."""


class RunBoard:
    """Shows runs that have not ended, and those that ended lately.

    Parameters
    ----------
    runs : Runs
        Where they are read.
    clock : callable
        Gives Unix time in seconds.
    every_s : float
        They are looked at so often, s, unless something happens.
    """

    def __init__(self, runs: Runs, clock: Callable[[], float] = time.time, every_s: float = LOOK_EVERY_S) -> None:
        self._runs = runs
        self._clock = clock
        self._every_s = every_s
        self._shown: dict[str, tuple[int, JobRecord]] = {}
        self._version = 0
        self._news = asyncio.Event()
        self._wake = asyncio.Event()
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None

    async def follow(self) -> AsyncGenerator[JobRecord, None]:
        """Give every run on the board, then each that changes."""
        version = 0
        with self._watched():
            while True:
                news = self._news
                fresh = sorted((entry for entry in self._shown.values() if entry[0] > version), key=itemgetter(0))
                for entry in fresh:
                    version = entry[0]
                    yield entry[1]
                if not fresh:
                    await news.wait()

    def poke(self) -> None:
        """Look at once: something has happened."""
        self._wake.set()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        self._watchers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            self._watchers -= 1
            if self._watchers == 0 and self._task is not None:
                self._task.cancel()
                self._task = None
                self._shown.clear()

    async def _look_on(self) -> None:
        while True:
            self._wake.clear()  # before the look: what happens while it is read may not be in it
            with contextlib.suppress(DSA110APIError):  # the database is away; it is asked again
                await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._wake.wait()

    async def _look(self) -> None:
        found = {job.run_id: job for job in await self._runs.lively_runs(self._clock() - SHOWN_AFTER_END_S)}
        changed = False
        for run_id, job in reversed(found.items()):  # the oldest first
            if run_id not in self._shown or self._shown[run_id][1] != job:
                self._version += 1
                self._shown[run_id] = (self._version, job)
                changed = True
        for run_id in self._shown.keys() - found.keys():
            del self._shown[run_id]
        if changed:
            self._news.set()
            self._news = asyncio.Event()


class _Growth:
    """How long one log is, as long as somebody wants to know."""

    def __init__(self) -> None:
        self.size = 0
        self.users = 0
        self.news = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class LogGrowth:
    """Tells when a log grows: each log is looked at by one task for all its readers."""

    def __init__(self, logs: RunLogs) -> None:
        self._logs = logs
        self._grown: dict[str, _Growth] = {}

    @contextlib.asynccontextmanager
    async def reading(self, run_id: str) -> AsyncIterator[_Growth]:
        """Give what tells the length of a run's log, and when that changes (``news``, a new one each time)."""
        growth = self._grown.setdefault(run_id, _Growth())
        growth.users += 1
        if growth.task is None:
            growth.task = asyncio.create_task(self._look_on(run_id, growth))
        try:
            yield growth
        finally:
            growth.users -= 1
            if growth.users == 0:
                growth.task.cancel()
                del self._grown[run_id]

    async def _look_on(self, run_id: str, growth: _Growth) -> None:
        while True:
            size = await asyncio.to_thread(self._logs.size, run_id)
            if size != growth.size:
                growth.size = size
                growth.news.set()
                growth.news = asyncio.Event()
            await asyncio.sleep(LOOK_AT_LOGS_EVERY_S)
