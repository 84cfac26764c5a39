"""Workflows: their states, which are always derived from their tasks, and their DAGs."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dsa110_contimg.api.queue_schemas.requests import WorkflowCreate
from dsa110_contimg.api.services.absurd.gateway import QueueGateway, Row, next_after, utc

_COUNTS = ("pending", "running", "completed", "failed", "blocked", "cancelled", "skipped", "retrying")
_TASK = ("task_id", "task_name", "status", "depends_on", "result", "error")
_NODE = ("task_id", "task_name", "status", "depends_on", "dependents", "depth")
_DAG = ("workflow_id", "name", "status", "total_depth", "root_tasks", "leaf_tasks")
_ITEM = ("workflow_id", "name", "status", "created_at", "started_at", "completed_at")


class WorkflowService:
    """Everything that is done to workflows."""

    def __init__(self, gateway: QueueGateway) -> None:
        self._gateway = gateway

    async def list_workflows(self, status: str | None, limit: int, after: UUID | None) -> Row:
        """Return the newest workflows first."""
        rows = await self._gateway.ask(lambda client: client.list_workflows(status, limit, after))
        following = next_after(rows, limit, "workflow_id")
        return {"workflows": [_item(row) for row in rows], "total": len(rows), "next_after": following}

    async def create(self, wanted: WorkflowCreate, workflow_id: UUID) -> Row:
        """Make a workflow without tasks."""
        about = wanted.metadata | ({"description": wanted.description} if wanted.description else {})
        await self._gateway.ask(lambda client: client.create_workflow(wanted.name, about, workflow_id=workflow_id))
        message = f"Workflow {wanted.name} is made; add tasks with its id"
        return {"workflow_id": str(workflow_id), "name": wanted.name, "message": message}

    async def get(self, workflow_id: UUID, tasks_as_list: bool) -> Row:
        """Return a workflow with its tasks in the order of its DAG.

        Parameters
        ----------
        workflow_id : UUID
            Which one.
        tasks_as_list : bool
            ``tasks`` holds the tasks themselves, as the earlier web client reads it, instead of their counts.
        """
        found = await self._gateway.find("Workflow", workflow_id, lambda client: client.get_workflow(workflow_id))
        view = workflow_view(found)
        return view | {"tasks": view["task_list"]} if tasks_as_list else view

    async def dag(self, workflow_id: UUID) -> Row:
        """Return the DAG of a workflow."""
        found = await self._gateway.find("Workflow", workflow_id, lambda client: client.workflow_dag(workflow_id))
        nodes = [{key: node[key] for key in _NODE} for node in found["nodes"]]
        return {key: found[key] for key in _DAG} | {"nodes": nodes}

    async def ready(self, workflow_id: UUID) -> Row:
        """Return the tasks of a workflow that a worker could start now."""
        await self._require(workflow_id)
        ready = [str(key) for key in await self._gateway.ask(lambda client: client.ready_tasks(workflow_id))]
        return {"workflow_id": str(workflow_id), "ready_tasks": ready, "count": len(ready)}

    async def cancel(self, workflow_id: UUID) -> Row:
        """Cancel every task of a workflow that has not ended."""
        await self._require(workflow_id)
        number = await self._gateway.ask(lambda client: client.cancel_workflow(workflow_id))
        return {"workflow_id": str(workflow_id), "message": f"{number} tasks are cancelled", "tasks": number}

    async def retry(self, workflow_id: UUID) -> Row:
        """Run every failed and cancelled task of a workflow again."""
        await self._require(workflow_id)
        number = await self._gateway.ask(lambda client: client.retry_workflow(workflow_id))
        return {"workflow_id": str(workflow_id), "message": f"{number} tasks run again", "tasks": number}

    async def _require(self, workflow_id: UUID) -> None:
        await self._gateway.find("Workflow", workflow_id, lambda client: client.has_workflow(workflow_id))


def _about(row: Mapping[str, Any]) -> Row:
    metadata = row["metadata"] or {}
    return utc({key: row[key] for key in _ITEM}) | {"description": metadata.get("description"), "metadata": metadata}


def _item(row: Mapping[str, Any]) -> Row:
    return _about(row) | {
        "task_count": row["total_tasks"],
        "completed_tasks": row["completed_tasks"],
        "failed_tasks": row["failed_tasks"],
    }


def workflow_view(found: Mapping[str, Any]) -> Row:
    """Return a workflow with counts, tasks and edges."""
    counts = {"total": found["total_tasks"]} | {name: found[f"{name}_tasks"] for name in _COUNTS}
    total = found["total_tasks"]
    return _about(found) | {
        "tasks": counts,
        "counts": counts,
        "task_list": [{key: task[key] for key in _TASK} for task in found["tasks"]],
        "dag_edges": [[parent, task["task_id"]] for task in found["tasks"] for parent in task["depends_on"]],
        "progress": round(100.0 * found["ended"] / total, 1) if total else 0.0,
    }
