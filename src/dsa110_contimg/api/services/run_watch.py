"""One run, watched: its states, how far its stages are, and the lines of its log, as messages with a place to go on.

The ``event_id`` of a message is ``<update of the queue>~<offset in the log>``: who comes back with it gets what the
queue told and the log got since then, and the run's state as it is now.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from dsa110_contimg.absurd.workflows import FINISH, REIMAGE_STAGES, STAGES
from dsa110_contimg.api.exceptions import required
from dsa110_contimg.api.interfaces import JobRecord, JobRepositoryProtocol
from dsa110_contimg.api.replies import iso_now, iso_time
from dsa110_contimg.api.run_logs import RunLogs
from dsa110_contimg.api.services.run_board import LOOK_AT_LOGS_EVERY_S, LogGrowth, RunBoard
from dsa110_contimg.api.work_orders import UNENDED, WorkOrder

Row = dict[str, Any]

#: Lines of the log that somebody who comes for the first time gets at once.
RECENT_LINES = 100
_LOG_PATIENCE_S = 2 * LOOK_AT_LOGS_EVERY_S
_CURSOR = re.compile(r"(\d+-\d+)?~(\d{1,18})?")
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+Z) (DEBUG|INFO|WARNING|ERROR|CRITICAL) ([^:]{1,200}): (.*)", re.DOTALL)


class Updates(Protocol):
    """What the durable queue tells."""

    @property
    def enabled(self) -> bool:
        """Whether there is a durable queue."""

    def follow(self, after: str | None) -> AsyncGenerator[Row, None]:
        """Give messages as things happen."""


class Orders(Protocol):
    """Where accepted work is found."""

    async def find(self, order_id: str) -> WorkOrder | None:
        """Return an order."""


@dataclass(slots=True)
class Cursor:
    """Where one client is: the last update of the queue, and how much of the log."""

    update: str | None = None
    offset: int = -1  # not yet known

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Read the ``event_id`` that a client brings back; what is none is a beginning."""
        found = _CURSOR.fullmatch(text or "")
        return cls(found[1], int(found[2] or -1)) if found else cls()

    def __str__(self) -> str:
        return f"{self.update or ''}~{self.offset if self.offset >= 0 else ''}"


class RunWatch:
    """Finds what can be watched and tells what happens to it.

    Parameters
    ----------
    jobs, orders
        Where runs and accepted work are found.
    updates : Updates
        What the durable queue tells.
    board : RunBoard
        The states of runs.
    logs : RunLogs
        Their logs.
    """

    def __init__(
        self, jobs: JobRepositoryProtocol, orders: Orders, updates: Updates, board: RunBoard, logs: RunLogs
    ) -> None:
        self._jobs = jobs
        self._orders = orders
        self._updates = updates
        self._board = board
        self._logs = logs
        self._growth = LogGrowth(logs)

    async def find(self, job_id: str) -> JobRecord:
        """Return the run of an id: its own, or that of the job that makes it.

        Raises
        ------
        RecordNotFoundError
            There is none.
        """
        order = await self._orders.find(job_id) if job_id.startswith("job_") else None
        return required(await self._jobs.get_by_run_id((order.run_id if order else None) or job_id), "Job", job_id)

    def feeds(self, job_id: str, job: JobRecord, cursor: Cursor) -> Sequence[AsyncGenerator[Row, None]]:
        """Return what tells of a run under the name by which a client knows it; to be followed at once."""
        feeds = [self._states(job_id, job, cursor), self._lines(job_id, job, cursor)]
        if self._updates.enabled and job.workflow_id:
            feeds.append(self._stages(job_id, job, cursor))
        return feeds

    async def all_states(self) -> AsyncGenerator[Row, None]:
        """Give the state of every run that has not ended or ended lately, then each change."""
        async with aclosing(self._board.follow()) as jobs:
            async for job in jobs:
                yield state_message(job.run_id, job)

    def notice(self, message: Row) -> None:
        """Look at the runs at once when the queue tells of the begin or the end of one."""
        begins = message.get("task_name") in (STAGES[0], REIMAGE_STAGES[0])
        if message["type"] == "task_update" and (begins or message["task_name"] == FINISH):
            self._board.poke()

    async def _states(self, job_id: str, job: JobRecord, cursor: Cursor) -> AsyncGenerator[Row, None]:
        told = state_message(job_id, job)
        yield await self._placed(told, job.run_id, cursor)
        async with aclosing(self._board.follow()) as jobs:
            async for now in jobs:
                message = state_message(job_id, now)
                if now.run_id == job.run_id and message["data"] != told["data"]:
                    told = message
                    yield await self._placed(told, job.run_id, cursor)

    async def _placed(self, told: Row, run_id: str, cursor: Cursor) -> Row:
        """Return a state with the place to go on; an end waits until the log was told: many leave when they hear it."""
        if told["type"] == "complete":
            size, seen = await asyncio.to_thread(self._logs.size, run_id), None
            while cursor.offset < size and cursor.offset != seen:  # of a last line without an end nothing is told
                seen = cursor.offset
                await asyncio.sleep(_LOG_PATIENCE_S)
        return {**told, "event_id": str(cursor)}

    async def _stages(self, job_id: str, job: JobRecord, cursor: Cursor) -> AsyncGenerator[Row, None]:
        async with aclosing(self._updates.follow(cursor.update)) as updates:
            async for update in updates:
                cursor.update = update["event_id"] or cursor.update
                self.notice(update)
                told = stage_message(job_id, job, update)
                if told is not None:
                    yield {**told, "event_id": str(cursor)}

    async def _lines(self, job_id: str, job: JobRecord, cursor: Cursor) -> AsyncGenerator[Row, None]:
        if cursor.offset < 0:
            cursor.offset = await asyncio.to_thread(self._logs.start_of_last, job.run_id, RECENT_LINES)
        async with self._growth.reading(job.run_id) as growth:
            while True:
                news = growth.news
                part = await asyncio.to_thread(self._logs.after, job.run_id, cursor.offset)
                if part.next_offset < cursor.offset:
                    cursor.offset = 0  # the log was begun anew
                for line in part.lines:
                    cursor.offset = min(cursor.offset + len(line.encode()), part.next_offset)
                    yield {**log_message(job_id, line), "event_id": str(cursor)}
                cursor.offset = part.next_offset
                if not part.lines:
                    await news.wait()


# ----------------------------------------------------------------------------------------------------------- messages
def state_message(job_id: str, job: JobRecord) -> Row:
    """Return the state of a run: ``status``, or ``complete`` when it has ended."""
    if job.status in UNENDED:
        begun_at = iso_time(job.started_at if job.status == "running" else job.created_at)
        return _message("status", job_id, {"status": job.status, "progress": None, "message": None}, begun_at)
    times = {name: iso_time(getattr(job, name)) for name in ("started_at", "finished_at")}
    result = {"run_id": job.run_id, "status": job.status, "ms_path": job.ms_path, **times}
    data = {"success": job.status == "completed", "result": result, "error": job.error}
    return _message("complete", job_id, data, times["finished_at"])


def stage_message(job_id: str, job: JobRecord, update: Row) -> Row | None:
    """Return what an update says about a run: how far it is (0 to 1), or what went wrong; None: nothing."""
    if update["type"] == "resync":
        return {"type": "resync", "job_id": job_id}
    if update["type"] != "task_update" or update["workflow_id"] != job.workflow_id:
        return None
    stage, change = update["task_name"], update["update"]
    stages = REIMAGE_STAGES if stage in REIMAGE_STAGES else STAGES
    if stage not in stages:
        return None
    if change.get("error"):
        said = f"{stage}: {change['error']}"
        data = {"status": "running", "progress": None, "message": said}
        return _message("status", job_id, data, update["timestamp"])
    part = {"claimed": change.get("progress") or 0.0, "completed": 1.0}.get(change["status"])
    if part is None:
        return None
    done = (stages.index(stage) + part) / len(stages)
    eta_s = _eta_s(job.started_at, done, datetime.fromisoformat(update["timestamp"]).timestamp())
    told = {"progress": round(done, 4), "stage": stage, "message": change.get("message"), "eta_seconds": eta_s}
    return _message("progress", job_id, told, update["timestamp"])


def _eta_s(started_at: float | None, done: float, now_s: float) -> float | None:
    """Return when it will be done if it goes on as it went."""
    return round(max(0.0, now_s - started_at) * (1.0 - done) / done, 1) if started_at and done > 0.0 else None


def log_message(job_id: str, line: str) -> Row:
    """Return a line of a log."""
    found = _LINE.fullmatch(line.rstrip("\n"))
    at, level, source, message = found.groups() if found else (None, "INFO", None, line.rstrip("\n"))
    return _message("log", job_id, {"level": level, "message": message, "source": source}, at)


def _message(kind: str, job_id: str, data: Row, at: str | None) -> Row:
    """Return a message with the time of what it tells; where that is not known, it is told as it happens."""
    return {"type": kind, "job_id": job_id, "data": data, "timestamp": at or iso_now()}
