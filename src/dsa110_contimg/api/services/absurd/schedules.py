"""Schedules: tasks that are spawned again and again."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dsa110_contimg.absurd.schedules import State
from dsa110_contimg.api.queue_schemas.requests import ScheduleCreate, ScheduleUpdate
from dsa110_contimg.api.queue_schemas.tasks import ScheduleView
from dsa110_contimg.api.services.absurd.gateway import QueueGateway, Row, utc


class ScheduleService:
    """Everything that is done to schedules."""

    def __init__(self, gateway: QueueGateway) -> None:
        self._gateway = gateway

    async def list_schedules(self, queue_name: str | None, state: State | None) -> Row:
        """Return the schedules by name."""
        rows = await self._gateway.ask(lambda client: client.schedules.list(queue_name, state))
        return {"schedules": [_view(row) for row in rows], "total": len(rows)}

    async def get(self, name: str) -> Row:
        """Return one schedule."""
        return _view(await self._gateway.find("Schedule", name, lambda client: client.schedules.get(name)))

    async def create(self, wanted: ScheduleCreate) -> Row:
        """Create a schedule."""
        fields = wanted.model_dump(exclude={"name"})
        row = _view(await self._gateway.ask(lambda client: client.schedules.create(wanted.name, **fields)))
        message = f"Schedule {wanted.name} is made"
        return {key: row[key] for key in ("schedule_id", "name", "next_run_at")} | {"message": message}

    async def update(self, name: str, wanted: ScheduleUpdate, if_match: str | None = None) -> Row:
        """Change what the client named, of the schedule that ``if_match`` names."""
        said = wanted.model_dump(exclude_unset=True)
        changes = {key: value for key, value in said.items() if value is not None or key == "description"}
        seen = await self._gateway.seen(if_match, "Schedule", name, lambda client: client.schedules.get(name), _view)
        row = await self._gateway.find(
            "Schedule", name, lambda client: client.schedules.update(name, seen=seen, **changes)
        )
        return _view(row)

    async def delete(self, name: str) -> Row:
        """Delete a schedule; tasks that it spawned stay."""
        await self._gateway.find("Schedule", name, lambda client: client.schedules.delete(name))
        return {"message": f"Schedule {name} is deleted"}

    async def trigger(self, name: str, task_id: UUID) -> Row:
        """Spawn the task of a schedule now."""
        await self._gateway.find("Schedule", name, lambda client: client.schedules.trigger(name, task_id))
        return {"task_id": str(task_id), "schedule_name": name, "message": f"Schedule {name} fired now"}


def _view(row: Mapping[str, Any]) -> Row:
    return utc({key: row[key] for key in ScheduleView.model_fields})
