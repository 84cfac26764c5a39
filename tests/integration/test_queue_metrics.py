"""The exposition for Prometheus: valid, complete by the published names, and what the alert rules ask for."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from architecture.source_tree import ROOT
from fixtures.queue_bench import QUEUE, Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]

SQL = ROOT / "src" / "dsa110_contimg" / "absurd" / "sql"
RULES = ROOT / "ops" / "prometheus" / "absurd-alerts.yml"
WINDOWS = ("1min", "5min", "15min")
#: Names that dashboards know.
PUBLISHED = {
    "absurd_tasks_total", "absurd_tasks_current", "absurd_wait_time_seconds", "absurd_wait_time_seconds_avg",
    "absurd_execution_time_seconds", "absurd_execution_time_seconds_avg", "absurd_throughput_per_minute",
    "absurd_success_rate", "absurd_error_rate",
    *(f"absurd_tasks_{name}_total" for name in ("spawned", "completed", "failed", "cancelled", "timed_out")),
    "absurd_tasks_pending", "absurd_tasks_claimed", "absurd_queue_depth",
    *(f"absurd_task_{kind}_time_seconds_{q}" for kind in ("wait", "execution") for q in ("p50", "p95", "p99")),
    *(f"absurd_throughput_{window}_tasks_per_second" for window in WINDOWS),
    *(f"absurd_success_rate_{window}" for window in WINDOWS),
    *(f"absurd_error_rate_{window}_tasks_per_second" for window in WINDOWS),
    *(f"absurd_workers_{name}" for name in ("total", "active", "idle", "timed_out", "crashed_total")),
    "absurd_worker_avg_tasks", "absurd_worker_avg_uptime_seconds", "absurd_database_available",
    "absurd_database_latency_milliseconds", "absurd_worker_pool_healthy", "absurd_age_oldest_pending_seconds",
    "absurd_last_task_completed_seconds_ago", "absurd_health_status", "absurd_alert_count", "absurd_warning_count",
    "absurd_dead_letters", "absurd_dead_letter_oldest_seconds", "absurd_queue_paused", "absurd_repairs_total",
}  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """The samples of an exposition."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def __call__(self, name: str, **labels: str) -> float:
        return self.values[name, frozenset(labels.items())]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.values}


async def read(queue: Bench) -> Exported:
    text = await queue.client.monitor.prometheus()
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families), "a family is given twice"
    samples = [sample for family in families for sample in family.samples]
    values = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(values) == len(samples), "a sample is given twice"
    return Exported(values)


@pytest.fixture
async def busy(queue_database: str) -> AsyncIterator[Bench]:
    """A queue in which something of every kind has happened."""
    async with open_bench(queue_database) as bench:
        await bench.client.spawn("imaging")
        await bench.complete((await bench.claim())[0])
        await bench.client.spawn("imaging", max_retries=0)
        await bench.fail((await bench.claim())[0])
        await bench.client.spawn("imaging")
        await bench.sql("select absurd.pause_queue($1, true)", QUEUE)
        await bench.sql("select absurd.count_repairs('edges', 2)")
        yield bench


async def test_every_published_name_is_exported(busy: Bench) -> None:
    assert (await read(busy)).names == PUBLISHED


async def test_the_samples_are_the_figures_of_the_queue(busy: Bench) -> None:
    exported = await read(busy)
    assert exported("absurd_tasks_total", queue=QUEUE, task="imaging", status="completed") == 1
    assert exported("absurd_tasks_total", queue=QUEUE, task="imaging", status="spawned") == 3
    assert exported("absurd_tasks_current", queue=QUEUE, task="imaging", status="pending") == 1
    assert exported("absurd_tasks_failed_total", queue=QUEUE) == 1
    assert exported("absurd_queue_depth", queue=QUEUE) == 1
    assert exported("absurd_success_rate", queue=QUEUE, window="15m") == pytest.approx(0.5)
    per_minute = exported("absurd_throughput_per_minute", queue=QUEUE, window="15m")
    assert per_minute == pytest.approx(60 * exported("absurd_throughput_15min_tasks_per_second", queue=QUEUE))
    assert 0 < per_minute <= 1 / 15
    assert exported("absurd_dead_letters", queue=QUEUE) == 1
    assert exported("absurd_queue_paused", queue=QUEUE) == 1
    assert exported("absurd_repairs_total", kind="edges") == 2
    assert exported("absurd_health_status") == 1
    assert exported("absurd_workers_active") == 1


async def test_what_is_not_known_has_no_sample(queue_database: str) -> None:
    async with open_bench(queue_database) as bench:
        await bench.client.spawn("imaging")
        exported = await read(bench)
    assert exported("absurd_throughput_1min_tasks_per_second", queue=QUEUE) == 0
    assert not exported.names & {"absurd_success_rate", "absurd_wait_time_seconds", "absurd_dead_letters"}
    counted = re.findall(r"perform count_repairs\('(\w+)'", (SQL / "workers.sql").read_text())
    told = {name: exported("absurd_repairs_total", kind=name) for name in counted}
    assert told == {"edges": 0, "permits": 0}, "so that the first is an increase"


def alert_expressions() -> dict[str, str]:
    text = RULES.read_text()
    return dict(re.findall(r"- alert: (\w+)\n\s+expr: (.+)\n", text))


def test_every_alert_asks_for_names_that_are_exported() -> None:
    expressions = alert_expressions()
    assert len(expressions) == RULES.read_text().count("- alert:") > 10
    for alert, expression in expressions.items():
        names = set(re.findall(r"\babsurd_\w+", expression))
        assert names, alert
        assert names <= PUBLISHED, alert


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in RULES.read_text().split("- alert: ")[1:]:
        assert re.search(
            r"labels: \{severity: (critical|warning)\}\n\s+annotations:\n\s+summary: .+\n\s+remedy: .+", rule
        ), rule
