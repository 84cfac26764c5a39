"""Schedules: tasks that are to be spawned at set times. What the times mean says :mod:`.cron`; the scheduler fires."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from uuid import UUID

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import AbsurdError, ChangedError, Database
from dsa110_contimg.absurd.cron import Cron, ScheduleError
from dsa110_contimg.absurd.ids import new_id
from dsa110_contimg.absurd.monitoring import Row, as_row
from dsa110_contimg.absurd.statements import schedules as statements
from dsa110_contimg.absurd.statements import work

State = Literal["active", "paused", "disabled"]
Policy = Literal["skip", "coalesce", "catch_up"]


class ScheduleExistsError(AbsurdError):
    """There is a schedule of this name already."""


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What is to be spawned when.

    ``policy`` says what happens to times that passed while no scheduler ran: ``skip`` leaves them out, ``coalesce``
    fires once for all of them, ``catch_up`` fires each, or of many the last ``catch_up_limit``. Without ``overlap`` the
    schedule does not fire while a task of it has not ended: that time is passed over, or under ``catch_up`` put off.
    """

    task_name: str
    cron_expression: str
    params: Mapping[str, Any] = field(default_factory=dict)
    queue_name: str | None = None
    timezone: str = "UTC"
    description: str | None = None
    priority: int = 0
    timeout_sec: float | None = None
    max_retries: int | None = None
    headers: Mapping[str, Any] | None = None
    policy: Policy = "coalesce"
    catch_up_limit: int | None = None
    overlap: bool = False
    state: State = "active"

    def __post_init__(self) -> None:
        checks = (
            (bool(self.task_name), "task_name", self.task_name, "give a name that is not empty"),
            (self.policy in get_args(Policy), "policy", self.policy, f"give one of {', '.join(get_args(Policy))}"),
            (self.state in get_args(State), "state", self.state, f"give one of {', '.join(get_args(State))}"),
            (
                self.catch_up_limit is None or self.catch_up_limit > 0,
                "catch_up_limit",
                self.catch_up_limit,
                "give at least 1",
            ),
            (self.timeout_sec is None or self.timeout_sec > 0, "timeout_sec", self.timeout_sec, "give more than 0"),
            (self.max_retries is None or self.max_retries >= 0, "max_retries", self.max_retries, "give at least 0"),
        )
        for right, name, value, remedy in checks:
            if not right:
                raise ScheduleError(f"{name} of a schedule is {value!r}; {remedy}")

    @property
    def cron(self) -> Cron:
        """Its times."""
        return Cron(self.cron_expression, self.timezone)


_FIELDS = {item.name for item in dataclasses.fields(ScheduleSpec)}


class Schedules:
    """The schedules of a queue.

    Parameters
    ----------
    database : Database
        Where the queue is.
    config : AbsurdConfig
        Gives the queue, the limit of an attempt and the number of retries where a schedule does not.
    """

    def __init__(self, database: Database, config: AbsurdConfig) -> None:
        self._database = database
        self._config = config

    async def create(self, name: str, **fields: Any) -> Row:
        """Create a schedule and return it, with when it fires first (``next_run_at``).

        Parameters
        ----------
        name : str
            What it is called.
        **fields
            The fields of :class:`ScheduleSpec`, at least ``task_name`` and ``cron_expression``.

        Raises
        ------
        ScheduleExistsError
            The name is taken.
        ScheduleError
            The name, the expression, the time zone or another value cannot be.
        """
        if not name:
            raise ScheduleError("name of a schedule is ''; give one that is not empty")
        spec = ScheduleSpec(**fields)
        first = spec.cron.next(await self._database.fetchval(work.NOW))
        if not await self._database.fetch(statements.CREATE, *self._values(name, spec), first, spec.state):
            raise ScheduleExistsError(f"there is a schedule {name!r} already; change it, or take another name")
        created = await self.get(name)
        if created is None:
            raise ScheduleExistsError(f"the schedule {name!r} was deleted by somebody else at this moment")
        return created

    async def get(self, name: str) -> Row | None:
        """Return a schedule, or None.

        ``has_worker`` tells whether a worker polls its queue, ``last_error`` why it could not fire.
        """
        rows = await self._database.fetch(statements.GET, name)
        return as_row(rows[0]) if rows else None

    async def list(self, queue_name: str | None = None, state: State | None = None) -> list[Row]:
        """Return the schedules of a queue and state (None: of any) by name."""
        return [as_row(row) for row in await self._database.fetch(statements.LIST, queue_name, state)]

    async def update(self, name: str, seen: int | None = None, **changes: Any) -> Row | None:
        """Change some fields of :class:`ScheduleSpec` and return the schedule; None when there is none of this name.

        A schedule with another expression, zone or state starts anew: what passed while it was paused is not missed.

        Raises
        ------
        ChangedError
            Its ``version`` (of :meth:`get`) is no more the one that was ``seen``.
        ScheduleError
            The expression, the time zone or another value cannot be.
        TypeError
            A change names something that a schedule does not have.
        """
        if unknown := changes.keys() - _FIELDS:
            raise TypeError(f"a schedule has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(_FIELDS))}")
        while (row := await self._current(name)) is not None:
            if seen not in (None, row["version"]):
                raise ChangedError(f"the schedule {name!r} was changed by somebody else at this moment")
            old = ScheduleSpec(**{key: row[key] for key in _FIELDS})
            new = dataclasses.replace(old, **changes)
            first = new.cron.next(await self._database.fetchval(work.NOW)) if _timing(new) != _timing(old) else None
            values = (*self._values(name, new), first, new.state, row["version"])
            if await self._database.fetch(statements.UPDATE, *values):
                return await self.get(name)
        return None

    async def pause(self, name: str, paused: bool = True) -> bool:
        """Pause a schedule or let it go on; False when there is none of this name."""
        return await self.update(name, state="paused" if paused else "active") is not None

    async def delete(self, name: str) -> bool:
        """Delete a schedule; False when there is none of this name. Tasks that it spawned stay."""
        return bool(await self._database.fetch(statements.DELETE, name))

    async def trigger(self, name: str, task_id: UUID | None = None) -> UUID | None:
        """Spawn the task of a schedule now, whatever its state, and return its id; None: there is no such schedule.

        Calling it again with the same id changes nothing.
        """
        spawned: UUID | None = await self._database.fetchval(statements.TRIGGER, name, task_id or new_id())
        return spawned

    async def _current(self, name: str) -> Mapping[str, Any] | None:
        rows = await self._database.fetch(statements.GET, name)
        return dict(rows[0]) if rows else None

    def _values(self, name: str, spec: ScheduleSpec) -> tuple[Any, ...]:
        """Return what both statements take, in their order."""
        config = self._config
        retries = config.max_retries if spec.max_retries is None else spec.max_retries
        return (
            name, spec.description, spec.cron_expression, spec.timezone, spec.queue_name or config.queue_name,
            spec.task_name, spec.params, spec.headers, -spec.priority, spec.timeout_sec or config.task_timeout_sec,
            retries + 1, spec.policy, spec.catch_up_limit, spec.overlap,
        )  # fmt: skip


def _timing(spec: ScheduleSpec) -> tuple[str, str, str]:
    return spec.cron_expression, spec.timezone, spec.state
