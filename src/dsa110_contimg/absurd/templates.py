"""Templates: workflows that are kept by name in the queue's database, and run with parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol
from uuid import UUID

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import AbsurdError, ChangedError, Database
from dsa110_contimg.absurd.ids import new_id
from dsa110_contimg.absurd.monitoring import Row, as_row
from dsa110_contimg.absurd.specs import TaskSpec
from dsa110_contimg.absurd.statements import templates as statements


class TemplateError(AbsurdError):
    """A template that cannot be: the message says what would be right."""


class TemplateExistsError(TemplateError):
    """There is a template of this name already."""


class UnknownTemplateError(TemplateError):
    """There is no template of this name."""


@dataclass(frozen=True, slots=True)
class Step:
    """One task of a template; it waits for the step before it."""

    task_name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    timeout_sec: float | None = None
    max_retries: int | None = None

    def __post_init__(self) -> None:
        if not self.task_name:
            raise TemplateError("task_name of a step is ''; give the name of a task")
        if self.timeout_sec is not None and self.timeout_sec <= 0:
            raise TemplateError(f"timeout_sec of step {self.task_name} is {self.timeout_sec:g}; give more than 0")
        if self.max_retries is not None and self.max_retries < 0:
            raise TemplateError(f"max_retries of step {self.task_name} is {self.max_retries}; give at least 0")


@dataclass(frozen=True, slots=True)
class TemplateRun:
    """What running a template spawned: a workflow, and its tasks in the order of the steps."""

    template_name: str
    workflow_id: UUID
    task_ids: tuple[UUID, ...]


class Spawner(Protocol):
    """What spawns workflows."""

    async def spawn_graph(
        self, name: str, nodes: Sequence[TaskSpec], *, workflow_id: UUID, metadata: Mapping[str, Any]
    ) -> UUID:
        """Spawn all tasks of a workflow in one transaction and return the workflow's id."""


class Templates:
    """The templates of a queue.

    Parameters
    ----------
    database : Database
        Where they are kept.
    config : AbsurdConfig
        Gives the queue where a template does not.
    spawner : Spawner
        Spawns what a template says.
    """

    def __init__(self, database: Database, config: AbsurdConfig, spawner: Spawner) -> None:
        self._database = database
        self._config = config
        self._spawner = spawner

    async def create(
        self, name: str, steps: Sequence[Step], *, queue_name: str | None = None, description: str | None = None
    ) -> Row:
        """Keep a template and return it.

        Raises
        ------
        TemplateExistsError
            The name is taken.
        TemplateError
            It has no name, or no steps.
        """
        values = self._values(name, steps, queue_name, description)
        if not await self._database.fetch(statements.CREATE, *values):
            raise TemplateExistsError(f"there is a template {name!r} already; change it, or take another name")
        return await self._existing(name)

    async def get(self, name: str) -> Row | None:
        """Return a template, or None."""
        rows = await self._database.fetch(statements.GET, name)
        return as_row(rows[0]) if rows else None

    async def list(self) -> list[Row]:
        """Return all templates by name."""
        return [as_row(row) for row in await self._database.fetch(statements.LIST)]

    async def update(
        self, name: str, steps: Sequence[Step], *, queue_name: str | None = None, description: str | None = None,
        seen: int | None = None,
    ) -> Row | None:  # fmt: skip
        """Replace a template and return it; None when there is none of this name.

        Raises
        ------
        ChangedError
            Its ``version`` (of :meth:`get`) is no more the one that was ``seen``.
        """
        values = self._values(name, steps, queue_name, description)
        if await self._database.fetch(statements.UPDATE, *values, seen):
            return await self._existing(name)
        if seen is not None and await self.get(name) is not None:
            raise ChangedError(f"the template {name!r} was changed by somebody else at this moment")
        return None

    async def delete(self, name: str) -> bool:
        """Delete a template; False when there is none of this name. What it spawned stays."""
        return bool(await self._database.fetch(statements.DELETE, name))

    async def run(
        self, name: str, params: Mapping[str, Any] | None = None, ids: Iterator[UUID] | None = None
    ) -> TemplateRun:
        """Spawn the steps of a template as a workflow, each after the one before it.

        Parameters
        ----------
        name : str
            Which template.
        params : mapping, optional
            Merged into the parameters of every step, over what the step says.
        ids : iterator, optional
            Of the workflow and then of its tasks; running it again with the same ones changes nothing.

        Raises
        ------
        UnknownTemplateError
            There is no template of this name.
        """
        template = await self._existing(name)
        free = ids or iter(new_id, None)
        workflow_id = next(free)
        nodes: list[TaskSpec] = []
        for step in template["steps"]:
            before = [nodes[-1].task_id] if nodes else []
            nodes.append(
                TaskSpec(
                    step["task_name"], {**step["params"], **(params or {})}, depends_on=before,
                    priority=step["priority"], timeout_sec=step["timeout_sec"], max_retries=step["max_retries"],
                    queue=template["queue_name"], task_id=next(free),
                )
            )  # fmt: skip
        await self._spawner.spawn_graph(name, nodes, workflow_id=workflow_id, metadata={"template": name})
        return TemplateRun(name, workflow_id, tuple(node.task_id for node in nodes))

    async def _existing(self, name: str) -> Row:
        template = await self.get(name)
        if template is None:
            raise UnknownTemplateError(f"there is no template {name!r}")
        return template

    def _values(
        self, name: str, steps: Sequence[Step], queue_name: str | None, description: str | None
    ) -> tuple[Any, ...]:
        if not name or not steps:
            raise TemplateError(f"template {name!r} with {len(steps)} steps: give a name, and at least one step")
        return name, description, queue_name or self._config.queue_name, [asdict(step) for step in steps]
