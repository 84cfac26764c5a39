"""/metrics: every name of the contract, fed by what really happens, right across processes and restarts."""

import asyncio
import dataclasses
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from architecture.source_tree import ROOT
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import JobRecord, Recording
from dsa110_contimg.api.metrics import COUNTERS, HISTOGRAMS, MetricsExporter
from dsa110_contimg.api.middleware.meter import FAMILIES
from dsa110_contimg.api.migrations import events
from dsa110_contimg.api.operation_records import ProductFigures
from dsa110_contimg.api.tally import Family, Tally
from fixtures.api_server import Served, serving
from fixtures.api_world import GROUP_ID, World, build, recordings, settings

REQUESTS = Family("counter", "requests", "Requests.")
RULES = ROOT / "ops" / "prometheus" / "api-alerts.yml"
DASHBOARD = ROOT / "ops" / "grafana" / "dsa110-overview.json"

#: Contract, 4.1 and 4.2.
PUBLISHED = {
    "dsa110_ms_processed": "counter", "dsa110_images_created": "counter", "dsa110_photometry_records": "counter",
    "dsa110_calibrations": "counter", "dsa110_sources_detected": "counter", "dsa110_ms_count": "gauge",
    "dsa110_images_count": "gauge", "dsa110_sources_count": "gauge", "dsa110_photometry_count": "gauge",
    "dsa110_pending_jobs": "gauge", "dsa110_running_jobs": "gauge", "dsa110_image_noise_jy": "histogram",
    "dsa110_image_dynamic_range": "histogram", "dsa110_calibration_snr": "histogram", "dsa110_pipeline": "gauge",
    "http_requests": "counter", "http_request_size_bytes": "summary", "http_response_size_bytes": "summary",
    "http_request_duration_seconds": "histogram", "http_request_duration_highr_seconds": "histogram",
}  # fmt: skip


BUCKETS = {
    "dsa110_image_noise_jy": [1e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3],
    "dsa110_image_dynamic_range": [10, 50, 100, 200, 500, 1000, 2000, 5000, 10000],
    "dsa110_calibration_snr": [5, 10, 20, 50, 100, 200, 500, 1000],
    "http_request_duration_seconds": [0.1, 0.5, 1],
}


class Exported:
    """What /metrics says."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        samples = [sample for family in self.families.values() for sample in family.samples]
        self.values = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
        assert len(self.values) == len(samples), "a sample is given twice"
        self.names = {name for name, _ in self.values}

    def __call__(self, name: str, **labels: str) -> float:
        return self.values[name, frozenset(labels.items())]

    def bounds(self, name: str) -> list[float]:
        """Return the finite upper bounds of a histogram."""
        found = {float(dict(labels)["le"]) for each, labels in self.values if each == f"{name}_bucket"}
        return sorted(found - {float("inf")})

    def total(self, name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(value for (found, given), value in self.values.items() if found == name and wanted <= given)


async def scrape(served: Served) -> Exported:
    if getattr(served.app.state, "scraped", False):
        await asyncio.sleep(1.05)  # the text is kept for a second
    served.app.state.scraped = True
    reply = await served.client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Exported(reply.text)


async def record(config: APIConfig, *made: Recording) -> None:
    async with open_database(config.database, config.timeouts) as adapter:
        for recording in made:
            await AsyncProductRecorder(adapter).record(recording)


async def test_every_name_of_the_contract_is_exported_with_its_kind(api: Served) -> None:
    await api.get("/api/v1/images")
    exported = await scrape(api)
    kinds = {name: exported.families[name].type for name in PUBLISHED if name in exported.families}
    kinds |= {"dsa110_pipeline": exported.families["dsa110_pipeline_info"].type}
    assert kinds == PUBLISHED
    assert {name: exported.bounds(name) for name in BUCKETS} == BUCKETS
    assert {"python_info", "process_resident_memory_bytes", "process_open_fds"} <= exported.names
    assert exported("dsa110_pipeline_info", version="0.1.0", environment=api.world.config.auth.environment) == 1


async def test_figures_are_those_of_the_configured_database(api: Served) -> None:
    exported = await scrape(api)
    assert exported("dsa110_ms_count", stage="imaged") == 1
    assert exported("dsa110_images_count", type="5min") == exported("dsa110_images_created_total", type="5min") == 1
    assert exported("dsa110_sources_count") == exported("dsa110_photometry_count") == 1
    assert exported("dsa110_pending_jobs") == exported("dsa110_running_jobs") == 0
    assert exported("dsa110_photometry_records_total", source_type="known") == 1
    assert exported("dsa110_sources_detected_total", classification="point") == 1
    assert exported("dsa110_calibrations_total", status="success", type="bandpass") == 1
    assert exported("dsa110_ms_processed_total", status="success", stage="imaged") == 1
    for stage in ("imaged", "solved", "validated", "reimaged", "unknown"):
        assert exported("dsa110_ms_processed_total", status="failed", stage=stage) == 0
    assert exported("dsa110_images_created_total", type="image") == 0, "so that the first is an increase"
    assert exported("dsa110_image_noise_jy_bucket", le="0.0005") == 0
    assert exported("dsa110_image_noise_jy_bucket", le="0.001") == exported("dsa110_image_noise_jy_count") == 1
    assert exported("dsa110_image_noise_jy_sum") == 0.001
    assert exported("dsa110_image_dynamic_range_bucket", le="1000.0") == 1


@pytest.fixture
def fresh(each_database: dict[str, str], tmp_path: Path) -> World:
    """A world that the test may change, in each kind of database."""
    return asyncio.run(build(settings(tmp_path / "state", **each_database)))


async def test_a_stage_that_is_recorded_again_counts_nothing_twice_and_a_new_stage_counts(fresh: World) -> None:
    again = recordings(fresh)[0]
    moved = dataclasses.replace(again.measurement_set, stage="cataloged")
    async with serving(fresh.config) as served:
        before = await scrape(served)
        await record(fresh.config, again, again)
        assert {key: value for key, value in (await scrape(served)).values.items() if "dsa110_" in key[0]} == {
            key: value for key, value in before.values.items() if "dsa110_" in key[0]
        }
        await record(fresh.config, Recording(measurement_set=moved))
        after = await scrape(served)
        assert after("dsa110_ms_processed_total", status="success", stage="cataloged") == 1
        assert after("dsa110_ms_count", stage="cataloged") == 1
        assert after.total("dsa110_ms_count", stage="imaged") == 0, "a stage that emptied keeps no old value"


async def test_failures_signal_to_noise_and_extents_are_counted(fresh: World) -> None:
    whole = recordings(fresh)[0]
    table, measured = whole.calibration_tables[0], whole.photometry[0]
    job = JobRecord("job-2026-02-12-000000", GROUP_ID, "running", fresh.ms_path)
    better = {"median_snr_bandpass": 33.5, "median_snr_gain": 7, "snr_mean": 9}
    await record(
        fresh.config,
        Recording(
            job=job,
            calibration_tables=(
                dataclasses.replace(table, path="/b", quality_metrics=better),
                dataclasses.replace(table, path="/g", table_type="GP", quality_metrics=better),
                dataclasses.replace(table, path="/n", quality_metrics={"median_snr_bandpass": float("nan")}),
            ),
            image=dataclasses.replace(whole.image, path="/extended", noise_jy=None, dynamic_range=1e6),
        ),
        Recording(
            job=dataclasses.replace(job, status="failed", error="calibration-solve: no calibrator"),
            photometry=(
                dataclasses.replace(measured, image_path="/extended", flux_jy=1.2, flux_err_jy=0.01, peak_jyb=1.0),
            ),
        ),
        Recording(job=dataclasses.replace(job, status="failed", error="calibration-solve: no calibrator")),
        Recording(job=dataclasses.replace(job, run_id="v2", status="failed", error="reimaging: disk full")),
        Recording(job=dataclasses.replace(job, run_id="v3", status="failed", error="canceled")),
        Recording(job=dataclasses.replace(job, run_id="v4", status="failed", error=None)),
    )
    async with serving(fresh.config) as served:
        exported = await scrape(served)
    assert exported("dsa110_calibration_snr_count") == 2
    assert exported("dsa110_calibration_snr_sum") == 40.5
    assert exported("dsa110_calibration_snr_bucket", le="10.0") == 1
    assert exported("dsa110_calibrations_total", status="failed", type="bandpass") == 1
    assert exported("dsa110_calibrations_total", status="failed", type="gain") == 1
    assert exported("dsa110_ms_processed_total", status="failed", stage="solved") == 1
    assert exported("dsa110_ms_processed_total", status="failed", stage="reimaged") == 1
    assert exported("dsa110_ms_processed_total", status="failed", stage="unknown") == 1, (
        "what is canceled is no failure"
    )
    assert exported("dsa110_sources_detected_total", classification="extended") == 1
    assert exported("dsa110_image_dynamic_range_bucket", le="10000.0") == 1
    assert exported("dsa110_image_dynamic_range_bucket", le="+Inf") == 2
    assert exported("dsa110_image_noise_jy_count") == 1


async def test_requests_are_counted_by_template_and_unknown_paths_make_no_series(own: Served) -> None:
    before = await scrape(own)
    for path in ("/api/images/1", "/api/v1/images/1", "/api/v1/images/999", "/none/1", "/none/2", "/api/v1/nonsense"):
        await own.client.get(path)
    await own.client.request("BREW", "/api/v1/images/1")
    await own.client.head("/api/v1/images/1")
    await own.client.get("/api/health")
    after = await scrape(own)

    def grown(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    image = "/api/v1/images/{image_id}"
    assert grown("http_requests_total", handler=image, method="GET", status="2xx") == 2
    assert grown("http_requests_total", handler=image, method="GET", status="4xx") == 1
    assert grown("http_requests_total", handler=image, method="HEAD", status="2xx") == 1
    assert grown("http_requests_total", handler="none", method="GET", status="4xx") == 3
    assert grown("http_requests_total", method="other") == 1
    assert grown("http_requests_total") == 8, "health and metrics are not counted"
    assert grown("http_response_size_bytes_count", handler=image) == 4
    assert grown("http_response_size_bytes_sum", handler=image) > 1000
    assert grown("http_request_duration_highr_seconds_count") == 8
    assert grown("http_request_duration_seconds_bucket", handler=image, le="+Inf") == 4
    text = (await own.client.get("/metrics")).text
    assert "/none/1" not in text
    assert "999" not in re.findall(r'handler="([^"]*)"', text)


async def test_metrics_are_answered_while_the_database_is_away(tmp_path: Path) -> None:
    async with serving(settings(tmp_path / "state")) as served:
        exported = await scrape(served)
    assert exported("dsa110_database_available") == 0
    assert "dsa110_ms_count" not in exported.names
    assert "process_cpu_seconds_total" in exported.names


class Silent:
    """Figures of a database that does not answer."""

    async def get_figures(self) -> ProductFigures:
        raise TimeoutError


async def test_the_log_says_why_no_figures_of_the_products_are_exported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await MetricsExporter(Silent(), Tally(tmp_path), "testing").exposition()
    assert "the figures of the products are not exported: no answer in time" in caplog.messages


def test_the_buckets_of_the_triggers_are_those_that_are_exported() -> None:
    assert {name: bounds for name, (_, bounds) in HISTOGRAMS.items()} == dict(events.BOUNDS)
    assert {f"dsa110_{name}" for name in COUNTERS} < set(PUBLISHED)
    assert {family.name for family in FAMILIES} < set(PUBLISHED)


# --- across processes ---------------------------------------------------------------------------------------------

_COUNTING = """
import os, sys, time
from pathlib import Path
from dsa110_contimg.api.tally import Family, Tally
tally = Tally(Path(sys.argv[1]))
tally.open()
cell = tally.cell(Family("counter", "requests", "Requests."), {"handler": "x"}, "_total")
for _ in range(int(sys.argv[2])):
    cell.add()
print("counted", flush=True)
time.sleep(60)
"""


def counted(directory: Path) -> float:
    return sum(sample.value for metric in Tally(directory).families() for sample in metric.samples)


def test_numbers_of_several_processes_add_up_and_survive_a_kill(tmp_path: Path) -> None:
    def started(number: int) -> "subprocess.Popen[bytes]":
        arguments = [sys.executable, "-c", _COUNTING, str(tmp_path), str(number)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert process.stdout
        assert process.stdout.readline() == b"counted\n"
        return process

    first, second = started(1000), started(500)
    try:
        assert counted(tmp_path) == 1500
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert counted(tmp_path) == 1500
        third = started(7)
        assert counted(tmp_path) == 1507
        third.kill()
        third.wait()
    finally:
        second.kill()
        second.wait()
    assert len(list(tmp_path.glob("counter_*.db"))) == 2, "a process that begins takes the place of one that ended"


def test_a_damaged_file_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "counter_0.db").write_bytes(b"\xff\xff\xff\x7f" + b"\x09" * 4096)
    (tmp_path / "counter_7.db").write_bytes(b"\xff\xff\xff\x7f" + b"\x09" * 4096)
    tally = Tally(tmp_path)
    tally.open()
    tally.cell(REQUESTS, {"handler": "x"}).add(3)
    assert counted(tmp_path) == 3
    tally.close()


def test_without_a_directory_requests_are_served_and_counted_in_vain(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tally = Tally(tmp_path / "file" / "metrics")
    tally.open()
    tally.cell(REQUESTS, {}).add()
    assert tally.families() == []
    tally.close()


# --- dashboard and alerts -----------------------------------------------------------------------------------------

_WORD = re.compile(r"\b(?:dsa110|http|process|python)_[a-z0-9_]+")


def expressions() -> list[str]:
    rules = yaml.safe_load(RULES.read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return asked + list(_targets(orjson.loads(DASHBOARD.read_bytes())))


def _targets(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["expr"]] if isinstance(part.get("expr"), str) else []
        return own + [text for value in part.values() for text in _targets(value)]
    return [text for value in part for text in _targets(value)] if isinstance(part, list) else []


async def test_dashboard_and_alerts_ask_only_what_is_exported(own: Served) -> None:
    await own.get("/api/v1/images")
    names = (await scrape(own)).names
    asked = {word for expression in expressions() for word in _WORD.findall(expression)}
    assert len(asked) > 15
    assert not asked - names
    assert all(_WORD.search(expression) for expression in expressions())


def test_every_alert_says_how_grave_it_is_and_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 8
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "remedy"}
