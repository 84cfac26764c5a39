"""Figures as people read them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def duration(seconds: float | None) -> str:
    """Return a duration in at most six characters: ``12 ms``, ``3.4 s``, ``17 min``, ``2.1 h``, ``40 d``."""
    if seconds is None:
        return "–"
    for limit, size, unit in ((0.9995, 0.001, "ms"), (99.5, 1.0, "s"), (5400.0, 60.0, "min"), (172800.0, 3600.0, "h")):
        if seconds < limit:
            return f"{_figure(seconds / size)} {unit}"
    return f"{_figure(seconds / 86400.0)} d"


def _figure(number: float) -> str:
    return f"{number:.1f}" if 0.0 < number < 9.95 else f"{number:.0f}"


def age(moment: str | None, now: datetime | None = None) -> str:
    """Return how long ago a moment (ISO 8601) was, or in how long it will be."""
    if not moment:
        return "–"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    return duration(seconds) if seconds >= 0 else f"in {duration(-seconds)}"


def ran(row: Mapping[str, Any]) -> str:
    """Return how long the last attempt of a task took, or has taken; nothing when it has not started."""
    if not row["claimed_at"]:
        return ""
    end = datetime.fromisoformat(row["completed_at"]) if row["completed_at"] else datetime.now(UTC)
    return duration(max((end - datetime.fromisoformat(row["claimed_at"])).total_seconds(), 0.0))


def clock(moment: str | None) -> str:
    """Return a moment (ISO 8601) in UTC to the second."""
    if not moment:
        return "–"
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def share(value: float | None) -> str:
    """Return a share as a percentage."""
    return "–" if value is None else f"{100.0 * value:.1f} %"


def rate(per_second: float | None) -> str:
    """Return a rate with the unit that makes it readable."""
    if per_second is None:
        return "–"
    return f"{per_second:.1f}/s" if per_second >= 1.0 else f"{60.0 * per_second:.1f}/min"


def progress(row: Mapping[str, Any]) -> str:
    """Return how far a task is, as far as it has told."""
    value = row.get("progress")
    return "" if value is None else f"{100.0 * value:.0f} %"


def plain(value: Any) -> str:
    """Return a value on one line: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
