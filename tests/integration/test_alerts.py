"""The alert rules, tried by Prometheus's own tool on what is really exported: also what happens for the first time."""

import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from architecture.source_tree import ROOT
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import Recording
from fixtures.api_server import Served, serving
from fixtures.api_world import settings
from fixtures.migrated import migrate
from fixtures.observation import IMAGE, JOB, MEASUREMENT_SET
from fixtures.queue_bench import Bench

pytest_plugins = ["fixtures.queue_database"]
pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")

RULES = ROOT / "ops" / "prometheus"
#: How many minutes what was exported.
Course = list[tuple[int, str]]


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def firing(directory: Path, rules: str, course: Course) -> set[str]:
    """Return the alerts that fire at the end."""
    parts = [{_series(sample): sample.value for sample in _samples(text)} for _, text in course]
    inputs = []
    for name in {name: None for part in parts for name in part}:
        steps = [
            f"{part[name]}x{minutes - 1}" if name in part else f"_x{minutes}"
            for (minutes, _), part in zip(course, parts, strict=True)
        ]
        inputs.append({"series": name, "values": " ".join(steps)})
    asked = {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{sum(minutes for minutes, _ in course) - 1}m"}
    trial = {
        "rule_files": [str(RULES / rules)],
        "tests": [{"interval": "1m", "input_series": inputs, "promql_expr_test": [asked]}],
    }
    path = directory / "trial.yml"
    path.write_text(yaml.safe_dump(trial))
    told = promtool("test", "rules", str(path))
    found = set(re.findall(r'alertname="(\w+)"', told))
    assert found or not told, told
    return found


def _samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def _series(sample: Sample) -> str:
    labels = ", ".join(f'{name}="{value}"' for name, value in sample.labels.items())
    return f"{sample.name}{{{labels}}}"


@pytest.mark.parametrize("rules", ["api-alerts.yml", "absurd-alerts.yml"])
def test_promtool_accepts_the_rules(rules: str) -> None:
    assert promtool("check", "rules", str(RULES / rules)) == ""


@pytest.fixture
async def new(tmp_path: Path) -> AsyncIterator[Served]:
    """An API whose database is new; what it exports is asked without delay."""
    config = settings(tmp_path / "state")
    migrate(config.database)
    async with serving(config) as served:
        yield served


async def exported(served: Served) -> str:
    return (await served.app.state.services.metrics._make()).decode()


async def record(served: Served, recording: Recording) -> None:
    config = served.world.config
    async with open_database(config.database, config.timeouts) as adapter:
        await AsyncProductRecorder(adapter).record(recording)


async def test_of_an_installation_that_never_made_an_image_it_is_told_and_no_more_after_the_first(
    new: Served, tmp_path: Path
) -> None:
    await record(new, Recording(job=JOB, measurement_set=MEASUREMENT_SET))
    without = await exported(new)
    assert firing(tmp_path, "api-alerts.yml", [(180, without)]) == {"NoImageMade"}
    await record(new, Recording(image=replace(IMAGE, type="image")))
    assert firing(tmp_path, "api-alerts.yml", [(180, without), (40, await exported(new))]) == set()


async def test_the_first_failures_count(new: Served, tmp_path: Path) -> None:
    before = await exported(new)
    for number, task in enumerate(("calibration-solve", "reimaging", "validation", "x", "x")):
        failed = replace(JOB, run_id=f"{JOB.run_id}-{number}", status="failed", error=f"{task}: no")
        await record(new, Recording(job=failed))
    assert firing(tmp_path, "api-alerts.yml", [(20, before), (5, await exported(new))]) == {"RunsFail"}


async def test_the_first_repair_and_the_first_dead_letter_are_told(queue: Bench, tmp_path: Path) -> None:
    before = await queue.client.monitor.prometheus()
    await queue.client.spawn("imaging", max_retries=0)
    between = await queue.client.monitor.prometheus()
    await queue.fail((await queue.claim())[0])
    await queue.sql("select absurd.count_repairs('edges', 2)")
    course = [(20, before), (2, between), (5, await queue.client.monitor.prometheus())]
    told = firing(tmp_path, "absurd-alerts.yml", course) - firing(tmp_path, "absurd-alerts.yml", course[:2])
    assert told >= {"AbsurdRepaired", "AbsurdDeadLetters"}
