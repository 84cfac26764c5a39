"""Looking at tasks, waiting for them, cancelling and retrying them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from uuid import UUID

from dsa110_contimg.absurd import retention
from dsa110_contimg.absurd.caller import Caller
from dsa110_contimg.absurd.rows import Row, as_task
from dsa110_contimg.absurd.specs import UnknownTaskError
from dsa110_contimg.absurd.statements import tasks

#: States in which a task, or a workflow, has ended.
ENDED = frozenset({"completed", "failed", "cancelled", "skipped"})
#: Seconds between looks at what is waited for, when no event comes.
POLL_S = 1.0


class TaskCalls(Caller):
    """The calls about single tasks."""

    async def get_task(self, task_id: UUID) -> Row | None:
        """Return a task with state, result, error and progress, or None."""
        rows = await self._database.fetch(tasks.GET_TASK, task_id)
        return as_task(rows[0]) if rows else None

    async def list_tasks(
        self, queue_name: str | None = None, status: str | None = None, limit: int = 100, *, name: str | None = None,
        workflow_id: UUID | None = None, after: UUID | None = None,
    ) -> list[Row]:  # fmt: skip
        """Return the newest tasks first, at most ``limit``, of those that fit every filter.

        ``after`` is the id of the last task of the page before.

        Raises
        ------
        ValueError
            There is no such status.
        """
        statement = tasks.list_tasks(status)
        rows = await self._database.fetch(statement, queue_name, name, workflow_id, after, limit)
        return [as_task(row) for row in rows]

    async def wait(self, task_id: UUID, timeout: float | None = None) -> Row:
        """Wait until a task has ended and return it; the event log says when, and a look every second makes sure.

        Raises
        ------
        TimeoutError
            It had not ended after ``timeout`` seconds.
        UnknownTaskError
            There is no such task.
        """

        await self._until_ended(lambda: self._task_status(task_id), "task_id", task_id, timeout)
        return await self.get_task(task_id) or {}

    async def _task_status(self, task_id: UUID) -> str:
        status: str | None = await self._database.fetchval(tasks.TASK_STATUS, task_id)
        if status is None:
            raise UnknownTaskError(f"the queue has no task {task_id}")
        return status

    async def _until_ended(
        self, look: Callable[[], Awaitable[str]], key: str, wanted: UUID, timeout: float | None
    ) -> None:
        """Look at a status again after each event whose ``key`` is ``wanted``, until it is that of an end."""
        self.events.start()
        async with asyncio.timeout(timeout):
            while True:
                place = self.events.end
                if await look() in ENDED:
                    return
                await self.events.news_of(key, str(wanted), place, POLL_S)

    async def cancel_task(self, task_id: UUID) -> bool:
        """Cancel a task and return True; False when it has ended or never was.

        One that runs is asked to stop: it stays ``claimed`` until its worker has killed it.
        """
        return bool(await self._database.fetchval(tasks.CANCEL_TASK, task_id))

    async def retry_task(self, task_id: UUID) -> bool:
        """Run a failed or cancelled task again, with the tasks that its end had skipped; False when it is neither."""
        return bool(await self._database.fetchval(tasks.RETRY_TASK, task_id))

    async def prune_tasks(
        self, retention_days: float = 7, queue_name: str | None = None, statuses: Collection[str] | None = None
    ) -> int:
        """Delete tasks that ended more than ``retention_days`` ago; see :mod:`dsa110_contimg.absurd.retention`."""
        chosen = None if statuses is None else list(statuses)
        return await retention.prune(self._database, retention_days, queue_name, chosen)
