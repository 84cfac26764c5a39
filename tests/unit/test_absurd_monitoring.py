"""Health of the queue by the thresholds of the contract, states of workflows, payloads, schedules."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from dsa110_contimg.absurd.client import workflow_status
from dsa110_contimg.absurd.cron import ScheduleError, next_fire
from dsa110_contimg.absurd.monitoring import judge, worker_state
from dsa110_contimg.absurd.payloads import encode, plain

QUIET = {"queue_depth": 0, "oldest_pending_s": None, "running": 0, "dead": 0, "last_completed_s": None}
ACTIVE = {"state": "active", "beat_age_s": 1.0}
STALE = {"state": "active", "beat_age_s": 100.0}


@pytest.mark.parametrize(
    ("figures", "workers", "latency_ms", "status", "word"),
    [
        ({}, [ACTIVE], 1.0, "healthy", "healthy"),
        ({}, [], 1.0, "critical", "no worker is active"),
        ({}, [STALE], 1.0, "critical", "no worker is active"),
        ({}, [ACTIVE, STALE, STALE], 1.0, "degraded", "only 1 of 3 workers"),
        ({"queue_depth": 501}, [ACTIVE], 1.0, "degraded", "501 tasks wait"),
        ({"queue_depth": 1001}, [ACTIVE], 1.0, "critical", "1001 tasks wait"),
        ({"queue_depth": 1, "oldest_pending_s": 601.0, "last_completed_s": 1.0}, [ACTIVE], 1.0, "degraded", "601 s"),
        ({"queue_depth": 1, "oldest_pending_s": 3601.0, "last_completed_s": 1.0}, [ACTIVE], 1.0, "critical", "3601 s"),
        ({"queue_depth": 1, "oldest_pending_s": 301.0}, [ACTIVE], 1.0, "critical", "nothing has been completed"),
        ({"queue_depth": 0, "last_completed_s": 9999.0}, [ACTIVE], 1.0, "healthy", "healthy"),
        ({}, [ACTIVE], 501.0, "degraded", "501 ms"),
        ({}, [ACTIVE], 1001.0, "critical", "1001 ms"),
    ],
)
def test_health_follows_the_thresholds(
    figures: dict[str, Any], workers: list[dict[str, Any]], latency_ms: float, status: str, word: str
) -> None:
    verdict = judge({**QUIET, **figures}, workers, latency_ms)
    assert verdict["status"] == status
    assert word in verdict["message"]


def test_workers_that_have_left_are_not_missed() -> None:
    assert judge(QUIET, [ACTIVE, {"state": "stopped", "beat_age_s": 9e9}], 1.0)["status"] == "healthy"


@pytest.mark.parametrize(("age_s", "state"), [(9.9, "active"), (10.0, "idle"), (60.0, "stale"), (180.0, "crashed")])
def test_a_workers_state_follows_the_age_of_its_beat(age_s: float, state: str) -> None:
    assert worker_state({"state": "active", "beat_age_s": age_s}) == state


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["pending", "blocked"], "pending"),
        (["claimed", "blocked"], "running"),
        (["completed", "pending"], "running"),
        (["retrying"], "running"),
        (["failed", "skipped", "blocked"], "running"),
        (["completed", "completed"], "completed"),
        (["completed", "failed", "skipped"], "failed"),
        (["cancelled", "skipped"], "cancelled"),
    ],
)
def test_the_status_of_a_workflow_follows_from_those_of_its_tasks(states: list[str], status: str) -> None:
    assert workflow_status(states) == status


@dataclass(frozen=True)
class Beam:
    major_arcsec: float
    names: tuple[str, ...]


def test_payloads_become_plain_strict_json() -> None:
    value = {"beam": Beam(float("inf"), ("a", "b\x00")), 3: np.float32(0.5), "n": np.int64(7), "flag": np.bool_(True)}
    assert encode(value) == '{"beam":{"major_arcsec":null,"names":["a","b"]},"3":0.5,"n":7,"flag":true}'


def test_what_has_no_json_form_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match="ndarray has no JSON form"):
        plain({"image": np.zeros(3)})


@pytest.mark.parametrize(
    ("expression", "zone", "after", "fires"),
    [
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", "2028-02-29T00:00"),  # leap day
        ("0 12 * * 7", "UTC", "2026-11-21T00:00", "2026-11-22T12:00"),  # 7 is Sunday, as 0 is
        ("0 12 * * sun", "UTC", "2026-11-21T00:00", "2026-11-22T12:00"),
        ("0 0 13 * fri", "UTC", "2026-11-21T00:00", "2026-11-27T00:00"),  # the 13th or a Friday
        ("*/20 3 * jan *", "UTC", "2026-11-21T00:00", "2027-01-01T03:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T01:00"),  # 02:30 does not exist that day
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00", "2026-10-25T00:30"),  # 02:30 exists twice,
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25T01:30"),  # and fires twice
        ("0 3 * * *", "America/Los_Angeles", "2026-07-01T00:00", "2026-07-01T10:00"),
        ("0 3 * * *", "America/Los_Angeles", "2026-12-01T00:00", "2026-12-01T11:00"),
    ],
)
def test_cron_expressions_fire_when_cron_says(expression: str, zone: str, after: str, fires: str) -> None:
    moment = next_fire(expression, zone, datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert moment.astimezone(UTC) == datetime.fromisoformat(fires).replace(tzinfo=UTC)
    assert moment.tzinfo == ZoneInfo(zone)


@pytest.mark.parametrize(
    ("expression", "zone"),
    [("60 * * * *", "UTC"), ("* * * *", "UTC"), ("* * * * * *", "UTC"), ("* * 0 * *", "UTC"), ("* * * * 8", "UTC"),
     ("a * * * *", "UTC"), ("0 0 30 2 *", "UTC"), ("* * * * *", "Mars/Olympus")],
)  # fmt: skip
def test_an_expression_that_is_none_is_refused(expression: str, zone: str) -> None:
    with pytest.raises(ScheduleError, match="cron expression"):
        next_fire(expression, zone, datetime(2026, 1, 1, tzinfo=UTC))
