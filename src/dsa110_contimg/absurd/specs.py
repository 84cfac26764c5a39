"""What is spawned: a task, what it waits for, and the form in which the queue's functions take them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import AbsurdError
from dsa110_contimg.absurd.dependencies import DependencyCycleError, detect_cycles, topological_sort
from dsa110_contimg.absurd.ids import new_id

Policy = Literal["success", "done", "failure"]
Node = dict[str, Any]


class UnknownTaskError(AbsurdError):
    """A task is to depend on one that the queue does not know."""


class SpecError(AbsurdError, ValueError):
    """A task is described in a way that cannot be; the message names the field, its value and what would be right."""


class KnownTask(Protocol):
    """What a program knows of a task name beside its parameters (``absurd.registry.TaskType``)."""

    @property
    def timeout_sec(self) -> float | None:
        """Limit of one attempt."""

    @property
    def max_retries(self) -> int | None:
        """Further attempts after a failed one."""

    def retry(self) -> Mapping[str, Sequence[str]]:
        """Return ``retry_on`` and ``dead_on``, where there are any."""


class Registry(Protocol):
    """The tasks that a program knows (``absurd.registry.Tasks``)."""

    def check(self, name: str, params: Any, /) -> Any:
        """Return the parameters as they are to be stored; raise when they do not fit; leave unknown names alone."""

    def get(self, name: str, /) -> KnownTask | None:
        """Return what is known of a name."""


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

    Attributes
    ----------
    name, params
        Which handler runs it, with what: a mapping, or an instance of the type of its parameters.
    task_id : UUID
        Version 7; an id that exists is left alone.
    depends_on
        Tasks to wait for: ids (policy ``success``) or :class:`Dependency`.
    priority : int
        Larger runs first.
    timeout_sec, max_retries : optional
        Limit of one attempt, and further attempts after a failed one; default: of the configuration.
    queue : str, optional
        Default: the queue of the configuration.
    backoff_base_sec, backoff_cap_sec : float, optional
        The n-th attempt follows after a random time of at most ``base * 2**(n - 1)``, and of at most ``cap``.
    retry_on, dead_on
        Names of error types. When ``retry_on`` is given, other errors are final; those of ``dead_on`` always are.
    max_crashes : int, optional
        Workers that may die over it before it is given up; default: of the configuration.
    run_at : datetime, optional
        Not before this moment (with a time zone).
    idempotency_key : str, optional
        While the queue knows a task of this key, that one is returned and none is made; for ``idempotency_ttl_sec``
        after it was spawned, or, without it, for as long as that task is kept.
    concurrency_key : str, optional
        Of the tasks of this key only so many run at once as ``set_concurrency`` says (default: one).
    fair_key : str, optional
        Tasks of different keys take turns.
    headers : mapping, optional
        Carried along with the task and given to its handler.
    """

    name: str
    params: Any = field(default_factory=dict)
    task_id: UUID = field(default_factory=new_id)
    depends_on: Sequence[UUID | Dependency] = ()
    priority: int = 0
    timeout_sec: float | None = None
    max_retries: int | None = None
    queue: str | None = None
    backoff_base_sec: float | None = None
    backoff_cap_sec: float | None = None
    retry_on: Sequence[str] = ()
    dead_on: Sequence[str] = ()
    max_crashes: int | None = None
    run_at: datetime | None = None
    idempotency_key: str | None = None
    idempotency_ttl_sec: float | None = None
    concurrency_key: str | None = None
    fair_key: str | None = None
    headers: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise SpecError("the name of a task is ''; give that of its handler")
        if self.timeout_sec is not None and not self.timeout_sec > 0:
            raise SpecError(f"task {self.name}: timeout_sec is {self.timeout_sec}; give seconds above 0, or None")
        if self.max_retries is not None and self.max_retries < 0:
            raise SpecError(f"task {self.name}: max_retries is {self.max_retries}; give 0 or more, or None")
        if self.run_at is not None and self.run_at.utcoffset() is None:
            raise SpecError(f"task {self.name}: run_at is {self.run_at} without a time zone; give one, as in UTC")

    def parents(self) -> tuple[Dependency, ...]:
        """Return the dependencies, each with its policy."""
        return tuple(d if isinstance(d, Dependency) else Dependency(d) for d in self.depends_on)

    @property
    def is_plain(self) -> bool:
        """Whether nothing has to be looked up to spawn it: no parents, no keys, ready at once, no headers."""
        return not (
            self.depends_on or self.idempotency_key or self.concurrency_key or self.fair_key or self.run_at
            or self.headers
        )  # fmt: skip


def like(spec: TaskSpec) -> tuple[Any, ...]:
    """Return what plain tasks have to share to be spawned together; see :attr:`TaskSpec.is_plain`."""
    return (
        spec.queue, spec.name, spec.priority, spec.timeout_sec, spec.max_retries, spec.max_crashes,
        spec.backoff_base_sec, spec.backoff_cap_sec, tuple(spec.retry_on), tuple(spec.dead_on),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spawned:
    """The task that a spawn led to; ``created`` is False when it was there before (same id, or idempotency key)."""

    task_id: UUID
    created: bool


def retry_policy(spec: TaskSpec) -> Node | None:
    """Return the part of a node that says how a failed attempt is followed by another; None: as usual."""
    policy = {
        "base_s": spec.backoff_base_sec,
        "cap_s": spec.backoff_cap_sec,
        "retry_on": list(spec.retry_on) or None,
        "dead_on": list(spec.dead_on) or None,
    }
    return {key: value for key, value in policy.items() if value is not None} or None


def node(spec: TaskSpec, config: AbsurdConfig, workflow_id: UUID | None = None) -> Node:
    """Return a task as ``absurd.spawn_tasks`` takes it; what it does not say itself is said by the configuration.

    What it does not have is left out: the server need not parse it.
    """
    retries = config.max_retries if spec.max_retries is None else spec.max_retries
    full: Node = {
        "task_id": str(spec.task_id),
        "queue": spec.queue or config.queue_name,
        "name": spec.name,
        "params": spec.params,
        "priority": spec.priority,
        "timeout_s": config.task_timeout_sec if spec.timeout_sec is None else spec.timeout_sec,
        "max_attempts": retries + 1,
        "max_crashes": spec.max_crashes,
        "retry": retry_policy(spec),
        "workflow_id": workflow_id and str(workflow_id),
        "depends_on": [{"task_id": str(d.task_id), "policy": d.policy} for d in spec.parents()] or None,
        "run_at": spec.run_at and spec.run_at.isoformat(),
        "idempotency_key": spec.idempotency_key,
        "idempotency_ttl_s": spec.idempotency_ttl_sec,
        "concurrency_key": spec.concurrency_key,
        "fair_key": spec.fair_key,
        "headers": spec.headers,
    }
    return {key: value for key, value in full.items() if value is not None}


def known(spec: TaskSpec, registry: Registry | None) -> TaskSpec:
    """Return a task with its parameters checked and with what its type says where it says nothing itself."""
    if registry is None:
        return spec
    checked = replace(spec, params=registry.check(spec.name, spec.params))
    task = registry.get(spec.name)
    if task is None:
        return checked
    return replace(
        checked,
        timeout_sec=task.timeout_sec if spec.timeout_sec is None else spec.timeout_sec,
        max_retries=task.max_retries if spec.max_retries is None else spec.max_retries,
        retry_on=spec.retry_on or task.retry().get("retry_on", ()),
        dead_on=spec.dead_on or task.retry().get("dead_on", ()),
    )


def in_order(specs: Sequence[TaskSpec]) -> list[TaskSpec]:
    """Return the tasks sorted so that each follows what it depends on.

    Raises
    ------
    DependencyCycleError
        Tasks wait for each other; the message gives their names.
    """
    by_id = {spec.task_id: spec for spec in specs}
    graph = {spec.task_id: [d.task_id for d in spec.parents() if d.task_id in by_id] for spec in specs}
    if cycle := detect_cycles(graph):
        raise DependencyCycleError(f"tasks wait for each other: {' -> '.join(by_id[key].name for key in cycle)}")
    return [by_id[key] for key in topological_sort(graph)]
