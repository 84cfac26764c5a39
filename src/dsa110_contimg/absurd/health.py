"""Verdicts on the queue: whether a worker lives, whether the queue is well, and what to be warned of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dsa110_contimg.absurd.release import OUTDATED
from dsa110_contimg.absurd.rows import Row

#: Age of a worker's last beat, in seconds, below which it is called so; older ones have crashed.
WORKER_STATES = ((10.0, "active"), (60.0, "idle"), (180.0, "stale"))
#: A crashed worker counts as missing for so long; after that it is history.
CRASH_REMEMBERED_S = 3600.0

QUEUE_DEPTH_WARNING, QUEUE_DEPTH_ALERT = 500, 1000
OLDEST_PENDING_WARNING_S, OLDEST_PENDING_ALERT_S = 600.0, 3600.0
NOTHING_COMPLETED_ALERT_S = 300.0
LATENCY_WARNING_MS, LATENCY_ALERT_MS = 500.0, 1000.0

#: Verdicts, from good to bad; their position is the number that Prometheus gets.
STATUSES = ("healthy", "degraded", "critical", "down")


@dataclass(frozen=True, slots=True)
class Figures:
    """What health is judged by, besides the workers.

    Attributes
    ----------
    queue_depth : int
        Tasks that could run now and wait for a worker.
    running, dead : int
        Tasks that run; dead letters.
    oldest_pending_s : float, optional
        How long the one has waited that waits longest; None when none waits.
    last_completed_s : float, optional
        Least time since a task completed; None when none did within a week.
    paused : sequence of str
        Queues that are paused.
    outdated : bool
        Whether the functions in the database are not those of this code.
    """

    queue_depth: int = 0
    running: int = 0
    dead: int = 0
    oldest_pending_s: float | None = None
    last_completed_s: float | None = None
    paused: Sequence[str] = ()
    outdated: bool = False


def worker_state(worker: Mapping[str, Any]) -> str:
    """Return ``active``, ``idle``, ``stale`` or ``crashed`` by the age of a worker's last beat."""
    if worker["state"] == "crashed":
        return "crashed"
    return next((name for limit_s, name in WORKER_STATES if worker["beat_age_s"] < limit_s), "crashed")


def present(workers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the workers that are expected to work: neither those that left, nor those that crashed long ago."""
    return [
        worker
        for worker in workers
        if worker["state"] != "stopped"
        and (worker_state(worker) != "crashed" or worker["beat_age_s"] < CRASH_REMEMBERED_S)
    ]


def judge(figures: Figures, workers: Sequence[Mapping[str, Any]], latency_ms: float, at: datetime | None = None) -> Row:
    """Return the health of the queue: ``status``, ``message``, ``alerts``, ``warnings`` and the figures behind them.

    Parameters
    ----------
    figures : Figures
        What the queue holds.
    workers : sequence of mappings
        Workers with ``state`` and ``beat_age_s``.
    latency_ms : float
        How long the database took to answer.
    at : datetime, optional
        When that was; alerts bear this time.
    """
    expected = present(workers)
    active = sum(worker_state(worker) == "active" for worker in expected)
    alerts, warnings = _judge_figures(figures, latency_ms)
    pool_alert, pool_warning = _judge_pool(active, len(expected), figures.queue_depth)
    alerts += pool_alert
    warnings += pool_warning
    moment = (at or datetime.now(UTC)).isoformat()
    return {
        "status": "critical" if alerts else "degraded" if warnings else "healthy",
        "message": "; ".join([*alerts, *warnings]) or "the queue is healthy",
        "queue_depth": figures.queue_depth,
        "running": figures.running,
        "dead": figures.dead,
        "age_oldest_pending_sec": figures.oldest_pending_s,
        "last_task_completed_sec_ago": figures.last_completed_s,
        "paused_queues": list(figures.paused),
        "database_available": True,
        "database_latency_ms": round(latency_ms, 2),
        "worker_pool_healthy": not pool_alert and not pool_warning,
        "worker_pool_message": "; ".join([*pool_alert, *pool_warning]) or f"{active} of {len(expected)} workers active",
        "active_workers": active,
        "total_workers": len(expected),
        "alerts": [{"level": "critical", "message": text, "timestamp": moment} for text in alerts],
        "warnings": [{"level": "warning", "message": text, "timestamp": moment} for text in warnings],
    }


def down(reason: str) -> Row:
    """Return the health of a queue whose database does not answer; what cannot be known is None."""
    moment = datetime.now(UTC).isoformat()
    unknown = ("queue_depth", "running", "dead", "age_oldest_pending_sec", "last_task_completed_sec_ago",
               "database_latency_ms", "active_workers", "total_workers")  # fmt: skip
    return {
        "status": "down",
        "message": reason,
        **dict.fromkeys(unknown),
        "paused_queues": [],
        "database_available": False,
        "worker_pool_healthy": False,
        "worker_pool_message": "unknown: the database does not answer",
        "alerts": [{"level": "critical", "message": reason, "timestamp": moment}],
        "warnings": [],
    }


def _judge_figures(figures: Figures, latency_ms: float) -> tuple[list[str], list[str]]:
    """Return alerts and warnings by the thresholds above."""
    waiting_s = figures.oldest_pending_s or 0.0
    limits = [
        (figures.queue_depth, QUEUE_DEPTH_WARNING, QUEUE_DEPTH_ALERT, "{:.0f} tasks wait"),
        (waiting_s, OLDEST_PENDING_WARNING_S, OLDEST_PENDING_ALERT_S, "the oldest task has waited {:.0f} s"),
        (latency_ms, LATENCY_WARNING_MS, LATENCY_ALERT_MS, "the database took {:.0f} ms to answer"),
    ]
    alerts = [text.format(value) for value, _, alert, text in limits if value > alert]
    warnings = [text.format(value) for value, warning, alert, text in limits if warning < value <= alert]
    if figures.paused:
        warnings.append(f"paused: {', '.join(figures.paused)}")
    if figures.outdated:
        warnings.append(OUTDATED)
    idle_s = figures.last_completed_s
    since_s = waiting_s if idle_s is None else min(idle_s, waiting_s)
    if figures.queue_depth and since_s > NOTHING_COMPLETED_ALERT_S and not figures.paused:
        alerts.append(f"tasks wait and nothing has been completed for {since_s:.0f} s")
    return alerts, warnings


def _judge_pool(active: int, expected: int, depth: int) -> tuple[list[str], list[str]]:
    """Return the alerts and the warnings about the workers."""
    if not expected:
        return ["there is no worker"], []
    if not active and depth:
        return [f"no worker is active and {depth} tasks wait"], []
    if active * 2 < expected:
        return [], [f"only {active} of {expected} workers are active"]
    return [], []
