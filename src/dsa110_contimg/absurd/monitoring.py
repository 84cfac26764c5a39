"""What the queue says about itself: rows for people, and a verdict on its health."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

Row = dict[str, Any]

#: Age of a worker's last beat, in seconds, below which it is called so; older ones have crashed.
WORKER_STATES = ((10.0, "active"), (60.0, "idle"), (180.0, "stale"))

QUEUE_DEPTH_WARNING, QUEUE_DEPTH_ALERT = 500, 1000
OLDEST_PENDING_WARNING_S, OLDEST_PENDING_ALERT_S = 600.0, 3600.0
NOTHING_COMPLETED_ALERT_S = 300.0
LATENCY_WARNING_MS, LATENCY_ALERT_MS = 500.0, 1000.0


def as_row(record: Mapping[str, Any]) -> Row:
    """Return a record of the database as what JSON can carry: ids as text, times in ISO 8601 with their zone."""
    return {key: _shown(value) for key, value in record.items()}


def as_task(record: Mapping[str, Any]) -> Row:
    """Return a row of ``absurd.tasks`` in the same way, with the further names that its columns go by."""
    row = as_row(record)
    return {
        **row,
        "retry_count": row["attempt"],
        "started_at": row["claimed_at"],
        "finished_at": row["completed_at"],
    }


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list) and value and isinstance(value[0], UUID):
        return [str(item) for item in value]
    return value


def worker_state(worker: Mapping[str, Any]) -> str:
    """Return ``active``, ``idle``, ``stale`` or ``crashed`` by the age of a worker's last beat."""
    if worker["state"] == "crashed":
        return "crashed"
    return next((name for limit_s, name in WORKER_STATES if worker["beat_age_s"] < limit_s), "crashed")


def judge(figures: Mapping[str, Any], workers: Sequence[Mapping[str, Any]], latency_ms: float) -> Row:
    """Return the health of the queue: ``status``, ``message``, ``alerts``, ``warnings`` and the figures behind them.

    Parameters
    ----------
    figures : mapping
        ``queue_depth``, ``oldest_pending_s``, ``running``, ``dead``, ``last_completed_s``.
    workers : sequence of mappings
        Workers with ``state`` and ``beat_age_s``; those that left (``stopped``) do not count.
    latency_ms : float
        How long the database took to answer.
    """
    present = [worker for worker in workers if worker["state"] != "stopped"]
    active = [worker for worker in present if worker_state(worker) == "active"]
    alerts, warnings = _judge_figures(figures, latency_ms)
    if not active:
        alerts.append("no worker is active")
    elif len(active) * 2 < len(present):
        warnings.append(f"only {len(active)} of {len(present)} workers are active")
    status = "critical" if alerts else "degraded" if warnings else "healthy"
    return {
        "status": status,
        "message": "; ".join([*alerts, *warnings]) or "the queue is healthy",
        "alerts": alerts,
        "warnings": warnings,
        "database_available": True,
        "database_latency_ms": round(latency_ms, 2),
        "worker_pool_healthy": bool(active),
        "active_workers": len(active),
        **figures,
    }


def _judge_figures(figures: Mapping[str, Any], latency_ms: float) -> tuple[list[str], list[str]]:
    """Return alerts and warnings by the thresholds above."""
    waiting_s = figures["oldest_pending_s"] or 0.0
    limits = [
        (figures["queue_depth"], QUEUE_DEPTH_WARNING, QUEUE_DEPTH_ALERT, "{:.0f} tasks wait"),
        (waiting_s, OLDEST_PENDING_WARNING_S, OLDEST_PENDING_ALERT_S, "the oldest task has waited {:.0f} s"),
        (latency_ms, LATENCY_WARNING_MS, LATENCY_ALERT_MS, "the database took {:.0f} ms to answer"),
    ]
    alerts = [text.format(value) for value, _, alert, text in limits if value > alert]
    warnings = [text.format(value) for value, warning, alert, text in limits if warning < value <= alert]
    idle_s = figures["last_completed_s"]
    since_s = waiting_s if idle_s is None else min(idle_s, waiting_s)
    if figures["queue_depth"] and since_s > NOTHING_COMPLETED_ALERT_S:
        alerts.append(f"tasks wait and nothing has been completed for {since_s:.0f} s")
    return alerts, warnings
