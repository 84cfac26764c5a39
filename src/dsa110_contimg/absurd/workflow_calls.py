"""Looking at workflows, waiting for them, cancelling and retrying them. Their status is derived by the database."""

from collections.abc import Sequence
from uuid import UUID

from dsa110_contimg.absurd.dependencies import depth, topological_sort
from dsa110_contimg.absurd.rows import Row, as_row, as_task
from dsa110_contimg.absurd.specs import UnknownTaskError
from dsa110_contimg.absurd.statements import workflows
from dsa110_contimg.absurd.task_calls import TaskCalls


class WorkflowCalls(TaskCalls):
    """The calls about workflows."""

    async def get_workflow(self, workflow_id: UUID) -> Row | None:
        """Return a workflow with its status, its counts and its tasks in the order of the DAG, or None.

        The status is ``pending`` before the first task starts, ``running`` until the last has ended, and then
        ``failed``, ``cancelled`` or ``completed``.
        """
        rows = await self._database.fetch(workflows.GET_WORKFLOW, workflow_id)
        if not rows:
            return None
        tasks = await self._tasks_of(workflow_id)
        order = topological_sort({key: task["depends_on"] for key, task in tasks.items()})
        return {**as_row(rows[0]), "tasks": [tasks[key] for key in order if key in tasks]}

    async def has_workflow(self, workflow_id: UUID) -> bool:
        """Tell whether there is such a workflow."""
        return bool(await self._database.fetch(workflows.HAS_WORKFLOW, workflow_id))

    async def list_workflows(self, status: str | None = None, limit: int = 100, after: UUID | None = None) -> list[Row]:
        """Return the newest workflows first, at most ``limit``, with their counts and without their tasks.

        ``after`` is the id of the last workflow of the page before.
        """
        return [as_row(row) for row in await self._database.fetch(workflows.LIST_WORKFLOWS, status, after, limit)]

    async def stopped_workflows(self, workflow_ids: Sequence[UUID]) -> set[UUID]:
        """Return those of some workflows that failed or were cancelled."""
        return {row["workflow_id"] for row in await self._database.fetch(workflows.STOPPED_WORKFLOWS, workflow_ids)}

    async def workflow_dag(self, workflow_id: UUID) -> Row | None:
        """Return the DAG of a workflow, or None.

        Returns
        -------
        dict
            ``workflow_id``, ``name``, ``status``, ``total_depth`` (number of edges of the longest path),
            ``root_tasks``, ``leaf_tasks`` and ``nodes`` in the order of the DAG, each a task with ``depends_on``,
            ``dependents`` and ``depth``. A dependency outside the workflow is named in ``depends_on`` and counts for
            nothing else.
        """
        workflow = await self.get_workflow(workflow_id)
        if workflow is None:
            return None
        tasks = {task["task_id"]: task for task in workflow["tasks"]}
        graph = {key: [parent for parent in task["depends_on"] if parent in tasks] for key, task in tasks.items()}
        dependents: dict[str, list[str]] = {key: [] for key in tasks}
        for key, parents in graph.items():
            for parent in parents:
                dependents[parent].append(key)
        depths = depth(graph)
        return {
            "workflow_id": workflow["workflow_id"],
            "name": workflow["name"],
            "status": workflow["status"],
            "total_depth": max(depths.values(), default=0),
            "root_tasks": [key for key, parents in graph.items() if not parents],
            "leaf_tasks": [key for key, children in dependents.items() if not children],
            "nodes": [
                {**task, "dependents": dependents[key], "depth": depths[key]} for key, task in tasks.items()
            ],
        }  # fmt: skip

    async def ready_tasks(self, workflow_id: UUID) -> list[UUID]:
        """Return the tasks of a workflow that a worker could start now."""
        return [row["task_id"] for row in await self._database.fetch(workflows.READY_TASKS, workflow_id)]

    async def wait_workflow(self, workflow_id: UUID, timeout: float | None = None) -> Row:
        """Wait until every task of a workflow has ended and return it as :meth:`get_workflow` does.

        Raises
        ------
        TimeoutError
            It had not ended after ``timeout`` seconds.
        UnknownTaskError
            There is no such workflow.
        """

        await self._until_ended(lambda: self._workflow_status(workflow_id), "workflow_id", workflow_id, timeout)
        return await self.get_workflow(workflow_id) or {}

    async def _workflow_status(self, workflow_id: UUID) -> str:
        rows = await self._database.fetch(workflows.GET_WORKFLOW, workflow_id)
        if not rows:
            raise UnknownTaskError(f"the queue has no workflow {workflow_id}")
        return str(rows[0]["status"])

    async def cancel_workflow(self, workflow_id: UUID) -> int:
        """Cancel every task of a workflow that has not ended and return how many that were."""
        return int(await self._database.fetchval(workflows.CANCEL_WORKFLOW, workflow_id))

    async def retry_workflow(self, workflow_id: UUID) -> int:
        """Run every failed and cancelled task of a workflow again and return how many that were."""
        return int(await self._database.fetchval(workflows.RETRY_WORKFLOW, workflow_id))

    async def _tasks_of(self, workflow_id: UUID) -> dict[str, Row]:
        rows = await self._database.fetch(workflows.WORKFLOW_TASKS, workflow_id)
        return {task["task_id"]: task for task in map(as_task, rows)}
