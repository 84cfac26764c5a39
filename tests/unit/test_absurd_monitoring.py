"""Health of the queue by the thresholds of the contract, states of workflows, payloads."""

from dataclasses import dataclass
from typing import Any

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
