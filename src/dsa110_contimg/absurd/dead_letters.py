"""The dead letters of a queue: tasks that failed for good, kept until somebody replays or deletes them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dsa110_contimg.absurd.connection import ChangedError, Database
from dsa110_contimg.absurd.monitoring import Row, as_row
from dsa110_contimg.absurd.statements import dead_letters as statements

#: Dead letters that one statement replays or deletes: few enough to be over soon.
BATCH = 100


class DeadLetters:
    """The dead letters of a queue. They outlive the pruning of their tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, queue_name: str | None = None, name: str | None = None, reason: str | None = None, limit: int = 100,
        after: UUID | None = None,
    ) -> list[Row]:  # fmt: skip
        """Return at most ``limit`` dead letters, the newest tasks first.

        Parameters
        ----------
        queue_name, name, reason : str, optional
            Those of a queue, of a task name, and that died of ``error``, ``timeout`` or ``crashed``.
        limit : int
            The length of a page.
        after : UUID, optional
            The last ``task_id`` of the page before.
        """
        rows = await self._database.fetch(statements.LIST, queue_name, name, reason, after, limit)
        return [as_row(row) for row in rows]

    async def get(self, task_id: UUID) -> Row | None:
        """Return a dead letter with all its failed attempts (``failed_attempts``, the first first), or None."""
        rows = await self._database.fetch(statements.GET, task_id)
        return as_row(rows[0]) if rows else None

    async def edit(self, task_id: UUID, params: Mapping[str, Any], seen: int | None = None) -> bool:
        """Change the parameters with which it would be replayed; False when there is no such dead letter.

        Raises
        ------
        ChangedError
            Its ``version`` (of :meth:`get`) is no more the one that was ``seen``.
        """
        edited: bool | None = await self._database.fetchval(statements.EDIT, task_id, params, seen)
        if edited is None:
            raise ChangedError(f"the dead letter {task_id} was changed by somebody else at this moment")
        return edited

    async def replay(self, task_id: UUID) -> bool:
        """Run it again with all its attempts; False when there is no such dead letter.

        Tasks that its end had skipped run after it, as :meth:`AbsurdClient.retry_task` says. One whose task has been
        pruned runs on its own, under its old id.
        """
        return bool(await self._database.fetchval(statements.REPLAY, task_id))

    async def replay_many(
        self, queue_name: str | None = None, name: str | None = None, reason: str | None = None, limit: int = 1000
    ) -> int:
        """Replay at most ``limit`` dead letters, the oldest first, in short transactions; return how many."""
        replayed = 0
        while replayed < limit:
            batch = min(BATCH, limit - replayed)
            count = await self._database.fetchval(statements.REPLAY_MANY, queue_name, name, reason, batch)
            replayed += count
            if count < batch:
                break
        return replayed

    async def purge(self, task_id: UUID) -> bool:
        """Delete a dead letter; False when there is none. Its task, if it is still there, stays failed."""
        return bool(await self._database.fetchval(statements.PURGE, task_id))

    async def purge_many(self, queue_name: str | None = None, older_s: float = 0.0) -> int:
        """Delete the dead letters of a queue (None: of all) that died ``older_s`` ago or earlier; return how many."""
        purged = 0
        while count := await self._database.fetchval(statements.PURGE_MANY, queue_name, older_s, BATCH * 10):
            purged += count
        return purged
