"""Spawning tasks, workflows and chains."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from dsa110_contimg.absurd import transactional
from dsa110_contimg.absurd.caller import Caller
from dsa110_contimg.absurd.chains import Chain, Step, as_chain, chain_specs
from dsa110_contimg.absurd.ids import new_id
from dsa110_contimg.absurd.payloads import encode
from dsa110_contimg.absurd.specs import (
    Dependency,
    Node,
    Spawned,
    TaskSpec,
    UnknownTaskError,
    in_order,
    known,
    like,
    node,
)
from dsa110_contimg.absurd.statements import tasks

#: Tasks that ``spawn_many`` sends at once.
BATCH = 5000
#: Tasks from which on those that are alike are sent in a shorter form.
WORTH_IT = 20


class Spawning(Caller):
    """The calls that put tasks into the queue. What they spawned is durable when they return."""

    async def spawn(
        self, name: str, params: Any = None, *, queue: str | None = None,
        task_id: UUID | None = None, priority: int = 0, timeout_sec: float | None = None,
        max_retries: int | None = None, depends_on: Sequence[UUID | Dependency] = (), workflow_id: UUID | None = None,
        run_at: datetime | None = None, idempotency_key: str | None = None, concurrency_key: str | None = None,
        fair_key: str | None = None, headers: Mapping[str, Any] | None = None,
    ) -> UUID:  # fmt: skip
        """Spawn one task and return its id: that of the task that exists already when its idempotency key does.

        The parameters are those of :class:`~dsa110_contimg.absurd.specs.TaskSpec`; give one to :meth:`spawn_many` for
        what has no parameter here.

        Raises
        ------
        UnknownTaskError
            It depends on a task that does not exist.
        SpecError
            A parameter cannot be.
        QueueUnavailableError
            The database does not answer.
        """
        spec = TaskSpec(
            name, {} if params is None else params, task_id or new_id(), depends_on, priority, timeout_sec,
            max_retries, queue, run_at=run_at, idempotency_key=idempotency_key,
            concurrency_key=concurrency_key, fair_key=fair_key, headers=headers,
        )  # fmt: skip
        [spawned] = await self._send(tasks.SPAWN_TASKS, [self.node_of(spec, workflow_id)])
        return spawned.task_id

    async def spawn_many(self, specs: Sequence[TaskSpec], *, workflow_id: UUID | None = None) -> list[Spawned]:
        """Spawn tasks, and say for each, in the given order, under which id it is known and whether it is new.

        They are sent in batches of 5000, each in a transaction of its own; the call may be repeated after an error. A
        task may depend on earlier ones of the list.

        Raises
        ------
        UnknownTaskError
            A task depends on one that is neither earlier in the list nor in the queue.
        QueueUnavailableError
            The database does not answer.
        """
        spawned: list[Spawned] = []
        for start in range(0, len(specs), BATCH):
            batch = specs[start : start + BATCH]
            if len(batch) >= WORTH_IT and all(spec.is_plain for spec in batch) and len(set(map(like, batch))) == 1:
                spawned += await self._send_alike([known(spec, self._registry) for spec in batch], workflow_id)
            else:
                spawned += await self._send(tasks.SPAWN_TASKS, [self.node_of(spec, workflow_id) for spec in batch])
        return spawned

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
        workflow_id = workflow_id or new_id()
        await self.spawn_workflow(name, nodes, workflow_id=workflow_id, metadata=metadata)
        return workflow_id

    async def spawn_workflow(
        self, name: str, nodes: Sequence[TaskSpec], *, workflow_id: UUID, metadata: Mapping[str, Any] | None = None
    ) -> list[Spawned]:
        """Do the same under a given id, and return the tasks: each after what it depends on, with whether it is new."""
        ordered = [self.node_of(spec, workflow_id) for spec in in_order(nodes)]
        return await self._send(tasks.SPAWN_WORKFLOW, workflow_id, name, metadata or {}, ordered)

    async def spawn_chain(
        self, chain: str | Chain | Sequence[str | Step], params: Mapping[str, Any] | None = None, *,
        step_params: Mapping[str, Mapping[str, Any]] | None = None, queue: str | None = None, priority: int = 0,
        timeout_sec: float | None = None, max_retries: int | None = None, idempotency_key: str | None = None,
        workflow_id: UUID | None = None, metadata: Mapping[str, Any] | None = None,
    ) -> UUID:  # fmt: skip
        """Spawn the tasks of a chain as a workflow and return the workflow's id.

        Parameters
        ----------
        chain
            Name (see :mod:`dsa110_contimg.absurd.chains`), a chain, or its steps.
        params
            Parameters of every step.
        step_params
            Task name → parameters that are laid over them.
        queue, priority, timeout_sec, max_retries, idempotency_key
            As for :meth:`spawn`, for every step; the key is that of the whole chain.

        Raises
        ------
        UnknownChainError
            No chain has this name, or it has no step of a name in ``step_params``.
        """
        found = as_chain(chain)
        specs = chain_specs(
            found, params or {}, step_params, queue=queue, priority=priority, timeout_sec=timeout_sec,
            max_retries=max_retries, idempotency_key=idempotency_key,
        )  # fmt: skip
        about = {"chain": found.name, **(metadata or {})}
        return await self.spawn_graph(found.name, specs, workflow_id=workflow_id, metadata=about)

    async def create_workflow(
        self, name: str, metadata: Mapping[str, Any] | None = None, *, workflow_id: UUID | None = None
    ) -> UUID:
        """Make a workflow without tasks, for ``spawn(..., workflow_id=...)``, and return its id."""
        return await self.spawn_graph(name, [], workflow_id=workflow_id, metadata=metadata)

    # ------------------------------------------------------------------------------ in a transaction of the caller
    async def spawn_on(
        self, connection: Any, name: str, params: Any = None, *, workflow_id: UUID | None = None,
        **options: Any,
    ) -> UUID:  # fmt: skip
        """Spawn one task in the transaction of ``connection`` (asyncpg, psycopg or SQLAlchemy) and return its id.

        The task exists when that transaction commits, and never did when it does not. This client need not be
        connected. Errors are those of the caller's driver.

        Parameters
        ----------
        connection
            To the queue's database.
        **options
            Further fields of :class:`~dsa110_contimg.absurd.specs.TaskSpec`.
        """
        spec = TaskSpec(name, {} if params is None else params, **options)
        [spawned] = await transactional.spawn_on(connection, encode([self.node_of(spec, workflow_id)]))
        return spawned.task_id

    async def spawn_graph_on(
        self, connection: Any, name: str, nodes: Sequence[TaskSpec], *, workflow_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> UUID:  # fmt: skip
        """Spawn a workflow as :meth:`spawn_graph` does, in the transaction of ``connection``."""
        workflow_id = workflow_id or new_id()
        ordered = [self.node_of(spec, workflow_id) for spec in in_order(nodes)]
        await transactional.spawn_on(connection, encode(ordered), str(workflow_id), name, encode(metadata or {}))
        return workflow_id

    # ----------------------------------------------------------------------------------------------------- the pieces
    def node_of(self, spec: TaskSpec, workflow_id: UUID | None) -> Node:
        """Return a task as the queue's functions take it; the registry, if there is one, checks its parameters."""
        return node(known(spec, self._registry), self.config, workflow_id)

    async def _send(self, statement: str, *args: Any) -> list[Spawned]:
        try:
            rows = await self._database.fetch(statement, *args)
        except asyncpg.ForeignKeyViolationError as error:
            raise UnknownTaskError(str(error)) from None
        return [Spawned(row["task_id"], row["created"]) for row in rows]

    async def _send_alike(self, specs: Sequence[TaskSpec], workflow_id: UUID | None) -> list[Spawned]:
        """Send tasks that differ in id and parameters only: six times as fast."""
        shared = node(specs[0], self.config, workflow_id)
        ids, params = [spec.task_id for spec in specs], [encode(spec.params) for spec in specs]
        new = set(await self._database.fetchval(tasks.SPAWN_BATCH, ids, params, shared))
        return [Spawned(task_id, task_id in new) for task_id in ids]
