"""Templates: workflows that are kept by name and run with parameters."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from dsa110_contimg.absurd.templates import Step
from dsa110_contimg.api.exceptions import ValidationError
from dsa110_contimg.api.queue_schemas.requests import TemplateCreate, TemplateReplacement
from dsa110_contimg.api.queue_schemas.tasks import TemplateView
from dsa110_contimg.api.services.absurd.gateway import QueueGateway, Row, utc


class TemplateService:
    """Everything that is done to templates."""

    def __init__(self, gateway: QueueGateway) -> None:
        self._gateway = gateway

    async def list_templates(self) -> Row:
        """Return all templates by name."""
        rows = await self._gateway.ask(lambda client: client.templates.list())
        return {"templates": [_view(row) for row in rows], "total": len(rows)}

    async def get(self, name: str) -> Row:
        """Return one template."""
        return _view(await self._gateway.find("Template", name, lambda client: client.templates.get(name)))

    async def create(self, wanted: TemplateCreate) -> Row:
        """Keep a template."""
        return _view(
            await self._gateway.ask(
                lambda client: client.templates.create(
                    wanted.name, _steps(wanted), queue_name=wanted.queue_name, description=wanted.description
                )
            )
        )

    async def replace(self, name: str, wanted: TemplateReplacement, if_match: str | None = None) -> Row:
        """Put a template in the place of one.

        Raises
        ------
        ValidationError
            It is to have another name.
        PreconditionFailedError
            It is not what ``if_match`` names.
        """
        if wanted.name not in (None, name):
            raise ValidationError(f"the template {name!r} cannot become {wanted.name!r}; make a new one", field="name")
        seen = await self._gateway.seen(if_match, "Template", name, lambda client: client.templates.get(name), _view)
        row = await self._gateway.find(
            "Template",
            name,
            lambda client: client.templates.update(
                name, _steps(wanted), queue_name=wanted.queue_name, description=wanted.description, seen=seen
            ),
        )
        return _view(row)

    async def delete(self, name: str) -> Row:
        """Delete a template; tasks that it spawned stay."""
        await self._gateway.find("Template", name, lambda client: client.templates.delete(name))
        return {"message": f"Template {name} is deleted"}

    async def run(self, name: str, params: Mapping[str, Any], ids: Iterator[UUID]) -> Row:
        """Spawn the steps of a template, each after the one before it, with ``params`` laid over those of each step."""
        await self.get(name)
        ran = await self._gateway.ask(lambda client: client.templates.run(name, params, ids))
        return {"task_ids": [str(task_id) for task_id in ran.task_ids], "template_name": name}


def _steps(wanted: TemplateReplacement) -> list[Step]:
    return [Step(**step.model_dump()) for step in wanted.steps]


def _view(row: Mapping[str, Any]) -> Row:
    return utc({key: row[key] for key in TemplateView.model_fields})
