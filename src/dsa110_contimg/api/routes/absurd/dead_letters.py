"""Dead letters: tasks that failed for good."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from dsa110_contimg.api.authorization import require_scope
from dsa110_contimg.api.dependencies import DeadLetters
from dsa110_contimg.api.idempotency import WorkRoute
from dsa110_contimg.api.preconditions import IfMatch
from dsa110_contimg.api.queue_schemas import tasks as schemas
from dsa110_contimg.api.queue_schemas.requests import DeadLetterEdit, Name, ReplayRequest
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.validation import Limit

router = router_of("/absurd", "task queue", WorkRoute)

_WRITES = [require_scope("write:jobs")]
_OPERATES = [require_scope("ops")]
After = Annotated[UUID | None, Query(description="id of the last one of the page before")]


@router.get("/dlq", response_model=schemas.DeadLetterList)
async def list_dead_letters(
    service: DeadLetters, queue_name: Name | None = None, task_name: Name | None = None, reason: Name | None = None,
    limit: Limit = 100, after: After = None,
) -> Response:  # fmt: skip
    """List dead letters, newest first."""
    return json_reply(await service.list_letters(queue_name, task_name, reason, limit, after))


@router.delete("/dlq", response_model=schemas.Purged, dependencies=_OPERATES)
async def purge_dead_letters(
    service: DeadLetters, queue_name: Name | None = None,
    older_than_days: Annotated[float, Query(ge=0, le=36_500)] = 0.0,
) -> Response:  # fmt: skip
    """Delete the dead letters of a queue, or all; the tasks stay failed."""
    return json_reply(await service.purge_many(queue_name, older_than_days * 86400.0))


@router.post("/dlq/replay", response_model=schemas.Replayed, dependencies=_WRITES)
async def replay_dead_letters(service: DeadLetters, wanted: ReplayRequest) -> Response:
    """Run dead letters again, the oldest first."""
    return json_reply(await service.replay_many(wanted))


@router.get("/dlq/{task_id}", response_model=schemas.DeadLetter)
async def get_dead_letter(service: DeadLetters, task_id: UUID) -> Response:
    """Return one dead letter with its last error."""
    return json_reply(await service.get(task_id))


@router.patch("/dlq/{task_id}", response_model=schemas.DeadLetter, dependencies=_WRITES)
async def edit_dead_letter(
    service: DeadLetters, task_id: UUID, edit: DeadLetterEdit, if_match: IfMatch = None
) -> Response:
    """Give a dead letter other parameters, for its replay."""
    return json_reply(await service.edit(task_id, edit.params, if_match))


@router.delete("/dlq/{task_id}", response_model=schemas.Message, dependencies=_OPERATES)
async def purge_dead_letter(service: DeadLetters, task_id: UUID) -> Response:
    """Delete one dead letter; the task stays failed."""
    return json_reply(await service.purge(task_id))


@router.post("/dlq/{task_id}/replay", response_model=schemas.TaskChanged, dependencies=_WRITES)
async def replay_dead_letter(service: DeadLetters, task_id: UUID) -> Response:
    """Run a dead letter again with all its attempts."""
    return json_reply(await service.replay(task_id))
