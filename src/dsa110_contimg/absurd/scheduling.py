"""Tasks at set times: cron expressions, and the scheduler that fires them.

An expression has the five fields minute, hour, day of month, month, weekday, with names (``mon``, ``jan``), lists,
ranges and steps; 0 and 7 are Sunday; when both days are given, either of them fires (the rule of cron). It is read in
the schedule's own time zone: a time that a change to summer time leaves out fires right after the change, one that the
change back repeats fires twice.

Any number of schedulers may run: moving a schedule's next time and spawning its task are one transaction, which only
one of them wins. A scheduler that was away fires once for all the times that it missed. A schedule whose previous task
has not ended is passed over.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter
from uuid6 import uuid7

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import AbsurdError, Database, QueueUnavailableError, delays
from dsa110_contimg.absurd.monitoring import Row, as_row
from dsa110_contimg.absurd.statements import schedules, work

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S = 10.0


class ScheduleError(AbsurdError):
    """A schedule that cannot be: the message names the expression or time zone and what would be right."""


def next_fire(expression: str, timezone: str, after: datetime) -> datetime:
    """Return the first time after ``after`` at which a schedule fires.

    Raises
    ------
    ScheduleError
        The expression has not five fields, or a field or the time zone is not valid, or it never fires.
    """
    if len(expression.split()) != 5:
        raise ScheduleError(f"cron expression {expression!r}: give minute, hour, day of month, month, weekday")
    try:
        local = after.astimezone(ZoneInfo(timezone))
        moment: datetime = croniter(expression, local).get_next(datetime)
    except (ZoneInfoNotFoundError, ValueError, CroniterError) as error:
        raise ScheduleError(f"cron expression {expression!r} in time zone {timezone!r}: {error}") from error
    return moment


class TaskScheduler:
    """Fires the schedules of the queue and runs its repair sweep, until it is asked to stop."""

    def __init__(self, config: AbsurdConfig) -> None:
        self.config = config
        self._database = Database(config.database_url, "absurd scheduler", 2)
        self._stopping = asyncio.Event()

    async def connect(self) -> None:
        """Open the connections."""
        await self._database.connect()

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    # ------------------------------------------------------------------------------------------------------- schedules
    async def create_schedule(
        self, name: str, task_name: str, cron_expression: str, params: Mapping[str, Any] | None = None, *,
        queue_name: str | None = None, timezone: str = "UTC", priority: int = 0, timeout_sec: float | None = None,
        max_retries: int | None = None,
    ) -> datetime:  # fmt: skip
        """Create a schedule, or change the one of this name, and return when it fires first.

        Raises
        ------
        ScheduleError
            The expression or the time zone is not valid.
        """
        config = self.config
        first = next_fire(cron_expression, timezone, await self._database.fetchval(work.NOW))
        retries = config.max_retries if max_retries is None else max_retries
        await self._database.fetch(
            schedules.UPSERT_CRON, name, cron_expression, timezone, queue_name or config.queue_name, task_name,
            params or {}, -priority, timeout_sec or config.task_timeout_sec, retries + 1, first,
        )  # fmt: skip
        return first

    async def list_schedules(self) -> list[Row]:
        """Return all schedules by name."""
        return [as_row(row) for row in await self._database.fetch(schedules.LIST_CRON)]

    async def pause_schedule(self, name: str, paused: bool = True) -> bool:
        """Pause a schedule or let it go on; False when there is none of this name."""
        return bool(await self._database.fetch(schedules.PAUSE_CRON, name, paused))

    async def delete_schedule(self, name: str) -> bool:
        """Delete a schedule; False when there is none of this name. Tasks that it spawned stay."""
        return bool(await self._database.fetch(schedules.DELETE_CRON, name))

    async def fire_due(self) -> int:
        """Fire every schedule whose time has come and return how many tasks that spawned here."""
        fired = 0
        now = await self._database.fetchval(work.NOW)
        for row in await self._database.fetch(schedules.DUE_CRON):
            try:
                following = next_fire(row["expr"], row["timezone"], now)
            except ScheduleError as error:
                logger.error("schedule %s was passed over: %s", row["name"], error)
                continue
            task_id = await self._database.fetchval(
                schedules.FIRE_CRON, row["name"], row["next_at"], following, uuid7()
            )
            fired += task_id is not None
            logger.info("schedule %s: %s; next at %s", row["name"], task_id or "not fired here", following)
        return fired

    # ------------------------------------------------------------------------------------------------------ whole life
    async def run(self) -> None:
        """Fire schedules and sweep until :meth:`request_stop`, through outages of the database."""
        waits = delays()
        connected, swept_s = False, 0.0
        while not self._stopping.is_set():
            try:
                if not connected:
                    await self.connect()
                    connected = True
                if time.monotonic() - swept_s >= CHECK_INTERVAL_S:
                    await self._sweep()
                    swept_s = time.monotonic()
                await self.fire_due()
                pause_s = await self._pause_s()
                waits = delays()
            except QueueUnavailableError as error:
                logger.warning("%s", error)
                pause_s = next(waits)
            await self._sleep(pause_s)
        await self.close()

    def request_stop(self) -> None:
        """End :meth:`run` at once; nothing of a scheduler is worth waiting for."""
        self._stopping.set()

    async def _sweep(self) -> None:
        if count := await self._database.fetchval(work.REPAIR):
            logger.error("repaired %d missed wake-ups; this should never happen, please report it", count)

    async def _pause_s(self) -> float:
        """Return the time until the next schedule is due, at most until the next look at the table."""
        due_s = await self._database.fetchval(schedules.NEXT_CRON)
        return CHECK_INTERVAL_S if due_s is None else min(max(due_s, 0.05), CHECK_INTERVAL_S)

    async def _sleep(self, pause_s: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), pause_s)
        except TimeoutError:
            return
