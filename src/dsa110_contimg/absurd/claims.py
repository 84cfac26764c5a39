"""What a worker holds, and what it says to the queue under a claim besides completions (see ``flusher``)."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.absurd.payloads import plain
from dsa110_contimg.absurd.statements import work

#: An outcome is worth waiting for a database that is away; when it is back, the fence decides.
REPORT_PATIENCE_S = 600.0

_CONNECTIONS = 8

#: Why a running task is being stopped.
StopReason = Literal["cancel", "lost", "timeout", "stop"]


@dataclass(slots=True)
class ClaimedTask:
    """A task that this worker may run, under its claim number."""

    task_id: UUID
    name: str
    params: Mapping[str, Any]
    attempt: int
    claim: int
    queue: str
    workflow_id: UUID | None
    timeout_sec: float | None
    crashes: int = 0
    headers: Mapping[str, Any] = field(default_factory=dict)


class Run:
    """A claimed task while it runs."""

    __slots__ = ("deadline_s", "handling", "process", "reason", "started_s", "task")

    def __init__(self, task: ClaimedTask) -> None:
        self.task = task
        self.process: asyncio.Task[None] | None = None
        self.handling = False  # its handler runs, and may be cancelled; a report may not
        self.reason: StopReason | None = None
        self.started_s = time.monotonic()
        self.deadline_s = self.started_s + task.timeout_sec if task.timeout_sec else float("inf")

    def age_s(self) -> float:
        """Return the seconds since it was claimed."""
        return time.monotonic() - self.started_s

    def stop(self, reason: StopReason) -> None:
        """Stop it; the first reason counts, but for ``lost``: then nothing may be reported any more."""
        first = self.reason is None
        if first or reason == "lost":
            self.reason = reason
        if first and self.handling and self.process:
            self.process.cancel()


class Claims:
    """The calls of one worker."""

    def __init__(self, config: AbsurdConfig, worker_id: str) -> None:
        self.worker_id = worker_id
        size = min(config.worker_concurrency, _CONNECTIONS)
        self._database = Database(config.database_url, f"absurd worker {worker_id}", size)

    async def connect(self) -> None:
        """Open the connections and check the schema."""
        await self._database.connect()

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    async def fail(
        self, task: ClaimedTask, error: Mapping[str, Any], retryable: bool | None, after_s: float | None = None
    ) -> str | None:
        """Record a failed attempt; return the state that follows, None when the claim is not current any more.

        Parameters
        ----------
        task, error
            What failed, and how.
        retryable : bool or None
            Whether another attempt may succeed; None: the task's own ``retry_on`` and ``dead_on`` decide.
        after_s : float, optional
            When to try again; default: by the task's back-off.
        """
        state: str | None = await self._report(work.FAIL_TASK, task, plain(error), retryable, after_s)
        return state

    async def snooze(self, task: ClaimedTask, after_s: float) -> bool:
        """Put a task off without counting the attempt; False when the claim is not current any more."""
        return bool(await self._report(work.SNOOZE_TASK, task, after_s))

    async def release(self, task: ClaimedTask) -> bool:
        """Give a task back without counting the attempt; False when the claim is not current any more."""
        return bool(await self._report(work.RELEASE_TASK, task))

    async def progress(self, task: ClaimedTask, fraction: float, message: str) -> bool:
        """Note how far a task is; False when the claim is not current any more."""
        arguments = (task.task_id, task.claim, fraction, str(plain(message)))
        return bool(await self._database.fetchval(work.REPORT_PROGRESS, *arguments, patience_s=0))

    async def parent_results(self, task: ClaimedTask) -> dict[str, dict[str, Any]]:
        """Return name → ``{"status", "result", "error"}`` of the tasks that this one depends on."""
        rows = await self._database.fetch(work.PARENT_RESULTS, task.task_id)
        return {row["task_name"]: {key: row[key] for key in ("status", "result", "error")} for row in rows}

    async def leave(self, state: Literal["stopping", "stopped"]) -> None:
        """Tell the queue that the worker stops, or has stopped."""
        await self._database.fetch(work.LEAVE, self.worker_id, state)

    async def _report(self, statement: str, task: ClaimedTask, *args: Any) -> Any:
        arguments = (task.task_id, task.claim, *args)
        return await self._database.fetchval(statement, *arguments, patience_s=REPORT_PATIENCE_S)
