"""Dead letters: tasks that failed for good. They are kept until somebody replays or deletes them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dsa110_contimg.api.queue_schemas.requests import ReplayRequest
from dsa110_contimg.api.services.absurd.gateway import QueueGateway, Row, next_after, utc

_KEYS = (
    "task_id", "queue_name", "task_name", "params", "priority", "workflow_id", "reason", "error", "error_detail",
    "created_at", "pruned",
)  # fmt: skip


class DeadLetterService:
    """Everything that is done to dead letters."""

    def __init__(self, gateway: QueueGateway) -> None:
        self._gateway = gateway

    async def list_letters(
        self, queue_name: str | None, task_name: str | None, reason: str | None, limit: int, after: UUID | None
    ) -> Row:
        """Return the newest dead letters first."""
        rows = await self._gateway.ask(
            lambda client: client.dead_letters.list(
                queue_name=queue_name, name=task_name, reason=reason, limit=limit, after=after
            )
        )
        return {"tasks": [_view(row) for row in rows], "total": len(rows), "next_after": next_after(rows, limit)}

    async def get(self, task_id: UUID) -> Row:
        """Return one dead letter."""
        found = await self._gateway.find("Dead letter", task_id, lambda client: client.dead_letters.get(task_id))
        return _view(found)

    async def edit(self, task_id: UUID, params: Mapping[str, Any], if_match: str | None = None) -> Row:
        """Give the dead letter that ``if_match`` names other parameters, for its replay."""
        seen = await self._gateway.seen(
            if_match, "Dead letter", task_id, lambda client: client.dead_letters.get(task_id), _view
        )
        await self._gateway.find("Dead letter", task_id, lambda client: client.dead_letters.edit(task_id, params, seen))
        return await self.get(task_id)

    async def replay(self, task_id: UUID) -> Row:
        """Run a dead letter again."""
        await self._gateway.find("Dead letter", task_id, lambda client: client.dead_letters.replay(task_id))
        return {"task_id": str(task_id), "message": f"Task {task_id} runs again"}

    async def replay_many(self, wanted: ReplayRequest) -> Row:
        """Run dead letters again, the oldest first."""
        number = await self._gateway.ask(
            lambda client: client.dead_letters.replay_many(
                queue_name=wanted.queue_name, name=wanted.task_name, reason=wanted.reason, limit=wanted.limit
            )
        )
        return {"replayed": number}

    async def purge(self, task_id: UUID) -> Row:
        """Delete a dead letter; the task stays failed."""
        await self._gateway.find("Dead letter", task_id, lambda client: client.dead_letters.purge(task_id))
        return {"message": f"Dead letter {task_id} is deleted"}

    async def purge_many(self, queue_name: str | None, older_s: float) -> Row:
        """Delete the dead letters of a queue that died so long ago."""
        number = await self._gateway.ask(
            lambda client: client.dead_letters.purge_many(queue_name=queue_name, older_s=older_s)
        )
        return {"purged": number}


def _view(row: Mapping[str, Any]) -> Row:
    shown = {key: row[key] for key in _KEYS}
    return utc({**shown, "retry_count": row["attempts"], "status": "failed", "completed_at": row["died_at"]})
