"""Schedules: tasks that are spawned again and again. ``/scheduled`` is what the earlier web client calls them."""

from typing import Annotated

from fastapi import Path, Response

from dsa110_contimg.absurd.schedules import State
from dsa110_contimg.api.authorization import require_scope
from dsa110_contimg.api.dependencies import Schedules
from dsa110_contimg.api.idempotency import NewIds, WorkRoute
from dsa110_contimg.api.preconditions import IfMatch
from dsa110_contimg.api.queue_schemas import tasks as schemas
from dsa110_contimg.api.queue_schemas.requests import Name, ScheduleCreate, ScheduleUpdate
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of

router = router_of("/absurd", "task queue", WorkRoute)

_OPERATES = [require_scope("ops")]
ScheduleName = Annotated[Name, Path(examples=["every-night"])]


@router.get("/schedules", response_model=schemas.ScheduleList)
async def list_schedules(service: Schedules, queue_name: Name | None = None, state: State | None = None) -> Response:
    """List schedules by name."""
    return json_reply(await service.list_schedules(queue_name, state))


@router.get("/scheduled", response_model=schemas.ScheduleList)
async def list_scheduled(service: Schedules, queue_name: Name | None = None, state: State | None = None) -> Response:
    """List schedules by name: the same as `GET /schedules`."""
    return json_reply(await service.list_schedules(queue_name, state))


@router.post("/schedules", response_model=schemas.ScheduleCreated, dependencies=_OPERATES)
async def create_schedule(service: Schedules, schedule: ScheduleCreate) -> Response:
    """Create a schedule."""
    return json_reply(await service.create(schedule))


@router.post("/scheduled", response_model=schemas.ScheduleCreated, dependencies=_OPERATES)
async def create_scheduled(service: Schedules, schedule: ScheduleCreate) -> Response:
    """Create a schedule: the same as `POST /schedules`."""
    return json_reply(await service.create(schedule))


@router.get("/schedules/{name}", response_model=schemas.ScheduleView)
async def get_schedule(service: Schedules, name: ScheduleName) -> Response:
    """Return one schedule."""
    return json_reply(await service.get(name))


@router.patch("/schedules/{name}", response_model=schemas.ScheduleView, dependencies=_OPERATES)
async def update_schedule(
    service: Schedules, name: ScheduleName, changes: ScheduleUpdate, if_match: IfMatch = None
) -> Response:
    """Change a schedule; what is not named stays."""
    return json_reply(await service.update(name, changes, if_match))


@router.delete("/schedules/{name}", response_model=schemas.Message, dependencies=_OPERATES)
async def delete_schedule(service: Schedules, name: ScheduleName) -> Response:
    """Delete a schedule; tasks that it spawned stay."""
    return json_reply(await service.delete(name))


@router.post("/schedules/{name}/trigger", response_model=schemas.ScheduleTriggered, dependencies=_OPERATES)
async def trigger_schedule(service: Schedules, name: ScheduleName, ids: NewIds) -> Response:
    """Spawn the task of a schedule now; its times stay as they are."""
    return json_reply(await service.trigger(name, next(ids)))
