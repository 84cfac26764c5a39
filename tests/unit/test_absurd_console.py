"""The parts of the terminal that need no queue: layout, texts, values, keys, the frame of the live view."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from dsa110_contimg.absurd.console import values
from dsa110_contimg.absurd.console.layout import Column, id_column, lines_of, shortened
from dsa110_contimg.absurd.console.session import WrongUsageError
from dsa110_contimg.absurd.console.texts import age, duration, rate, share
from dsa110_contimg.absurd.console.top import View, actions, after, bar, frame
from dsa110_contimg.absurd.health import Figures, down, judge

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TASK = "01a200ec-3490-7d49-a6c9-4472d353cf8a"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0.0, "0 ms"), (0.0034, "3.4 ms"), (0.999, "999 ms"), (0.9999, "1.0 s"), (9.94, "9.9 s"),
        (9.96, "10 s"), (99.4, "99 s"), (100.0, "1.7 min"), (5399.0, "90 min"), (5400.0, "1.5 h"), (172799.0, "48 h"),
        (172800.0, "2.0 d"), (86400.0 * 400, "400 d"),
    ],
)  # fmt: skip
def test_a_duration_is_short_and_has_its_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_ages_rates_and_shares_are_readable() -> None:
    assert age((NOW - timedelta(seconds=90)).isoformat(), NOW) == "90 s"
    assert age((NOW + timedelta(hours=3)).isoformat(), NOW) == "in 3.0 h"
    assert (rate(2.5), rate(0.05), rate(None)) == ("2.5/s", "3.0/min", "–")
    assert (share(0.995), share(None)) == ("99.5 %", "–")


def test_an_id_is_shortened_in_its_middle() -> None:
    assert shortened(TASK, 36) == TASK
    assert shortened(TASK, 15) == "01a200ec…53cf8a"
    assert cell_len(shortened("望" * 9, 5)) <= 11


WIDE = (
    id_column("id"),
    Column("name", lambda row: row["name"], least=6),
    Column("n", lambda row: row["n"], right=True),
    Column("spare", lambda row: "x" * 20, spare=1),
    Column("first to go", lambda row: "y" * 20, spare=2),
    Column("empty", lambda row: "", spare=3),
)


def test_columns_go_in_their_order_and_empty_ones_are_not_shown() -> None:
    rows = [{"id": TASK, "name": "imaging", "n": "12"}]
    heads = {width: re.split(r"\s{2,}", lines_of(WIDE, rows, width)[0].plain) for width in (200, 70, 40)}
    assert "first to go" in heads[200]
    assert "empty" not in heads[200]
    assert "first to go" not in heads[70]
    assert "spare" in heads[70]
    assert "spare" not in heads[40]
    assert lines_of(WIDE, rows, 40)[1].plain.endswith("imaging  12")


@pytest.mark.parametrize("width", [10, 30, 50, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    rows = [{"id": TASK, "name": "望" * 30, "n": "12"}, {"id": "", "name": "", "n": ""}]
    lines = lines_of(WIDE, rows, width)
    assert len(lines) == 3
    assert max(cell_len(line.plain) for line in lines) <= width


def test_spans_and_moments_are_read_in_every_form() -> None:
    assert [values.span_s(text) for text in ("90", "1.5s", "15m", "2h", "7d")] == [90, 1.5, 900, 7200, 604800]
    assert values.moment("2026-11-22T03:00") == datetime(2026, 11, 22, 3, tzinfo=UTC)
    assert values.moment("2026-11-22T03:00+01:00") == datetime(2026, 11, 22, 2, tzinfo=UTC)
    assert timedelta(minutes=14) < values.moment("+15m") - datetime.now(UTC) <= timedelta(minutes=15)
    with pytest.raises(WrongUsageError, match="time span '5 weeks'"):
        values.span_s("5 weeks")


def worker(number: int, tasks: int) -> dict[str, Any]:
    running = [
        {"task_id": TASK, "task_name": "imaging", "attempt": 1, "run_s": 5.0 + n, "progress": 0.5, "message": "m"}
        for n in range(tasks)
    ]
    return {
        "worker_id": f"node{number}-abcdef", "state": "active", "condition": "active", "beat_age_s": 1.0,
        "uptime_s": 9.0, "slots": 8, "tasks": running,
    }  # fmt: skip


def queue_row(name: str) -> dict[str, Any]:
    keys = ("current_pending", "current_claimed", "current_blocked", "current_scheduled", "current_retrying",
            "total_completed", "total_failed")  # fmt: skip
    unknown = ("success_rate_15min", "p50_execution_time_sec", "p95_execution_time_sec", "oldest_pending_sec")
    rates = {"throughput_1min": 0.5, "throughput_15min": 0.5}
    return {"queue_name": name, "paused": False, **dict.fromkeys(keys, 7), **dict.fromkeys(unknown), **rates}


def full_view() -> View:
    workers = [worker(number, 8) for number in range(12)]
    health = judge(Figures(queue_depth=2000, dead=3, paused=("a",)), workers, 1.0, NOW)
    failures = [{"task_id": TASK, "task_name": "imaging", "died_at": NOW.isoformat(), "error": "E: m"}] * 10
    return View(NOW, health, [queue_row(f"queue{n}") for n in range(9)], workers, failures)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("height", [6, 10, 24, 60, 200])
def test_a_frame_has_the_size_of_the_screen(width: int, height: int) -> None:
    lines = frame(full_view(), width, height)
    assert len(lines) == height
    assert max(cell_len(line.plain) for line in lines) <= width


def test_a_frame_of_the_usual_size_has_every_part() -> None:
    text = "\n".join(line.plain for line in frame(full_view(), 80, 24))
    for part in ("● critical", "! 2000 tasks wait", "! paused: a", "QUEUE", "WORKER", "RUNNING", "FAILED", "q quit"):
        assert part in text


def test_a_frame_without_its_database_says_so() -> None:
    text = "\n".join(line.plain for line in frame(View(NOW, down("it is away")), 80, 24))
    assert "● down" in text
    assert "the database does not answer" in text
    assert "waiting" not in text


def test_keys_have_their_meanings() -> None:
    assert list(actions(b"xp\x1b[A\x1b[Bq")) == ["pause", "up", "down", "quit"]
    view = full_view()
    assert after(view, "pause").paused
    assert after(after(view, "down"), "down").first == 2
    assert after(view, "up").first == 0
    assert after(View(NOW, view.health), "down").first == 0


def test_progress_is_drawn_and_the_unknown_is_not() -> None:
    assert bar(0.5) == "█████░░░░░  50 %"
    assert bar(None) == ""
