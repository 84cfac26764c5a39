"""The verdict on the queue, threshold by threshold."""

from datetime import UTC, datetime
from typing import Any

import pytest

from dsa110_contimg.absurd.health import Figures, down, judge, worker_state

ACTIVE = {"state": "active", "beat_age_s": 1.0}
STALE = {"state": "active", "beat_age_s": 100.0}
CRASHED = {"state": "crashed", "beat_age_s": 300.0}


@pytest.mark.parametrize(
    ("figures", "workers", "latency_ms", "status", "word"),
    [
        ({}, [ACTIVE], 1.0, "healthy", "healthy"),
        ({}, [], 1.0, "critical", "there is no worker"),
        ({}, [STALE], 1.0, "degraded", "only 0 of 1 workers"),
        ({"queue_depth": 3}, [STALE], 1.0, "critical", "no worker is active and 3 tasks wait"),
        ({}, [ACTIVE, STALE, STALE], 1.0, "degraded", "only 1 of 3 workers"),
        ({}, [ACTIVE, STALE], 1.0, "healthy", "healthy"),
        ({"queue_depth": 500}, [ACTIVE], 1.0, "healthy", "healthy"),
        ({"queue_depth": 501}, [ACTIVE], 1.0, "degraded", "501 tasks wait"),
        ({"queue_depth": 1000}, [ACTIVE], 1.0, "degraded", "1000 tasks wait"),
        ({"queue_depth": 1001}, [ACTIVE], 1.0, "critical", "1001 tasks wait"),
        ({"queue_depth": 1, "oldest_pending_s": 601.0, "last_completed_s": 1.0}, [ACTIVE], 1.0, "degraded", "601 s"),
        ({"queue_depth": 1, "oldest_pending_s": 3601.0, "last_completed_s": 1.0}, [ACTIVE], 1.0, "critical", "3601 s"),
        ({"queue_depth": 1, "oldest_pending_s": 301.0}, [ACTIVE], 1.0, "critical", "nothing has been completed"),
        ({"queue_depth": 1, "oldest_pending_s": 9.0, "last_completed_s": 9e9}, [ACTIVE], 1.0, "healthy", "healthy"),
        ({"queue_depth": 0, "last_completed_s": 9999.0}, [ACTIVE], 1.0, "healthy", "healthy"),
        ({"queue_depth": 1, "oldest_pending_s": 301.0, "paused": ["a"]}, [ACTIVE], 1.0, "degraded", "paused: a"),
        ({}, [ACTIVE], 501.0, "degraded", "501 ms"),
        ({}, [ACTIVE], 1001.0, "critical", "1001 ms"),
    ],
)
def test_health_follows_the_thresholds(
    figures: dict[str, Any], workers: list[dict[str, Any]], latency_ms: float, status: str, word: str
) -> None:
    verdict = judge(Figures(**figures), workers, latency_ms)
    assert verdict["status"] == status
    assert word in verdict["message"]


def test_workers_that_have_left_are_not_missed() -> None:
    assert judge(Figures(), [ACTIVE, {"state": "stopped", "beat_age_s": 9e9}], 1.0)["status"] == "healthy"


def test_a_crash_is_remembered_for_an_hour() -> None:
    lately = [ACTIVE, CRASHED, CRASHED]
    long_ago = [ACTIVE, *({**CRASHED, "beat_age_s": 3601.0} for _ in range(2))]
    assert judge(Figures(), lately, 1.0)["status"] == "degraded"
    assert judge(Figures(), long_ago, 1.0)["status"] == "healthy"


def test_every_alert_has_a_level_a_message_and_a_time() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    verdict = judge(Figures(queue_depth=1001, paused=["q"]), [ACTIVE], 1.0, at)
    assert verdict["alerts"] == [{"level": "critical", "message": "1001 tasks wait", "timestamp": at.isoformat()}]
    assert verdict["warnings"] == [{"level": "warning", "message": "paused: q", "timestamp": at.isoformat()}]


def test_a_queue_whose_database_is_away_is_down_and_nothing_is_made_up() -> None:
    verdict = down("it does not answer")
    assert (verdict["status"], verdict["database_available"]) == ("down", False)
    assert verdict["queue_depth"] is None
    assert verdict["database_latency_ms"] is None
    assert set(verdict) == set(judge(Figures(), [ACTIVE], 1.0))


@pytest.mark.parametrize(("age_s", "state"), [(9.9, "active"), (10.0, "idle"), (60.0, "stale"), (180.0, "crashed")])
def test_a_workers_state_follows_the_age_of_its_beat(age_s: float, state: str) -> None:
    assert worker_state({"state": "active", "beat_age_s": age_s}) == state
