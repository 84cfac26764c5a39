"""Figures of the queue from the counts that it keeps: totals, times, rates, steps of a history."""

from collections.abc import Mapping, Sequence
from typing import Any

from dsa110_contimg.absurd.health import present, worker_state
from dsa110_contimg.absurd.histograms import quantile_s, summed
from dsa110_contimg.absurd.rows import Row

#: States of a task that has not ended.
LIVE_STATES = ("blocked", "scheduled", "parked", "pending", "claimed", "retrying")
WINDOWS_MIN = (1, 5, 15)
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_OUTCOMES = ("completed", "failed", "cancelled", "skipped")
_ENDED_COLUMNS = (*_OUTCOMES, "retried", "timed_out", "crashed")
_ATTEMPTS = ("completed", "failed", "retried")
_STORED = {"wait": "wait", "execution": "run"}


class Counts:
    """What the statements tell of one task name in one queue."""

    def __init__(self) -> None:
        self.live: dict[str, Row] = {}
        self.ended: Row = {}
        self.day: Row = {}
        self.windows: dict[int, Row] = {}


def by_queue(by_task: Mapping[tuple[str, str], Counts]) -> dict[str, Row]:
    """Return the figures of each queue."""
    names = sorted({queue for queue, _ in by_task})
    return {name: metrics_of({key: row for key, row in by_task.items() if key[0] == name}) for name in names}


def metrics_of(by_task: Mapping[tuple[str, str], Counts]) -> Row:
    """Return the figures of some task names together.

    ``total_*`` count since the queue was made: ``spawned`` tasks, and how they ended; ``claimed`` counts attempts that
    were started, ``timed_out`` and ``crashed`` those that ended so. ``current_*`` count tasks by state.

    Waiting time (from ready to claimed) and running time (of the attempt that completed) have their mean and quantiles
    over the tasks that completed in the last 24 hours; :mod:`histograms` tells how far off a quantile may be.

    ``throughput_*`` are completed tasks per second, ``success_rate_*`` and ``error_rate_*`` shares of those that
    completed or failed, over the last 1, 5 and 15 minutes; statistics are kept by the minute, and the minute in which
    a window begins counts by the share of it that lies in the window. None stands where there was nothing to tell from.
    """
    all_counts = list(by_task.values())
    current = {state: sum(c.live.get(state, {}).get("n", 0) for c in all_counts) for state in LIVE_STATES}
    ended = {name: sum(int(c.ended.get(name, 0)) for c in all_counts) for name in _ENDED_COLUMNS}
    oldest = [c.live["pending"]["oldest_s"] for c in all_counts if "pending" in c.live]
    return {
        "total_spawned": sum(current.values()) + sum(ended[name] for name in _OUTCOMES),
        "total_claimed": sum(ended[name] for name in _ATTEMPTS) + current["claimed"],
        **{f"total_{name}": ended[name] for name in _ENDED_COLUMNS},
        **{f"current_{state}": number for state, number in current.items()},
        "oldest_pending_sec": max(oldest, default=None),
        **_times("wait", [c.day for c in all_counts if c.day]),
        **_times("execution", [c.day for c in all_counts if c.day]),
        **_rates([c.windows for c in all_counts]),
    }


def _times(kind: str, rows: Sequence[Row]) -> Row:
    """Return mean and quantiles of ``wait`` or ``execution``."""
    stored = _STORED[kind]
    counts = summed([row[f"{stored}_hist"] for row in rows])
    number = sum(row["completed"] for row in rows)
    average = sum(row[f"{stored}_s"] for row in rows) / number if number > 0 else None
    quantiles = {f"{name}_{kind}_time_sec": quantile_s(counts, q) for name, q in _QUANTILES.items()}
    return {f"avg_{kind}_time_sec": average, **quantiles}


def _rates(windows: Sequence[Mapping[int, Row]]) -> Row:
    found: Row = {}
    for minutes in WINDOWS_MIN:
        completed = sum(row[minutes]["completed"] for row in windows if minutes in row)
        failed = sum(row[minutes]["failed"] for row in windows if minutes in row)
        found[f"throughput_{minutes}min"] = completed / (60.0 * minutes)
        found[f"failures_{minutes}min"] = failed / (60.0 * minutes)
        found[f"success_rate_{minutes}min"] = _share(completed, failed)
        found[f"error_rate_{minutes}min"] = _share(failed, completed)
    return found


def _share(part: float, rest: float) -> float | None:
    return part / (part + rest) if part + rest > 0 else None


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; None of nothing."""
    return sum(values) / len(values) if values else None


def point_of(row: Row | None, length_s: float) -> Row:
    """Return one step of the history."""
    completed, failed = (int(row["completed"]), int(row["failed"])) if row else (0, 0)
    success = _share(completed, failed)
    return {
        "throughput": completed / max(length_s, 1.0),
        "completed": completed,
        "failed": failed,
        "success_rate": None if success is None else 100.0 * success,
        "avg_latency": row["run_s"] / completed if row and completed else None,
        "p95_latency": quantile_s(summed([row["run_hist"]]), 0.95) if row else None,
        "avg_wait": row["wait_s"] / completed if row and completed else None,
        "p95_wait": quantile_s(summed([row["wait_hist"]]), 0.95) if row else None,
    }


def stage_of(metrics: Row) -> Row:
    """Return what a stage shows: what waits for whatever reason, runs, completed, failed."""
    waiting = sum(metrics[f"current_{state}"] for state in LIVE_STATES if state != "claimed")
    return {
        "pending": waiting,
        "running": metrics["current_claimed"],
        "completed": metrics["total_completed"],
        "failed": metrics["total_failed"],
    }


def worker_counts(workers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many of the workers that are expected to work are in which condition, and ``count``, their number."""
    conditions = [worker_state(worker) for worker in present(workers)]
    counts = {name: conditions.count(name) for name in ("active", "idle", "stale", "crashed")}
    return {"count": len(conditions), **counts}
