"""Times of schedules: what a cron expression means, and which of its times are to fire.

An expression has the five fields minute, hour, day of month, month and weekday: numbers, names (``jan``, ``mon``),
lists, ranges and steps; 0 and 7 are Sunday; when both days are restricted, either of them fires. It is read by the
clock on the wall of the schedule's time zone:

* A time that a change of the clock leaves out fires at the moment of the change, once, however many were left out.
* A time that the clock shows twice fires the first time only.
* Where the hour field is ``*`` neither holds: what runs every hour or every few minutes runs on evenly, through both
  passes of a repeated hour, and without a make-up for one that never was.

So a tick is a moment, each tick fires once, and all of them are known from the expression alone.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter

from dsa110_contimg.absurd.connection import AbsurdError

#: A tick that is fired this late has been missed; the policies say what happens to it.
MISSED_S = 60.0

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = {name: i for i, name in enumerate(_MONTH_NAMES, 1)}
_WEEKDAYS = {name: i for i, name in enumerate(_WEEKDAY_NAMES)}
_ITEM = re.compile(r"(?:\*|(?P<first>[0-9a-z]+)(?P<range>-(?P<last>[0-9a-z]+))?)(?:/(?P<step>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields: the numbers that it may hold, and their names."""

    name: str
    lowest: int
    highest: int
    names: Mapping[str, int] = field(default_factory=dict)

    def numbers(self, item: str) -> set[int]:
        """Return what a part of a list stands for, or raise ValueError with what is wrong with it."""
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError("is not a number, a name, *, a range a-b or one of these with a step /n")
        first = self._number(match["first"] or str(self.lowest))
        open_end = match["first"] is None or (match["step"] and not match["range"])
        last = self.highest if open_end else self._number(match["last"] or match["first"])
        step = int(match["step"] or 1)
        if not 1 <= step <= self.highest:
            raise ValueError(f"has a step out of range: {step} is not one of 1 to {self.highest}")
        if first > last:
            if self.names is not _WEEKDAYS:
                raise ValueError("runs backwards; give two ranges")
            last += 7  # friday to monday
        return {number % 7 if self.names is _WEEKDAYS else number for number in range(first, last + 1, step)}

    def _number(self, text: str) -> int:
        number = self.names.get(text, int(text) if text.isdecimal() else -1)
        if not self.lowest <= number <= self.highest:
            choice = f"{self.lowest} to {self.highest}" + (f" or {', '.join(self.names)}" if self.names else "")
            raise ValueError(f"is out of range: {text} is not one of {choice}")
        return number


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),
)


class ScheduleError(AbsurdError):
    """A schedule that cannot be: the message names the expression or time zone and what would be right."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone.

    Raises
    ------
    ScheduleError
        The expression has not five fields, a field is not valid, no date fits it, or the time zone is not known.
    """

    expression: str
    timezone: str = "UTC"
    _numbers: str = field(init=False, repr=False, compare=False)  # the expression as lists of numbers

    def __post_init__(self) -> None:
        fields = self.expression.lower().split()
        if len(fields) != len(_FIELDS):
            raise ScheduleError(
                f"cron expression {self.expression!r} has {len(fields)} fields; give five: minute, hour, day of month, "
                "month, weekday"
            )
        object.__setattr__(self, "_numbers", " ".join(map(self._read, fields, _FIELDS)))
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # whose words may say where the zones lie on this machine
            raise ScheduleError(
                f"time zone {self.timezone!r} is not known; give a name like UTC or America/Los_Angeles"
            ) from None
        self.next(datetime(2000, 1, 1, tzinfo=UTC))

    def _read(self, text: str, kind: "_Field") -> str:
        """Return a field as a list of numbers, or ``*``."""
        if text == "*":
            return text
        numbers: set[int] = set()
        for item in text.split(","):
            try:
                numbers |= kind.numbers(item)
            except ValueError as error:
                raise ScheduleError(f"cron expression {self.expression!r}: {kind.name} {item!r} {error}") from None
        return ",".join(map(str, sorted(numbers)))

    def next(self, after: datetime) -> datetime:
        """Return the first tick later than ``after``."""
        zone = ZoneInfo(self.timezone)
        local = after.astimezone(zone)
        wall, runs_on = local.replace(tzinfo=None, fold=0), self.expression.split()[1] == "*"
        if runs_on and (repeated := _repeats(wall, zone)) and local.fold == 0:
            # The clock will go back over times that it has shown already.
            ticks = [tick for time in self._walls(wall - repeated, wall + repeated)
                     for tick in _moments(time, zone, runs_on) if tick > after]  # fmt: skip
            if ticks:
                return min(ticks)
        for time in self._walls(wall):
            for tick in _moments(time, zone, runs_on):
                if tick > after:
                    return tick
        raise AssertionError("the times of an expression never end")

    def _walls(self, start: datetime, end: datetime | None = None) -> Iterator[datetime]:
        """Give the times on the wall later than ``start``, up to ``end``."""
        try:
            for time in croniter(self._numbers, start, ret_type=datetime):
                if end is not None and time > end:
                    return
                yield time
        except CroniterError as error:
            raise ScheduleError(f"cron expression {self.expression!r} never fires ({error})") from None


def _repeats(wall: datetime, zone: ZoneInfo) -> timedelta:
    """Return by how much the clock goes back over this time; nothing when it is shown once."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    assert first is not None and second is not None  # a zone always knows
    return max(first - second, timedelta(0))


def _moments(wall: datetime, zone: ZoneInfo, runs_on: bool) -> list[datetime]:
    """Return the moments at which a time on the wall fires."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first > second:  # left out: `second` lies before the change and `first` after it
        return [] if runs_on else [_change(second, first, zone)]
    return [first, second] if runs_on and second > first else [first]


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment between the two at which the clock is changed, to the second."""
    old = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a schedule's next time: from ``expected`` to ``following``, firing for ``fire_at`` (None: not)."""

    expected: datetime
    following: datetime
    fire_at: datetime | None


def moves(cron: Cron, policy: str, limit: int | None, due: datetime, now: datetime) -> Iterator[Move]:
    """Give the moves that bring a schedule whose next time was ``due`` past ``now``, by its policy for missed ticks.

    ``skip``: a tick that has been missed is left out. ``coalesce``: all that are due fire once. ``catch_up``: each
    fires, or of many the last ``limit``.
    """
    if policy == "catch_up":
        yield from _catch_up(cron, limit, due, now)
        return
    fire_at: datetime | None = due
    following = cron.next(now)
    if policy == "skip" and (missed := now - timedelta(seconds=MISSED_S)) >= due:
        last = cron.next(missed)
        fire_at = last if last <= now else None
    yield Move(due, following, fire_at)


def _catch_up(cron: Cron, limit: int | None, due: datetime, now: datetime) -> Iterator[Move]:
    first = due if limit is None else _newest(cron, limit, due, now)
    if first > due:
        yield Move(due, first, None)
    while first <= now:
        following = cron.next(first)
        yield Move(first, following, first)
        first = following


def _newest(cron: Cron, limit: int, due: datetime, now: datetime) -> datetime:
    """Return the first of the last ``limit`` ticks up to ``now``, looking back only as far as is needed for that."""
    reach = timedelta(minutes=limit)
    while True:
        start = max(due - timedelta(microseconds=1), now - reach)
        ticks: list[datetime] = []
        while (tick := cron.next(ticks[-1] if ticks else start)) <= now:
            ticks.append(tick)
        if len(ticks) >= limit or start < due:
            return ticks[-limit:][0] if ticks else due
        reach *= 2


def cron_of(row: Mapping[str, Any]) -> Cron:
    """Return the times of a row of ``absurd.cron``."""
    return Cron(row["expr"], row["timezone"])
