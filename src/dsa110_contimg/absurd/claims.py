"""What a worker says to the queue: its calls under a claim, and what it holds."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.absurd.executor import kill_group
from dsa110_contimg.absurd.payloads import plain
from dsa110_contimg.absurd.statements import work

#: A result is worth waiting for a database that is away; when it is back, the fence decides.
REPORT_PATIENCE_S = 600.0

#: Why a running task is being stopped.
StopReason = Literal["cancel", "lost", "timeout", "stop"]


@dataclass(frozen=True, slots=True)
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


@dataclass(eq=False, slots=True)
class Run:
    """A claimed task with what of it runs now. The heartbeat's thread reads it too."""

    task: ClaimedTask
    groups: set[int] = field(default_factory=set)  # process groups of its children
    job: asyncio.Task[Any] | None = None
    reason: StopReason | None = None
    stopped_at: float = 0.0

    def stop(self, reason: StopReason) -> None:
        """Stop it; the first reason counts. Call it in the worker's event loop."""
        self.mark(reason)
        if self.job and not self.job.done():
            self.job.cancel()

    def mark(self, reason: StopReason) -> None:
        """Note why it is being stopped; ``lost`` overrules, because then nothing may be reported any more."""
        if self.reason is None:
            self.stopped_at = time.monotonic()
        if self.reason is None or reason == "lost":
            self.reason = reason

    def kill(self) -> None:
        """Kill its children at once, from any thread."""
        for group in tuple(self.groups):
            kill_group(group)


class Claims:
    """The calls of one worker."""

    def __init__(self, config: AbsurdConfig, worker_id: str) -> None:
        self.config = config
        self.worker_id = worker_id
        self._database = Database(config.database_url, f"absurd worker {worker_id}", config.worker_concurrency + 1)

    async def connect(self) -> None:
        """Open the connections and register the worker."""
        await self._database.connect()
        await self._database.fetch(work.REGISTER_WORKER, *self.registration())

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    def registration(self) -> tuple[Any, ...]:
        """Return what the queue knows of the worker: id, host, process id, queues, slots."""
        config = self.config
        return self.worker_id, socket.gethostname(), os.getpid(), [config.queue_name], config.worker_concurrency

    async def claim(self, limit: int, names: Sequence[str]) -> list[ClaimedTask]:
        """Claim up to ``limit`` tasks of these names."""
        queue = self.config.queue_name
        rows = await self._database.fetch(work.CLAIM_TASKS, queue, self.worker_id, limit, list(names), patience_s=0)
        return [
            ClaimedTask(
                row["task_id"], row["name"], row["params"], row["attempt"], row["claim"], queue, row["workflow_id"],
                row["timeout_s"],
            )
            for row in rows
        ]  # fmt: skip

    async def complete(self, task: ClaimedTask, result: Any) -> bool:
        """Record a result; False when the claim is not current any more."""
        return bool(await self._report(work.COMPLETE_TASK, task, plain(result)))

    async def fail(self, task: ClaimedTask, error: Mapping[str, Any], retryable: bool) -> str | None:
        """Record a failed attempt; return the state that follows, None when the claim is not current any more."""
        state: str | None = await self._report(work.FAIL_TASK, task, plain(error), retryable)
        return state

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
