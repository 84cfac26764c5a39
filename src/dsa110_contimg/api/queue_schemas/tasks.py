"""Replies about tasks, workflows, templates, schedules and dead letters."""

from typing import Any, Literal

from pydantic import Field

from dsa110_contimg.absurd.schedules import Policy, State
from dsa110_contimg.api.schemas import Reply

Status = Literal[
    "blocked", "scheduled", "parked", "pending", "claimed", "retrying", "completed", "failed", "cancelled", "skipped"
]


class TaskView(Reply):
    """One task."""

    task_id: str
    queue_name: str
    task_name: str
    params: dict[str, Any]
    priority: int
    status: Status
    created_at: str | None
    claimed_at: str | None
    completed_at: str | None
    result: Any
    error: str | None = Field(description="why it failed; while it is retrying, why its last attempt did")
    retry_count: int = Field(description="attempts made so far")
    workflow_id: str | None
    worker_id: str | None
    progress: float | None = Field(description="0 to 1 while it runs")
    progress_message: str | None


class TaskList(Reply):
    """Tasks, newest first; ``total`` is the number of those given."""

    tasks: list[TaskView]
    total: int
    next_after: str | None = Field(description="give it as `after` for the next page; null: there is none")


class TaskCreated(Reply):
    """The task that was spawned, or that has the same idempotency key."""

    task_id: str


class Message(Reply):
    """What was done."""

    message: str


class TaskChanged(TaskCreated):
    """What was done to a task."""

    message: str


class TaskWithDepsCreated(TaskCreated):
    """A task that waits for others."""

    depends_on: list[str]
    workflow_id: str | None
    message: str


class WorkflowTask(Reply):
    """One task of a workflow."""

    task_id: str
    task_name: str
    status: Status
    depends_on: list[str]
    result: Any
    error: str | None


class WorkflowCounts(Reply):
    """Tasks of a workflow; ``pending`` includes those that wait for their time, ``failed`` those that were given up."""

    total: int
    pending: int
    running: int
    completed: int
    failed: int
    blocked: int
    cancelled: int
    skipped: int
    retrying: int


class WorkflowView(Reply):
    """One workflow. At ``/api/absurd``, where the earlier web client asks, ``tasks`` is the list of ``task_list``."""

    workflow_id: str
    name: str
    description: str | None
    status: str
    created_at: str | None
    started_at: str | None
    completed_at: str | None
    tasks: WorkflowCounts | list[WorkflowTask]
    counts: WorkflowCounts
    task_list: list[WorkflowTask]
    dag_edges: list[list[str]]
    progress: float = Field(ge=0, le=100, description="ended tasks, %")
    metadata: dict[str, Any]


class WorkflowItem(Reply):
    """One workflow of the list."""

    workflow_id: str
    name: str
    description: str | None
    status: str
    task_count: int
    completed_tasks: int
    failed_tasks: int
    created_at: str | None
    started_at: str | None
    completed_at: str | None
    metadata: dict[str, Any]


class WorkflowList(Reply):
    """Workflows, newest first; ``total`` is the number of those given."""

    workflows: list[WorkflowItem]
    total: int
    next_after: str | None


class WorkflowCreated(Reply):
    """A workflow without tasks yet."""

    workflow_id: str
    name: str
    message: str


class WorkflowChanged(Reply):
    """How many tasks of a workflow were cancelled or started again."""

    workflow_id: str
    message: str
    tasks: int


class DagNode(Reply):
    """One task of a DAG."""

    task_id: str
    task_name: str
    status: Status
    depends_on: list[str]
    dependents: list[str]
    depth: int


class WorkflowDag(Reply):
    """The DAG of a workflow."""

    workflow_id: str
    name: str
    status: str
    total_depth: int = Field(description="edges of the longest path")
    root_tasks: list[str]
    leaf_tasks: list[str]
    nodes: list[DagNode]


class ReadyTasks(Reply):
    """Tasks of a workflow that a worker could start now."""

    workflow_id: str
    ready_tasks: list[str]
    count: int


class StepView(Reply):
    """One step of a template."""

    task_name: str
    params: dict[str, Any]
    priority: int
    timeout_sec: float | None = Field(description="limit of one attempt, s")
    max_retries: int | None


class TemplateView(Reply):
    """One template."""

    name: str
    description: str | None
    queue_name: str
    steps: list[StepView]
    created_at: str | None
    updated_at: str | None


class TemplateList(Reply):
    """All templates by name."""

    templates: list[TemplateView]
    total: int


class TemplateRun(Reply):
    """What a template was turned into, in the order of its steps."""

    task_ids: list[str]
    template_name: str


class ScheduleView(Reply):
    """One schedule."""

    schedule_id: str
    name: str
    description: str | None
    queue_name: str
    task_name: str
    cron_expression: str
    params: dict[str, Any]
    priority: int
    timeout_sec: float | None = Field(description="limit of one attempt, s")
    max_retries: int
    timezone: str
    state: State
    policy: Policy
    catch_up_limit: int | None
    overlap: bool
    last_run_at: str | None
    next_run_at: str | None
    last_error: str | None = Field(description="why it could not fire")
    created_at: str | None
    updated_at: str | None


class ScheduleList(Reply):
    """Schedules by name."""

    schedules: list[ScheduleView]
    total: int


class ScheduleCreated(Reply):
    """A new schedule."""

    schedule_id: str
    name: str
    next_run_at: str | None
    message: str


class ScheduleTriggered(Reply):
    """A task that a schedule was made to spawn now."""

    task_id: str
    schedule_name: str
    message: str


class DeadLetter(Reply):
    """A task that failed for good."""

    task_id: str
    queue_name: str
    task_name: str
    params: dict[str, Any]
    priority: int
    workflow_id: str | None
    reason: str = Field(description="error, timeout or crashed")
    error: str | None
    error_detail: dict[str, Any] | None = Field(description="type, message, traceback, ...")
    retry_count: int
    status: Literal["failed"]
    created_at: str | None
    completed_at: str | None = Field(description="when it died")
    pruned: bool = Field(description="the task itself is deleted; a replay spawns it anew under its id")


class DeadLetterList(Reply):
    """Dead letters; ``total`` is the number of those given."""

    tasks: list[DeadLetter]
    total: int
    next_after: str | None


class Replayed(Reply):
    """How many dead letters run again."""

    replayed: int


class Purged(Reply):
    """How many dead letters were deleted."""

    purged: int


class Pruned(Reply):
    """How many tasks were deleted."""

    pruned: int
