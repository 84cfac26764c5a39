"""Templates: workflows that are kept by name."""

from typing import Annotated, Any

from fastapi import Body, Path, Response

from dsa110_contimg.api.authorization import require_scope
from dsa110_contimg.api.dependencies import Templates
from dsa110_contimg.api.idempotency import NewIds, WorkRoute
from dsa110_contimg.api.preconditions import IfMatch
from dsa110_contimg.api.queue_schemas import tasks as schemas
from dsa110_contimg.api.queue_schemas.requests import Name, TemplateCreate, TemplateReplacement
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of

router = router_of("/absurd", "task queue", WorkRoute)

_WRITES = [require_scope("write:jobs")]
TemplateName = Annotated[Name, Path(examples=["one-observation"])]


@router.get("/templates", response_model=schemas.TemplateList)
async def list_templates(service: Templates) -> Response:
    """List all templates."""
    return json_reply(await service.list_templates())


@router.post("/templates", response_model=schemas.TemplateView, dependencies=_WRITES)
async def create_template(service: Templates, template: TemplateCreate) -> Response:
    """Keep a template."""
    return json_reply(await service.create(template))


@router.get("/templates/{name}", response_model=schemas.TemplateView)
async def get_template(service: Templates, name: TemplateName) -> Response:
    """Return one template."""
    return json_reply(await service.get(name))


@router.put("/templates/{name}", response_model=schemas.TemplateView, dependencies=_WRITES)
async def replace_template(
    service: Templates, name: TemplateName, template: TemplateReplacement, if_match: IfMatch = None
) -> Response:
    """Put a template in the place of one; tasks that were spawned stay as they are."""
    return json_reply(await service.replace(name, template, if_match))


@router.delete("/templates/{name}", response_model=schemas.Message, dependencies=_WRITES)
async def delete_template(service: Templates, name: TemplateName) -> Response:
    """Delete a template; tasks that it spawned stay."""
    return json_reply(await service.delete(name))


@router.post("/templates/{name}/run", response_model=schemas.TemplateRun, dependencies=_WRITES)
async def run_template(
    service: Templates, name: TemplateName, ids: NewIds, params: Annotated[dict[str, Any] | None, Body()] = None
) -> Response:
    """Spawn the steps of a template, each after the one before it; the body is laid over the parameters of each."""
    return json_reply(await service.run(name, params or {}, ids))
