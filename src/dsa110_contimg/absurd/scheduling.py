"""The scheduler: fires the schedules of the queue when their times have come.

Any number of schedulers may run: moving a schedule's next time and spawning its task are one transaction, which only
one of them wins. The clock is the server's, so theirs do not matter.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import Database, QueueUnavailableError, delays
from dsa110_contimg.absurd.cron import ScheduleError, cron_of, moves
from dsa110_contimg.absurd.ids import new_id
from dsa110_contimg.absurd.statements import schedules, work

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S = 10.0  # schedules that somebody adds are seen within this time
HELD_INTERVAL_S = 1.0  # between two looks at a schedule that is due and could not fire
FIRES_A_ROUND = 100  # of one schedule that catches up, so that the others get their turn


class TaskScheduler:
    """Fires the schedules of the queue and runs its repair sweep, until it is asked to stop."""

    def __init__(self, config: AbsurdConfig, database: Database | None = None) -> None:
        self.config = config
        self._database = database or Database(config.database_url, "absurd scheduler", 2)
        self._stopping = asyncio.Event()

    async def connect(self) -> None:
        """Open the connections."""
        await self._database.connect()

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    async def fire_due(self) -> int:
        """Fire every schedule whose time has come and return how many tasks that spawned here."""
        fired, _ = await self._round()
        return fired

    # ------------------------------------------------------------------------------------------------------ whole life
    async def run(self) -> None:
        """Fire schedules and sweep until :meth:`request_stop`, through outages of the database."""
        waits = delays()
        connected, swept_s = False, float("-inf")
        while not self._stopping.is_set():
            try:
                if not connected:
                    await self.connect()
                    connected = True
                    logger.info("fires schedules")
                if time.monotonic() - swept_s >= CHECK_INTERVAL_S:
                    await self._sweep()
                    swept_s = time.monotonic()
                pause_s = await self._pause_s(*await self._round())
                waits = delays()
            except QueueUnavailableError as error:
                logger.warning("%s", error)
                pause_s = next(waits)
            await self._sleep(pause_s)
        await self.close()

    def request_stop(self) -> None:
        """End :meth:`run` at once; nothing of a scheduler is worth waiting for."""
        self._stopping.set()

    async def _round(self) -> tuple[int, datetime]:
        """Fire what is due now; return how many tasks that spawned here, and what time it was."""
        now: datetime = await self._database.fetchval(work.NOW)
        fired = 0
        for row in await self._database.fetch(schedules.DUE, now):
            try:
                fired += await self._fire(row, now)
            except (ScheduleError, asyncpg.PostgresError) as error:  # of this row; the others go on
                await self._note(row["name"], error)
        return fired, now

    async def _fire(self, row: Mapping[str, Any], now: datetime) -> int:
        """Bring one schedule past ``now``; stop where another scheduler is faster, or its last task has not ended."""
        fired = 0
        for move in moves(cron_of(row), row["policy"], row["catch_up_limit"], row["next_at"], now):
            task_id = await self._database.fetchval(
                schedules.FIRE, row["name"], move.expected, move.following, new_id(), move.fire_at
            )
            if move.fire_at is not None:
                logger.info("schedule %s at %s: %s", row["name"], move.fire_at, task_id or "not fired here")
                if task_id is None or (fired := fired + 1) == FIRES_A_ROUND:
                    break
        return fired

    async def _note(self, name: str, error: Exception) -> None:
        """Keep why a schedule cannot fire where people look for it, and log it once."""
        if await self._database.fetchval(schedules.NOTE_ERROR, name, f"{type(error).__name__}: {error}"):
            logger.error("schedule %s cannot fire: %s", name, error)

    async def _sweep(self) -> None:
        if count := await self._database.fetchval(work.REPAIR):
            logger.error("repaired %d missed wake-ups; this should never happen, please report it", count)

    async def _pause_s(self, fired: int, now: datetime) -> float:
        """Return the time until a schedule is due that was not before, at most until the next look at the table."""
        due_s, held = (await self._database.fetch(schedules.NEXT, now))[0]
        limit_s = CHECK_INTERVAL_S
        if held:
            limit_s = 0.0 if fired else HELD_INTERVAL_S
        return max(limit_s if due_s is None else min(due_s, limit_s), 0.05)

    async def _sleep(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
