"""What programs do with the queue: spawn tasks and workflows, look at them, cancel and retry them, watch them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self
from uuid import UUID

import asyncpg
from uuid6 import uuid7

from dsa110_contimg.absurd import statements
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import (
    PASSING,
    AbsurdError,
    Database,
    QueueUnavailableError,
    delays,
    open_connection,
)
from dsa110_contimg.absurd.dependencies import DependencyCycleError, detect_cycles, topological_sort
from dsa110_contimg.absurd.monitoring import Monitor, Row, as_row, as_task
from dsa110_contimg.absurd.statements import tasks

Policy = Literal["success", "done", "failure"]

_ASK_INTERVAL_S = 30.0


class UnknownTaskError(AbsurdError):
    """A task is to depend on one that the queue does not know."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """An edge of the DAG: the task waits for ``task_id``.

    ``success``: it runs when the parent completed, else it is skipped. ``done``: it runs when the parent has ended in
    whatever way. ``failure``: it runs when the parent failed for good, else it is skipped.
    """

    task_id: UUID
    policy: Policy = "success"


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task to be spawned.

    Its id is made here, so that a whole DAG can be described before anything is sent, and sent again after a lost
    answer without a second task.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    task_id: UUID = field(default_factory=uuid7)
    depends_on: Sequence[UUID | Dependency] = ()
    priority: int = 0
    timeout_sec: float | None = None
    max_retries: int | None = None
    queue: str | None = None
    backoff_base_sec: float | None = None
    backoff_cap_sec: float | None = None

    def parents(self) -> tuple[Dependency, ...]:
        """Return the dependencies, each with its policy."""
        return tuple(d if isinstance(d, Dependency) else Dependency(d) for d in self.depends_on)


class AbsurdClient:
    """Client of the queue. Use it as an async context manager, or call :meth:`connect` and :meth:`close`.

    Examples
    --------
    >>> async def spawn_one() -> None:
    ...     async with AbsurdClient.from_env() as client:
    ...         await client.spawn("imaging", {"ms_path": "/data/2025-10-05T12:30:00.ms"})
    """

    def __init__(self, config: AbsurdConfig, database: Database | None = None) -> None:
        self.config = config
        self._database = database or Database(config.database_url, "absurd client")
        self.monitor = Monitor(self._database)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Make a client from the ``ABSURD_*`` variables of ``environ`` (default: the process's environment)."""
        return cls(AbsurdConfig.from_env(environ))

    async def connect(self) -> None:
        """Open the connections.

        Raises
        ------
        QueueUnavailableError
            The server does not answer.
        SchemaError
            The queue is not set up, or by another version.
        """
        await self._database.connect()

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ------------------------------------------------------------------------------------------------------ spawning
    async def spawn(
        self, name: str, params: Mapping[str, Any] | None = None, *, queue: str | None = None,
        task_id: UUID | None = None, priority: int = 0, timeout_sec: float | None = None,
        max_retries: int | None = None, depends_on: Sequence[UUID | Dependency] = (), workflow_id: UUID | None = None,
    ) -> UUID:  # fmt: skip
        """Spawn one task and return its id. It is durable when this returns.

        Parameters
        ----------
        name, params
            Which handler runs it, with what.
        queue : str, optional
            Default: the queue of the configuration.
        task_id : UUID, optional
            An id (UUIDv7) under which the call may be repeated: an id that exists is left alone.
        priority : int
            Larger runs first.
        timeout_sec : float, optional
            Limit of one attempt; default: of the configuration.
        max_retries : int, optional
            Further attempts after a failed one; default: of the configuration.
        depends_on
            Tasks to wait for: ids (policy ``success``) or :class:`Dependency`.
        workflow_id : UUID, optional
            The workflow that the task belongs to.

        Raises
        ------
        UnknownTaskError
            It depends on a task that does not exist.
        QueueUnavailableError
            The database does not answer.
        """
        spec = TaskSpec(
            name, params or {}, task_id or uuid7(), depends_on, priority, timeout_sec, max_retries, queue
        )  # fmt: skip
        await self._spawn(tasks.SPAWN_TASKS, [self._node(spec, workflow_id)])
        return spec.task_id

    async def spawn_graph(
        self, name: str, nodes: Sequence[TaskSpec], *, workflow_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> UUID:  # fmt: skip
        """Spawn all tasks of a workflow in one transaction and return the workflow's id.

        Calling it again with the same ids changes nothing.

        Raises
        ------
        DependencyCycleError
            Tasks wait for each other; the message gives their names.
        UnknownTaskError
            A task depends on one that is neither in ``nodes`` nor in the queue.
        QueueUnavailableError
            The database does not answer.
        """
        workflow_id = workflow_id or uuid7()
        ordered = [self._node(spec, workflow_id) for spec in _in_order(nodes)]
        await self._spawn(tasks.SPAWN_WORKFLOW, workflow_id, name, metadata or {}, ordered)
        return workflow_id

    async def _spawn(self, statement: str, *args: Any) -> None:
        try:
            await self._database.fetch(statement, *args)
        except asyncpg.ForeignKeyViolationError as error:
            raise UnknownTaskError(str(error)) from None

    def _node(self, spec: TaskSpec, workflow_id: UUID | None) -> Row:
        config = self.config
        retry = {"base_s": spec.backoff_base_sec, "cap_s": spec.backoff_cap_sec}
        retries = config.max_retries if spec.max_retries is None else spec.max_retries
        return {
            "task_id": str(spec.task_id),
            "queue": spec.queue or config.queue_name,
            "name": spec.name,
            "params": spec.params,
            "priority": spec.priority,
            "timeout_s": spec.timeout_sec or config.task_timeout_sec,
            "max_attempts": retries + 1,
            "retry": {key: value for key, value in retry.items() if value is not None} or None,
            "workflow_id": workflow_id and str(workflow_id),
            "depends_on": [{"task_id": str(d.task_id), "policy": d.policy} for d in spec.parents()],
        }

    # ----------------------------------------------------------------------------------------------------- one by one
    async def get_task(self, task_id: UUID) -> Row | None:
        """Return a task with state, result, error and progress, or None."""
        rows = await self._database.fetch(tasks.GET_TASK, task_id)
        return as_task(rows[0]) if rows else None

    async def list_tasks(self, queue_name: str | None = None, status: str | None = None, limit: int = 100) -> list[Row]:
        """Return the newest tasks first, at most ``limit``."""
        return [as_task(row) for row in await self._database.fetch(tasks.LIST_TASKS, queue_name, status, limit)]

    async def cancel_task(self, task_id: UUID) -> bool:
        """Cancel a task and return True; False when it has ended or never was.

        One that runs is asked to stop: it stays ``claimed`` until its worker has killed it.
        """
        return bool(await self._database.fetchval(tasks.CANCEL_TASK, task_id))

    async def retry_task(self, task_id: UUID) -> bool:
        """Run a failed or cancelled task again, with the tasks that its end had skipped; False when it is neither."""
        return bool(await self._database.fetchval(tasks.RETRY_TASK, task_id))

    # ------------------------------------------------------------------------------------------------------ workflows
    async def get_workflow(self, workflow_id: UUID) -> Row | None:
        """Return a workflow with its derived status and its tasks in the order of the DAG, or None.

        The status is ``pending`` before the first task starts, ``running`` until the last has ended, and then
        ``failed``, ``cancelled`` or ``completed``.
        """
        rows = await self._database.fetch(tasks.GET_WORKFLOW, workflow_id)
        if not rows:
            return None
        rows_of_tasks = await self._database.fetch(tasks.WORKFLOW_TASKS, workflow_id)
        by_id = {task["task_id"]: task for task in map(as_task, rows_of_tasks)}
        order = topological_sort({key: [d for d in task["depends_on"] if d in by_id] for key, task in by_id.items()})
        status = workflow_status([task["status"] for task in by_id.values()])
        return {**as_row(rows[0]), "status": status, "tasks": [by_id[key] for key in order]}

    async def wait_workflow(self, workflow_id: UUID, timeout: float | None = None) -> Row:
        """Wait until every task of a workflow has ended and return it as :meth:`get_workflow` does.

        Raises
        ------
        TimeoutError
            It had not ended after ``timeout`` seconds.
        UnknownTaskError
            There is no such workflow.
        """
        async with asyncio.timeout(timeout):
            while True:
                workflow = await self.get_workflow(workflow_id)
                if workflow is None:
                    raise UnknownTaskError(f"the queue has no workflow {workflow_id}")
                if workflow["status"] not in ("pending", "running"):
                    return workflow
                await asyncio.sleep(0.25)

    # ------------------------------------------------------------------------------------------------------- overview
    async def get_queue_stats(self, queue: str) -> Row:
        """Return how many tasks of a queue are in each state; zeros for a queue without tasks."""
        return _counted((await self._database.fetch(tasks.QUEUE_STATS, queue))[0])

    async def list_queue_stats(self) -> list[Row]:
        """Return the counts of every queue that has or had tasks."""
        return [_counted(row) for row in await self._database.fetch(tasks.LIST_QUEUE_STATS)]

    async def list_workers(self) -> list[Row]:
        """Return the workers with what they run, the oldest first."""
        return await self.monitor.workers()

    async def health(self) -> Row:
        """Return the state of the queue (``healthy``, ``degraded``, ``critical``, ``down``) with its reasons."""
        return await self.monitor.health()

    # ---------------------------------------------------------------------------------------------------------- events
    async def listen(self) -> AsyncIterator[Row]:
        """Yield what happens to tasks, as it happens.

        An event is ``{"type": "task_update", "task_id", "workflow_id", "queue", "name", "status", ...}`` with
        ``attempt``, ``progress``, ``message``, ``error`` or ``worker_id`` where they say something. The first event,
        and one after each time the connection was lost, is ``{"type": "listening"}``: what happened before it has to
        be read from the tables.
        """
        waits = delays()
        while True:
            try:
                async with self._subscription() as events:
                    waits = delays()
                    yield {"type": "listening"}
                    while (event_id := await events.get()) is not None:
                        for event in await self._database.fetchval(tasks.EVENT, event_id) or ():
                            yield event
            except PASSING:
                pass  # the connection is opened again, and the reader is told so
            await asyncio.sleep(next(waits))

    @contextlib.asynccontextmanager
    async def _subscription(self) -> AsyncIterator["asyncio.Queue[int | None]"]:
        events: asyncio.Queue[int | None] = asyncio.Queue()
        connection = await open_connection(self.config.database_url, "absurd events")
        asking = asyncio.create_task(self._go_on_asking(events))
        try:
            connection.add_termination_listener(lambda _: events.put_nowait(None))
            await connection.add_listener(
                statements.EVENT_CHANNEL, lambda _c, _p, _ch, payload: events.put_nowait(int(payload))
            )
            await connection.execute(tasks.LISTEN)
            yield events
        finally:
            asking.cancel()
            await _close(connection)

    async def _go_on_asking(self, events: "asyncio.Queue[int | None]") -> None:
        """Ask for events again before the queue stops writing them."""
        while True:
            await asyncio.sleep(_ASK_INTERVAL_S)
            try:
                await self._database.fetch(tasks.LISTEN)
            except QueueUnavailableError:
                events.put_nowait(None)


async def _close(connection: Any) -> None:
    try:
        await connection.close(timeout=2.0)
    except PASSING:
        connection.terminate()


def _in_order(nodes: Sequence[TaskSpec]) -> list[TaskSpec]:
    """Return the tasks sorted so that each follows what it depends on; refuse cycles by the names of the tasks."""
    by_id = {spec.task_id: spec for spec in nodes}
    graph = {spec.task_id: [d.task_id for d in spec.parents() if d.task_id in by_id] for spec in nodes}
    if cycle := detect_cycles(graph):
        raise DependencyCycleError(f"tasks wait for each other: {' -> '.join(by_id[key].name for key in cycle)}")
    return [by_id[key] for key in topological_sort(graph)]


def _counted(row: Mapping[str, Any]) -> Row:
    counts = {key: value if key == "queue_name" else int(value) for key, value in row.items()}
    return {**counts, "total": sum(value for value in counts.values() if isinstance(value, int))}


def workflow_status(states: Collection[str]) -> str:
    """Derive the status of a workflow from the states of its tasks."""
    ended = {"completed", "failed", "cancelled", "skipped"}
    if any(state not in ended for state in states):
        return "running" if any(state in ended or state in ("claimed", "retrying") for state in states) else "pending"
    for verdict in ("failed", "cancelled"):
        if verdict in states:
            return verdict
    return "completed"
