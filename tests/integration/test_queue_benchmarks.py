"""The benchmarks of the queue run, and say what they measured; how fast it was is not judged here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.queue.report import Table, median, quantile

ROOT = Path(__file__).parents[2]


def run(path: Path, *measures: str) -> dict[str, Any]:
    """Run benchmarks in the smallest size, ours and the hand-written loop, and return the figures."""
    words = [sys.executable, "-m", "benchmarks.queue", "--tiny", "--queues", "ours", "raw", "--only", *measures]
    done = subprocess.run([*words, "--json", str(path)], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    figures: dict[str, Any] = json.loads(path.read_text())
    for name in measures:
        assert figures[name]["title"] in done.stdout
    return figures


def rows_of(figures: dict[str, Any], name: str) -> list[list[Any]]:
    rows: list[list[Any]] = figures[name]["rows"]
    return rows


def test_spawning_is_measured_and_a_graph_goes_in_two_statements(tmp_path: Path) -> None:
    figures = run(tmp_path / "figures.json", "spawning")
    rates = {row[0]: row[1] for row in rows_of(figures, "spawning")}
    assert {"ours, in bulk", "raw, in bulk", "ours, with idempotency keys"} <= set(rates)
    assert all(rate > 0 for rate in rates.values())
    assert next(row[3] for row in rows_of(figures, "spawning") if "graph" in row[0]) <= 2.0
    assert figures["postgresql"].startswith("18")


@pytest.mark.slow
def test_every_other_benchmark_runs_and_the_limits_that_do_not_depend_on_speed_hold(tmp_path: Path) -> None:
    names = (
        "drain",
        "slow_commits",
        "costs",
        "latency",
        "recovery",
        "horizon",
        "backlog",
        "chains",
        "keys",
        "listeners",
    )
    figures = run(tmp_path / "figures.json", *names)
    assert {row[1] for row in rows_of(figures, "drain")} == {"ours", "raw"}
    assert figures["slow_commits"]["title"] != figures["drain"]["title"]
    for queue, _, wal_spawn, wal_run, *_ in rows_of(figures, "costs"):
        assert wal_spawn > 100 and wal_run > 100, queue
    assert [row[0] for row in rows_of(figures, "latency")] == ["ours", "raw", "ours, every NOTIFY lost"]
    assert rows_of(figures, "recovery")[0][0] == "ours"
    assert len(rows_of(figures, "horizon")) == 4
    assert len(rows_of(figures, "chains")) == 2
    assert 1 <= rows_of(figures, "keys")[-1][3] <= 3


def test_a_table_is_markdown_with_numbers_of_three_figures() -> None:
    table = Table("Drain", ["queue", "tasks/s", "of raw"], [["ours", 12345.6, 0.789], ["raw", 20.04, None]], "Medians.")
    assert table.markdown().splitlines() == [
        "### Drain", "", "| queue | tasks/s | of raw |", "| --- | ---: | ---: |", "| ours | 12,346 | 0.79 |",
        "| raw | 20.0 | – |", "", "Medians.",
    ]  # fmt: skip


def test_quantiles_are_measured_values() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert median([1.0, 2.0, 4.0, 3.0]) == 2.5
