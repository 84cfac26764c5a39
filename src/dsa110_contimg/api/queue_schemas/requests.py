"""What a client may send."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from dsa110_contimg.absurd.schedules import Policy, State

#: A name that fits a column, a table and a log line.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
#: A name that is a part of an address.
PathName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/]+$")]
Text = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000, description="larger runs first")]
Seconds = Annotated[float, Field(gt=0, le=31_536_000, description="s")]
Retries = Annotated[int, Field(ge=0, le=1000, description="further attempts after a failed one")]
Params = dict[str, Any]

DEFAULT_QUEUE = "dsa110-pipeline"


def _with_zone(value: Any) -> Any:
    """Take a time without a zone as UTC."""
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return value


def _in_utc(moment: datetime) -> datetime:
    """Return the same moment in UTC: the database knows fewer zones."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time between the years 1 and 9999") from error


Moment = Annotated[AwareDatetime, BeforeValidator(_with_zone), AfterValidator(_in_utc)]


class Request(BaseModel):
    """Base of all requests: what nobody reads is an error, because a misspelt key would silently do something else."""

    model_config = ConfigDict(extra="forbid")


class TaskCreate(Request):
    """A task to be spawned."""

    queue_name: Name = DEFAULT_QUEUE
    task_name: Name
    params: Params = Field(default_factory=dict)
    priority: Priority = 0
    timeout_sec: Seconds | None = Field(default=None, description="limit of one attempt, s")
    max_retries: Retries | None = None
    depends_on: list[UUID] = Field(
        default_factory=list, max_length=10_000, description="tasks that must complete first"
    )
    workflow_id: UUID | None = None
    run_at: Moment | None = Field(default=None, description="not before this time")
    idempotency_key: Name | None = Field(default=None, description="the same key gives the same task")
    concurrency_key: Name | None = Field(default=None, description="of one key only so many run at once")
    fair_key: Name | None = Field(default=None, description="tasks of different keys take turns")
    headers: dict[str, Any] | None = Field(default=None, description="carried along with the task")


class TaskWithDeps(TaskCreate):
    """A task that waits for others."""

    max_retries: Retries | None = 3


class WorkflowCreate(Request):
    """A workflow to which tasks are added."""

    name: Name
    description: Text | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class Step(Request):
    """One step of a template; it waits for the one before it."""

    task_name: Name
    params: Params = Field(default_factory=dict)
    priority: Priority = 0
    timeout_sec: Seconds | None = None
    max_retries: Retries | None = None


class TemplateReplacement(Request):
    """What a template becomes; a name in it must be the one it has."""

    name: PathName | None = None
    description: Text | None = None
    queue_name: Name = DEFAULT_QUEUE
    steps: list[Step] = Field(min_length=1, max_length=1000)
    created_at: str | None = Field(default=None, description="not read; it is there so that a reply can be sent back")
    updated_at: str | None = Field(default=None, description="not read")


class TemplateCreate(TemplateReplacement):
    """A template."""

    name: PathName


class ScheduleCreate(Request):
    """A task to be spawned again and again."""

    name: PathName
    queue_name: Name = DEFAULT_QUEUE
    task_name: Name
    cron_expression: Name = Field(description="minute, hour, day of month, month, weekday")
    params: Params = Field(default_factory=dict)
    priority: Priority = 0
    timeout_sec: Seconds | None = None
    max_retries: Retries = 3
    timezone: Name = "UTC"
    description: Text | None = None
    policy: Policy = Field(default="coalesce", description="what becomes of times that were missed")
    catch_up_limit: int | None = Field(default=None, ge=1, le=10_000)
    overlap: bool = Field(default=False, description="spawn while an earlier task has not ended")


class ScheduleUpdate(Request):
    """What is to change about a schedule; null is not said, but for the description."""

    cron_expression: Name | None = None
    params: Params | None = None
    state: State | None = None
    priority: Priority | None = None
    description: Text | None = None
    timezone: Name | None = None


class DeadLetterEdit(Request):
    """New parameters of a dead letter."""

    params: Params


class ReplayRequest(Request):
    """Which dead letters are to run again."""

    queue_name: Name | None = None
    task_name: Name | None = None
    reason: Name | None = None
    limit: int = Field(default=100, ge=1, le=1000)


class PruneRequest(Request):
    """Which ended tasks are to be deleted."""

    retention_days: float = Field(default=7, ge=0, le=36_500, description="kept since their end, days")
    queue_name: Name | None = None
    statuses: list[Literal["completed", "failed", "cancelled", "skipped"]] | None = Field(
        default=None, min_length=1, max_length=4
    )


class QueueLimits(Request):
    """Limits of a queue; null lifts one."""

    rate_per_s: float | None = Field(default=None, gt=0, le=1e6, description="starts per second on average")
    burst: float | None = Field(default=None, ge=1, le=1e6, description="starts at once after a pause")
    ageing_s: Seconds | None = Field(default=None, description="waiting after which the priority rises by one, s")


class ConcurrencyLimit(Request):
    """How many tasks of one concurrency key run at once."""

    key: Name
    limit: int = Field(ge=1, le=1_000_000)
