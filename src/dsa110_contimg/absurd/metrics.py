"""The queue's figures in the text form of Prometheus.

Two sets of names are given, that of an exporter with labels (``absurd_tasks_total{status}``) and that of one without
(``absurd_tasks_completed_total``): dashboards exist for both. Everything that belongs to a queue bears its name in the
label ``queue``. A figure that is not known has no sample.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from dsa110_contimg.absurd.figures import LIVE_STATES, WINDOWS_MIN
from dsa110_contimg.absurd.health import STATUSES
from dsa110_contimg.absurd.rows import Row

_QUANTILES = {"0.5": "p50", "0.95": "p95", "0.99": "p99"}
_STATUS_TOTALS = (
    "spawned",
    "claimed",
    "completed",
    "failed",
    "cancelled",
    "skipped",
    "timed_out",
    "retried",
    "crashed",
)
_FLAT_TOTALS = {
    "spawned": "Tasks that were spawned.",
    "completed": "Tasks that completed.",
    "failed": "Tasks that failed for good.",
    "cancelled": "Tasks that were cancelled.",
    "timed_out": "Attempts that ran past their limit.",
}


#: What is put right, as the queue's functions name it; told from the beginning, so that the first time is an increase.
REPAIRS = ("edges", "permits")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Prometheus is told at one moment; all but ``health`` is empty when the database does not answer."""

    health: Row
    queues: Mapping[str, Row] = field(default_factory=dict)
    tasks: Mapping[tuple[str, str], Row] = field(default_factory=dict)
    workers: Row = field(default_factory=dict)
    dead: Mapping[str, Row] = field(default_factory=dict)
    repairs: Mapping[str, int] = field(default_factory=dict)
    paused: Mapping[str, bool] = field(default_factory=dict)


class SnapshotCollector:
    """Gives the metric families of one snapshot to a registry of ``prometheus_client``."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Give the metric families."""
        shot = self._snapshot
        yield from _task_families(shot.tasks)
        yield from _time_families(shot.queues)
        yield from _rate_families(shot.queues)
        yield from _flat_families(shot.queues)
        yield from _worker_families(shot.workers)
        yield from _health_families(shot.health)
        yield from _care_families(shot)


def exposition(snapshot: Snapshot) -> str:
    """Return a snapshot as text of version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(snapshot))
    return generate_latest(registry).decode("utf-8")


def _gauge(name: str, text: str, labels: Iterable[str], samples: Iterable[tuple[list[str], Any]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    for values, number in samples:
        if number is not None:
            family.add_metric(values, float(number))
    return family


def _counter(name: str, text: str, labels: Iterable[str], samples: Iterable[tuple[list[str], Any]]) -> Metric:
    family = CounterMetricFamily(name, text, labels=list(labels))
    for values, number in samples:
        family.add_metric(values, float(number))
    return family


def _task_families(tasks: Mapping[tuple[str, str], Row]) -> Iterator[Metric]:
    yield _counter(
        "absurd_tasks_total", "Tasks by how they ended; claimed, timed_out, retried and crashed count attempts.",
        ("queue", "task", "status"),
        (([*key, status], row[f"total_{status}"]) for key, row in tasks.items() for status in _STATUS_TOTALS),
    )  # fmt: skip
    yield _gauge(
        "absurd_tasks_current", "Tasks that have not ended, by state.", ("queue", "task", "status"),
        (([*key, state], row[f"current_{state}"]) for key, row in tasks.items() for state in LIVE_STATES),
    )  # fmt: skip


def _time_families(queues: Mapping[str, Row]) -> Iterator[Metric]:
    for kind, text in (("wait", "Time from ready to claimed"), ("execution", "Time of the attempt that completed")):
        period = "of tasks that completed in the last 24 hours"
        yield _gauge(
            f"absurd_{kind}_time_seconds", f"{text}, quantiles {period}.", ("queue", "quantile"),
            (
                ([queue, q], row[f"{name}_{kind}_time_sec"])
                for queue, row in queues.items()
                for q, name in _QUANTILES.items()
            ),
        )  # fmt: skip
        yield _gauge(
            f"absurd_{kind}_time_seconds_avg", f"{text}, mean {period}.", ("queue",),
            (([queue], row[f"avg_{kind}_time_sec"]) for queue, row in queues.items()),
        )  # fmt: skip
        for name in _QUANTILES.values():
            yield _of_queues(queues, f"absurd_task_{kind}_time_seconds_{name}", f"{text}, {name} {period}.",
                             f"{name}_{kind}_time_sec")  # fmt: skip


def _rate_families(queues: Mapping[str, Row]) -> Iterator[Metric]:
    def windows(key: str, factor: float = 1.0) -> Iterator[tuple[list[str], float | None]]:
        for queue, row in queues.items():
            for minutes in WINDOWS_MIN:
                value = row[f"{key}_{minutes}min"]
                yield [queue, f"{minutes}m"], None if value is None else value * factor

    labels = ("queue", "window")
    yield _gauge("absurd_throughput_per_minute", "Completed tasks per minute.", labels, windows("throughput", 60.0))
    yield _gauge("absurd_success_rate", "Completed among completed and failed.", labels, windows("success_rate"))
    yield _gauge("absurd_error_rate", "Failed among completed and failed.", labels, windows("error_rate"))
    for minutes in WINDOWS_MIN:
        last = f"in the last {minutes} min"
        yield _of_queues(queues, f"absurd_throughput_{minutes}min_tasks_per_second",
                         f"Completed tasks per second {last}.", f"throughput_{minutes}min")  # fmt: skip
        yield _of_queues(queues, f"absurd_success_rate_{minutes}min",
                         f"Completed among completed and failed {last}.", f"success_rate_{minutes}min")  # fmt: skip
        yield _of_queues(queues, f"absurd_error_rate_{minutes}min_tasks_per_second",
                         f"Failed tasks per second {last}.", f"failures_{minutes}min")  # fmt: skip


def _flat_families(queues: Mapping[str, Row]) -> Iterator[Metric]:
    for name, text in _FLAT_TOTALS.items():
        yield _counter(f"absurd_tasks_{name}_total", text, ("queue",),
                       (([queue], row[f"total_{name}"]) for queue, row in queues.items()))  # fmt: skip
    yield _of_queues(queues, "absurd_tasks_pending", "Tasks that wait for a worker.", "current_pending")
    yield _of_queues(queues, "absurd_tasks_claimed", "Tasks that run.", "current_claimed")
    yield _of_queues(queues, "absurd_queue_depth", "Tasks that wait for a worker.", "current_pending")
    yield _of_queues(queues, "absurd_age_oldest_pending_seconds", "How long the one waits that waits longest.",
                     "oldest_pending_sec")  # fmt: skip


def _of_queues(queues: Mapping[str, Row], name: str, text: str, key: str) -> Metric:
    return _gauge(name, text, ("queue",), (([queue], row[key]) for queue, row in queues.items()))


def _single(name: str, text: str, number: Any) -> Metric:
    return _gauge(name, text, (), [([], number)])


def _worker_families(workers: Row) -> Iterator[Metric]:
    for name, text in {"total": "that are expected to work", "active": "that beat in the last 10 s",
                       "idle": "silent for 10 to 60 s", "timed_out": "silent for 60 to 180 s"}.items():  # fmt: skip
        yield _single(f"absurd_workers_{name}", f"Workers {text}.", workers.get(f"{name}_workers"))
    # A gauge in spite of its name: crashed workers are forgotten after an hour.
    yield _single(
        "absurd_workers_crashed_total", "Workers that crashed in the last hour.", workers.get("crashed_workers")
    )
    yield _single("absurd_worker_avg_tasks", "Running tasks per worker.", workers.get("avg_tasks_per_worker"))
    yield _single("absurd_worker_avg_uptime_seconds", "Mean uptime.", workers.get("avg_worker_uptime_sec"))


def _health_families(health: Row) -> Iterator[Metric]:
    known = health["database_available"]
    yield _single("absurd_database_available", "1 when the queue's database answers.", known)
    yield _single("absurd_database_latency_milliseconds", "How long it took to answer.", health["database_latency_ms"])
    yield _single("absurd_worker_pool_healthy", "1 when enough workers are active.", health["worker_pool_healthy"])
    yield _single("absurd_last_task_completed_seconds_ago", "Least time since a task completed.",
                  health["last_task_completed_sec_ago"])  # fmt: skip
    yield _single(
        "absurd_health_status", "0 healthy, 1 degraded, 2 critical, 3 down.", STATUSES.index(health["status"])
    )
    yield _single("absurd_alert_count", "Alerts of the queue's own health.", len(health["alerts"]))
    yield _single("absurd_warning_count", "Warnings of the queue's own health.", len(health["warnings"]))


def _care_families(shot: Snapshot) -> Iterator[Metric]:
    yield _gauge("absurd_dead_letters", "Dead letters that are kept.", ("queue",),
                 (([queue], row["n"]) for queue, row in shot.dead.items()))  # fmt: skip
    yield _gauge("absurd_dead_letter_oldest_seconds", "Age of the oldest dead letter.", ("queue",),
                 (([queue], row["oldest_s"]) for queue, row in shot.dead.items()))  # fmt: skip
    yield _gauge("absurd_queue_paused", "1 when the queue is paused.", ("queue",),
                 (([queue], paused) for queue, paused in shot.paused.items()))  # fmt: skip
    yield _counter("absurd_repairs_total", "What should never happen and was put right, by kind.", ("kind",),
                   (([kind], number) for kind, number in shot.repairs.items()))  # fmt: skip
