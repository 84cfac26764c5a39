"""Statements that read what triggers count: how often things happened."""

from collections.abc import Sequence

from sqlalchemy import select

from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.operation_records import EventCount, ProductFigures
from dsa110_contimg.api.queries import counts
from dsa110_contimg.api.tables import event_counts

_EVENTS = Statement(select(*event_counts.c).order_by(event_counts.c.name, event_counts.c.label))


def _read(rows: Sequence[Row]) -> tuple[EventCount, ...]:
    return tuple(EventCount(*row) for row in rows)


def figures() -> Steps[ProductFigures]:
    """Read how often things happened and how much there is."""
    happened: tuple[EventCount, ...] = yield Query(_EVENTS, {}, _read)
    return ProductFigures(happened, (yield from counts.counts()))
