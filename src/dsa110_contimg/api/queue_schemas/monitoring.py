"""Replies about queues, workers, health and figures."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from dsa110_contimg.api.schemas import Reply

Waiting = Annotated[float | None, Field(description="from ready to claimed, of what completed within 24 hours, s")]
Running = Annotated[float | None, Field(description="of the attempt, of what completed within 24 hours, s")]
Throughput = Annotated[float, Field(description="completed tasks per second")]
Share = Annotated[float | None, Field(ge=0, le=1, description="of the tasks that completed or failed, 0 to 1")]
Uptime = Annotated[float | None, Field(description="s")]


class QueueStatsView(Reply):
    """Tasks of one queue by state."""

    model_config = ConfigDict(extra="allow")
    queue_name: str
    pending: int
    claimed: int
    completed: int
    failed: int
    cancelled: int
    total: int


class QueueNames(Reply):
    """Names of the queues, as the earlier web client reads them at ``/api/absurd``."""

    queues: list[str]


class Notice(Reply):
    """What to be warned of."""

    level: Literal["critical", "warning"]
    message: str
    timestamp: str | None


class QueueHealth(Reply):
    """Whether the durable queue can be reached, with what the detailed verdict says."""

    status: Literal["disabled", "error", "healthy"]
    message: str
    queue: str | None
    queue_depth: int | None
    database_available: bool
    worker_pool_healthy: bool
    alerts: list[Notice]
    warnings: list[Notice]


class DetailedHealth(Reply):
    """Verdict on the queue by the thresholds of its manual."""

    model_config = ConfigDict(extra="allow")
    status: Literal["healthy", "degraded", "critical", "down", "disabled", "error"]
    message: str
    queue_depth: int | None
    database_available: bool
    worker_pool_healthy: bool
    alerts: list[Notice]
    warnings: list[Notice]


WorkerState = Literal["active", "idle", "stale", "crashed"]


class WorkerView(Reply):
    """One worker; its state follows from the age of its last beat."""

    worker_id: str
    state: WorkerState
    task_count: int
    current_task_id: str | None
    task_ids: list[str]
    queues: list[str]
    host: str
    pid: int
    slots: int
    first_seen: str | None
    last_seen: str | None
    uptime_seconds: Uptime


class WorkerList(Reply):
    """All workers."""

    workers: list[WorkerView]
    total: int
    active: int
    idle: int
    stale: int
    crashed: int


class WorkerMetrics(Reply):
    """Figures of the workers."""

    total_workers: int
    active_workers: int
    idle_workers: int
    crashed_workers: int
    timed_out_workers: int
    avg_tasks_per_worker: float | None = Field(description="tasks that each runs")
    avg_worker_uptime_sec: Uptime


class Heartbeat(Reply):
    """A beat that was kept."""

    status: Literal["ok"]
    worker_id: str


class TaskMetrics(Reply):
    """Figures of the tasks; null where there was nothing to tell from."""

    model_config = ConfigDict(extra="allow")
    total_spawned: int
    total_claimed: int
    total_completed: int
    total_failed: int
    total_cancelled: int
    total_timed_out: int
    current_pending: int
    current_claimed: int
    avg_wait_time_sec: Waiting
    avg_execution_time_sec: Running
    p50_wait_time_sec: Waiting
    p95_wait_time_sec: Waiting
    p99_wait_time_sec: Waiting
    p50_execution_time_sec: Running
    p95_execution_time_sec: Running
    p99_execution_time_sec: Running
    throughput_1min: Throughput
    throughput_5min: Throughput
    throughput_15min: Throughput
    success_rate_1min: Share
    success_rate_5min: Share
    success_rate_15min: Share
    error_rate_1min: Share
    error_rate_5min: Share
    error_rate_15min: Share


class HistorySeries(Reply):
    """One value per time stamp; null where nothing ran."""

    model_config = ConfigDict(extra="allow")
    throughput: list[float | None] = Field(description="completed tasks per second")
    success_rate: list[float | None] = Field(description="%")
    avg_latency: list[float | None] = Field(description="running time, s")
    p95_latency: list[float | None] = Field(description="running time, s")


class History(Reply):
    """Series of the past, from stored statistics."""

    queue_name: str | None
    hours: int
    resolution: Literal["5m", "15m", "1h", "6h"]
    timestamps: list[str]
    series: HistorySeries


class StageCounts(Reply):
    """Tasks of one stage."""

    pending: int
    running: int
    completed: int
    failed: int


class PipelineStatus(Reply):
    """How far each stage (task name) is, with the workers."""

    model_config = ConfigDict(extra="allow")
    stages: dict[str, StageCounts]
    total: StageCounts
    worker_count: int
    last_updated: str
    is_healthy: bool
