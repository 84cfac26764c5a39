"""Cron expressions: which times they mean, by the clock on the wall, through its changes and leap days."""

import ast
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_contimg.absurd import cron, schedules, scheduling
from dsa110_contimg.absurd.cron import Cron, Move, ScheduleError, moves

BERLIN, LORD_HOWE = "Europe/Berlin", "Australia/Lord_Howe"


def ticks(expression: str, start: str, count: int, zone: str = "UTC") -> list[str]:
    """Return the next ticks as the wall shows them: ``02-29 12:00``, with the zone's name where it is not UTC."""
    cron, moment, found = Cron(expression, zone), datetime.fromisoformat(start).replace(tzinfo=UTC), []
    for _ in range(count):
        moment = cron.next(moment)
        found.append(moment.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M" + ("" if zone == "UTC" else " %Z")))
    return found


@pytest.mark.parametrize("weekday", ["0", "7", "sun", "SUN", "7-7"])
def test_sunday_is_0_and_7_and_by_name(weekday: str) -> None:
    assert ticks(f"0 12 * * {weekday}", "2026-03-02", 2) == ["03-08 12:00", "03-15 12:00"]


@pytest.mark.parametrize(("weekday", "day"), [("1", 2), ("mon", 2), ("5", 6), ("6", 7), ("sat", 7)])
def test_each_weekday_is_the_one_that_is_meant(weekday: str, day: int) -> None:
    assert ticks(f"0 0 * * {weekday}", "2026-03-01", 1) == [f"03-{day:02} 00:00"]


def test_names_ranges_lists_and_steps_are_understood() -> None:
    assert ticks("0 9-17/4 * jan,dec mon-fri", "2026-01-02T08:00", 4) == [
        "01-02 09:00",
        "01-02 13:00",
        "01-02 17:00",
        "01-05 09:00",
    ]
    assert ticks("0 0 * * fri-mon", "2026-03-03", 4) == ["03-06 00:00", "03-07 00:00", "03-08 00:00", "03-09 00:00"]


def test_of_two_restricted_days_either_fires() -> None:
    assert ticks("0 0 13 * fri", "2026-03-01", 4) == ["03-06 00:00", "03-13 00:00", "03-20 00:00", "03-27 00:00"]
    assert ticks("0 0 13 * *", "2026-03-01", 2) == ["03-13 00:00", "04-13 00:00"]


def test_leap_days_are_found_years_ahead_and_at_once() -> None:
    started = time.process_time()
    cron = Cron("0 0 29 2 *")
    leap = datetime(2096, 2, 29, tzinfo=UTC)
    assert cron.next(leap) == datetime(2104, 2, 29, tzinfo=UTC)
    assert cron.next(datetime(2026, 11, 22, tzinfo=UTC)) == datetime(2028, 2, 29, tzinfo=UTC)
    assert time.process_time() - started < 0.5, "the minutes of years must not be tried one by one"


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("60 * * * *", "minute '60'"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day of month '0'"),
        ("* * 32 * *", "day of month '32'"),
        ("* * * 13 *", "month '13'"),
        ("* * * * 8", "weekday '8'"),
        ("* * * foo *", "month 'foo'"),
        ("* * * * 1,99", "weekday '99'"),
        ("0-99 * * * *", "minute '0-99'"),
        ("5-1 * * * *", "minute '5-1'"),
        ("*/0 * * * *", "minute '\\*/0'"),
        ("*/100 * * * *", "minute '\\*/100'"),
        ("1,,2 * * * *", "minute ''"),
        ("-1 * * * *", "minute '-1'"),
        ("* R * * *", "hour 'r'"),
        ("* * L * *", "day of month 'l'"),
        ("* * * * 5#2", "weekday '5#2'"),
        ("* * * *", "has 4 fields"),
        ("* * * * * *", "has 6 fields"),
        ("@daily", "has 1 fields"),
        ("", "has 0 fields"),
        ("0 0 31 2 *", "never fires"),
        ("0 0 31 4,6 *", "never fires"),
    ],
)
def test_what_cannot_be_is_refused_by_name(expression: str, named: str) -> None:
    with pytest.raises(ScheduleError, match=named):
        Cron(expression)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "/etc/passwd", "../../etc/passwd", "America"])
def test_an_unknown_time_zone_is_refused_by_name(zone: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        Cron("* * * * *", zone)
    assert str(refused.value) == f"time zone {zone!r} is not known; give a name like UTC or America/Los_Angeles"


def test_a_schedule_follows_the_clock_of_its_own_zone() -> None:
    assert Cron("0 3 * * *", "America/Los_Angeles").next(datetime(2026, 1, 1, tzinfo=UTC)).hour == 11
    assert Cron("0 3 * * *", "America/Los_Angeles").next(datetime(2026, 7, 1, tzinfo=UTC)).hour == 10
    assert Cron("0 3 * * *", "Asia/Kolkata").next(datetime(2026, 1, 1, tzinfo=UTC)).strftime("%H:%M") == "21:30"


def test_a_time_that_the_change_of_the_clock_leaves_out_fires_once_at_the_change() -> None:
    assert ticks("30 2 * * *", "2026-03-28T12:00", 2, BERLIN) == ["03-29 03:00 CEST", "03-30 02:30 CEST"]
    assert ticks("*/10 2 * * *", "2026-03-28T12:00", 2, BERLIN) == ["03-29 03:00 CEST", "03-30 02:00 CEST"]
    assert ticks("30 2,3 * * *", "2026-03-28T12:00", 3, BERLIN)[:2] == ["03-29 03:00 CEST", "03-29 03:30 CEST"]
    assert ticks("0 2,3 * * *", "2026-03-28T12:00", 2, BERLIN) == ["03-29 03:00 CEST", "03-30 02:00 CEST"]


def test_a_day_that_a_zone_left_out_fires_once_at_the_change() -> None:
    assert ticks("0 12 30 12 *", "2011-12-01", 2, "Pacific/Apia") == ["12-31 00:00 +14", "12-30 12:00 +14"]


def test_a_fixed_time_that_the_clock_shows_twice_fires_the_first_time_only() -> None:
    assert ticks("30 2 * * *", "2026-10-24T12:00", 2, BERLIN) == ["10-25 02:30 CEST", "10-26 02:30 CET"]
    assert ticks("*/30 2 * * *", "2026-10-24T12:00", 3, BERLIN)[:2] == ["10-25 02:00 CEST", "10-25 02:30 CEST"]


def test_a_scheduler_that_starts_in_the_second_pass_does_not_take_it_for_the_first() -> None:
    second_pass = "2026-10-25T01:10"  # 02:10 CET, which follows 02:59 CEST
    assert ticks("30 2 * * *", second_pass, 1, BERLIN) == ["10-26 02:30 CET"]
    assert ticks("30 * * * *", second_pass, 1, BERLIN) == ["10-25 02:30 CET"]


@pytest.mark.parametrize(
    ("expression", "zone", "start", "minutes"),
    [
        ("*/30 * * * *", BERLIN, "2026-10-24T22:00", 30),
        ("0 * * * *", BERLIN, "2026-10-24T22:00", 60),
        ("15 * * * *", BERLIN, "2026-03-28T22:15", 60),
        ("* * * * *", BERLIN, "2026-03-29T00:30", 1),
        ("* * * * *", BERLIN, "2026-10-25T00:30", 1),
        ("*/10 * * * *", LORD_HOWE, "2026-04-04T13:00", 10),
        ("*/10 * * * *", LORD_HOWE, "2026-10-03T13:00", 10),
    ],
)
def test_what_runs_every_hour_runs_on_evenly_through_the_changes(
    expression: str, zone: str, start: str, minutes: int
) -> None:
    cron, moment = Cron(expression, zone), datetime.fromisoformat(start).replace(tzinfo=UTC)
    for _ in range(240 // minutes):
        following = cron.next(moment)
        assert following - moment == timedelta(minutes=minutes)
        moment = following


ZONES = {
    "UTC": datetime(2026, 3, 29, tzinfo=UTC),
    BERLIN: datetime(2026, 3, 29, tzinfo=UTC),
    "America/Los_Angeles": datetime(2026, 11, 1, 8, tzinfo=UTC),
    LORD_HOWE: datetime(2026, 4, 4, 14, tzinfo=UTC),
    "Asia/Kathmandu": datetime(2026, 1, 1, tzinfo=UTC),
}


def allowed(field: str, low: int, high: int) -> set[int]:
    """Return the values of a field, read by the definition."""
    if field == "*":
        return set(range(low, high + 1))
    if field.startswith("*/"):
        return set(range(low, high + 1, int(field[2:])))
    return {int(part) for part in field.split(",")}


def by_the_definition(expression: str, zone: str, start: datetime, hours: int) -> list[datetime]:
    """Look at every minute of the wall's clock: slow, and plainly right."""
    minutes, hour_field = expression.split()[:2]
    hours_allowed, minutes_allowed = allowed(hour_field, 0, 23), allowed(minutes, 0, 59)
    found = []
    for i in range(1, hours * 60 + 1):
        moment = start + timedelta(minutes=i)
        wall, before = (m.astimezone(ZoneInfo(zone)) for m in (moment, moment - timedelta(minutes=1)))
        shown = [wall] if wall.fold == 0 or hour_field == "*" else []
        jump = wall.replace(tzinfo=None) - before.replace(tzinfo=None)
        if jump > timedelta(minutes=1) and hour_field != "*":  # the clock was put forward here
            shown += [wall - timedelta(minutes=j) for j in range(1, int(jump.total_seconds()) // 60)]
        if any(w.hour in hours_allowed and w.minute in minutes_allowed for w in shown):
            found.append(moment)
    return found


@settings(max_examples=25)
@given(
    st.sampled_from(sorted(ZONES)),
    st.sampled_from(["*", "*/7", "*/30", "0", "59", "5,35"]),
    st.sampled_from(["*", "*/2", "1", "2", "1,2,3", "23", "0"]),
    st.integers(-420, 120),
)
def test_the_ticks_are_those_of_the_definition(zone: str, minute: str, hour: str, offset_min: int) -> None:
    start = ZONES[zone] + timedelta(minutes=offset_min)
    expected = by_the_definition(f"{minute} {hour} * * *", zone, start, 14)
    cron, moment, found = Cron(f"{minute} {hour} * * *", zone), start, []
    while (moment := cron.next(moment)) <= start + timedelta(hours=14):
        found.append(moment)
    assert found == expected


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOURLY = Cron("0 * * * *")


def at(hour: int, minute: int = 0) -> datetime:
    return NOON.replace(hour=hour, minute=minute)


def test_coalesce_fires_once_for_all_that_was_missed() -> None:
    assert list(moves(HOURLY, "coalesce", None, at(3), at(12, 30))) == [Move(at(3), at(13), at(3))]


def test_skip_leaves_out_what_was_missed_but_not_what_is_due_now() -> None:
    assert list(moves(HOURLY, "skip", None, at(3), at(12, 30))) == [Move(at(3), at(13), None)]
    just_now = at(12) + timedelta(seconds=20)
    assert list(moves(HOURLY, "skip", None, at(3), just_now)) == [Move(at(3), at(13), at(12))]
    assert list(moves(HOURLY, "skip", None, at(12), just_now)) == [Move(at(12), at(13), at(12))]


def test_catch_up_fires_each_missed_time_in_order() -> None:
    assert list(moves(HOURLY, "catch_up", None, at(9), at(11, 30))) == [
        Move(at(9), at(10), at(9)),
        Move(at(10), at(11), at(10)),
        Move(at(11), at(12), at(11)),
    ]


def test_catch_up_with_a_limit_fires_the_last_ones_and_looks_back_no_further() -> None:
    year_ago = NOON - timedelta(days=365)
    found = list(moves(Cron("* * * * *"), "catch_up", 3, year_ago, NOON))
    assert found[0] == Move(year_ago, at(11, 58), None)
    assert [move.fire_at for move in found[1:]] == [at(11, 58), at(11, 59), at(12)]
    assert [move.fire_at for move in moves(HOURLY, "catch_up", 3, at(0), at(12))] == [None, at(10), at(11), at(12)]
    assert [move.fire_at for move in moves(HOURLY, "catch_up", 9, at(10), at(12))] == [at(10), at(11), at(12)]


@given(st.integers(0, 7), st.integers(0, 7))
def test_a_range_of_weekdays_holds_the_days_from_its_first_to_its_last(first: int, last: int) -> None:
    days = {day % 7 for day in range(first, (last if last >= first else last + 7) + 1)}
    cron, moment = Cron(f"0 0 * * {first}-{last}"), datetime(2026, 3, 1, tzinfo=UTC)
    found = set()
    for _ in range(8):
        moment = cron.next(moment)
        found.add(moment.isoweekday() % 7)
    assert found == days


@pytest.mark.parametrize("module", [cron, schedules, scheduling])
def test_the_clock_of_a_schedulers_host_is_never_read(module: ModuleType) -> None:
    tree = ast.parse(Path(module.__file__ or "").read_text())
    called = {
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not called & {"now", "utcnow", "today", "time", "localtime", "gmtime"}
