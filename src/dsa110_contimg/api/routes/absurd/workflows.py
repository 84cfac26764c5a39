"""Workflows."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query, Response

from dsa110_contimg.api.authorization import require_scope
from dsa110_contimg.api.dependencies import EarlierClient, Workflows
from dsa110_contimg.api.idempotency import NewIds, WorkRoute
from dsa110_contimg.api.queue_schemas import tasks as schemas
from dsa110_contimg.api.queue_schemas.requests import WorkflowCreate
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.validation import Limit

router = router_of("/absurd", "task queue", WorkRoute)

_WRITES = [require_scope("write:jobs")]
Status = Literal["pending", "running", "completed", "failed", "cancelled"]


@router.get("/workflows", response_model=schemas.WorkflowList)
async def list_workflows(
    service: Workflows, status: Status | None = None, limit: Limit = 100,
    after: Annotated[UUID | None, Query(description="id of the last workflow of the page before")] = None,
) -> Response:  # fmt: skip
    """List workflows, newest first."""
    return json_reply(await service.list_workflows(status, limit, after))


@router.post("/workflows", response_model=schemas.WorkflowCreated, dependencies=_WRITES)
async def create_workflow(service: Workflows, workflow: WorkflowCreate, ids: NewIds) -> Response:
    """Make a workflow, to which tasks are added by `POST /tasks/with-deps` with its id."""
    return json_reply(await service.create(workflow, next(ids)))


@router.get("/workflows/{workflow_id}", response_model=schemas.WorkflowView)
async def get_workflow(service: Workflows, workflow_id: UUID, earlier: EarlierClient) -> Response:
    """Return a workflow with its tasks and the edges between them."""
    return json_reply(await service.get(workflow_id, tasks_as_list=earlier))


@router.get("/workflows/{workflow_id}/dag", response_model=schemas.WorkflowDag)
async def get_workflow_dag(service: Workflows, workflow_id: UUID) -> Response:
    """Return the DAG of a workflow."""
    return json_reply(await service.dag(workflow_id))


@router.get("/workflows/{workflow_id}/ready", response_model=schemas.ReadyTasks)
async def get_ready_tasks(service: Workflows, workflow_id: UUID) -> Response:
    """Return the tasks of a workflow that a worker could start now."""
    return json_reply(await service.ready(workflow_id))


@router.delete("/workflows/{workflow_id}", response_model=schemas.WorkflowChanged, dependencies=_WRITES)
async def cancel_workflow(service: Workflows, workflow_id: UUID) -> Response:
    """Cancel every task of a workflow that has not ended."""
    return json_reply(await service.cancel(workflow_id))


@router.post("/workflows/{workflow_id}/retry", response_model=schemas.WorkflowChanged, dependencies=_WRITES)
async def retry_workflow(service: Workflows, workflow_id: UUID) -> Response:
    """Run every failed and cancelled task of a workflow again."""
    return json_reply(await service.retry(workflow_id))
