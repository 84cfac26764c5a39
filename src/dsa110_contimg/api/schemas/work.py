"""Requests and replies about work that is ordered: reruns, cancellations, the RQ queue."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from dsa110_contimg.api.schemas.base import Reply

RunId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


class RerunRequest(BaseModel):
    """What is to be otherwise when a run is done again."""

    model_config = ConfigDict(extra="forbid")

    config: dict[str, Any] = Field(
        default_factory=dict, max_length=50, validation_alias=AliasChoices("config", "overrides"),
        description="stage → options; where the installation has a command: ms_path, cal_table, phase_center_ra, "
        "phase_center_dec (deg)",
        examples=[{"imaging": {"robust": 0.0}}],
    )  # fmt: skip


class RunIds(BaseModel):
    """Runs that something is to be done with."""

    model_config = ConfigDict(extra="forbid")

    run_ids: list[RunId] = Field(
        min_length=1, max_length=100, validation_alias=AliasChoices("runIds", "run_ids"),
        examples=[["job-2026-02-11-030405"]],
    )  # fmt: skip


class RerunReply(Reply):
    """A rerun that is accepted; it is durable."""

    status: Literal["queued"]
    job_id: str
    original_run_id: str
    run_id: str
    new_run_id: str
    message: str
    queue_connected: bool


class EnqueuedRun(Reply):
    """One accepted rerun of several."""

    run_id: str
    job_id: str
    new_run_id: str


class RefusedRun(Reply):
    """One run of several that cannot be done again."""

    run_id: str
    reason: str


class BulkRerunReply(Reply):
    """What became of several reruns."""

    status: Literal["queued"]
    enqueued: list[EnqueuedRun]
    not_found: list[str]
    refused: list[RefusedRun]
    queue_connected: bool


class BulkCancelReply(Reply):
    """What became of several cancellations."""

    status: Literal["ok"]
    canceled: list[str]
    not_found: list[str]
    ended: list[str]


class JobCanceled(Reply):
    """A job that is canceled."""

    status: Literal["canceled"]
    job_id: str


class QueueStats(Reply):
    """The RQ queue: what Redis holds, and what waits in the database for Redis."""

    connected: bool
    queue_name: str
    redis_url: str | None
    queued_count: int | None
    started_count: int | None
    finished_count: int | None
    failed_count: int | None
    error: str | None
    in_memory_count: int = Field(description="jobs that only a process remembers: always 0")
    accepted: dict[str, int]


class QueueJob(Reply):
    """One job of the RQ queue, or one piece of accepted work."""

    job_id: str
    status: str
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    result: Any
    error: str | None
    meta: dict[str, Any] | None
    kind: str | None
    run_id: str | None
    attempts: int | None
