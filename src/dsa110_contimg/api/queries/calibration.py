"""Statements on calibration tables."""

from typing import Any

from sqlalchemy import Text, bindparam, cast, literal_column, or_, select, union_all
from sqlalchemy.sql import ColumnElement, CompoundSelect, Select

from dsa110_contimg.api.column_kinds import Number
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import CalibrationTableRecord
from dsa110_contimg.api.queries import counts
from dsa110_contimg.api.queries.decoding import (
    ask,
    every,
    first,
    paged,
    record_columns,
    record_reader,
    row_number,
)
from dsa110_contimg.api.queries.listing import ListQuery
from dsa110_contimg.api.tables import caltables, ms_index

Value = ColumnElement[Any]

_COLUMNS = record_columns(CalibrationTableRecord, caltables)
_read = record_reader(CalibrationTableRecord, _COLUMNS)
_SELECT = select(*_COLUMNS)
_APPLIED = (caltables.c.order_index, caltables.c.path)

_BY_PATH = Statement(_SELECT.where(caltables.c.path == bindparam("path")))
_BY_NUMBER = Statement(_SELECT.where(caltables.c.id == bindparam("id")))
_ALL = paged(_SELECT.order_by(caltables.c.created_at.desc(), caltables.c.path))
_MS_PATH = bindparam("ms_path", type_=Text)
_MID_TIME = select(ms_index.c.mid_mjd).where(ms_index.c.path == _MS_PATH).scalar_subquery()


def _solved_from(ms_path: Value, *columns: Value) -> Select[Any]:
    """Return what selects the active tables that were solved from a Measurement Set."""
    return select(*columns).where(caltables.c.source_ms_path == ms_path, caltables.c.status == "active")


def _active(mjd: Value, *columns: Value) -> Select[Any]:
    """Return what selects the newest active set that is valid at a time."""
    valid = (
        caltables.c.status == "active",
        or_(caltables.c.valid_start_mjd.is_(None), caltables.c.valid_start_mjd <= mjd),
        or_(caltables.c.valid_end_mjd.is_(None), caltables.c.valid_end_mjd >= mjd),
        mjd.is_not(None),
    )
    newest = (caltables.c.created_at.desc(), caltables.c.set_name.desc())
    chosen = select(caltables.c.set_name).where(*valid).order_by(*newest).limit(1).correlate_except(caltables)
    return select(*columns).where(*valid, caltables.c.set_name == chosen.scalar_subquery())


def _matches(ms_path: Value, mid_mjd: Value, *columns: Value) -> CompoundSelect[Any]:
    """Return what selects the tables of a Measurement Set: those solved from it, else the active set of its time."""
    own = _solved_from(ms_path, caltables.c.id).correlate_except(caltables)
    parts = (_solved_from(ms_path, *columns), _active(mid_mjd, *columns).where(~own.exists()))
    return union_all(*(part.correlate_except(caltables) for part in parts))


def first_match(ms_path: Value, mid_mjd: Value) -> Value:
    """Return the path of the table that is applied first to the Measurement Set of another statement's row."""
    tables = _matches(ms_path, mid_mjd, *_APPLIED).subquery()
    return select(tables.c.path).order_by(*(tables.c[column.name] for column in _APPLIED)).limit(1).scalar_subquery()


_SOLVED_FROM = Statement(_solved_from(_MS_PATH, *_COLUMNS).order_by(*_APPLIED))
_ACTIVE = Statement(_active(bindparam("mjd", type_=Number), *_COLUMNS).order_by(*_APPLIED))
_MATCHES = Statement(
    _matches(_MS_PATH, _MID_TIME, *_COLUMNS).order_by(*(literal_column(column.name) for column in _APPLIED))
)
_SHOWN = (
    "id", "path", "table_type", "set_name", "order_index", "cal_field", "refant", "created_at", "valid_start_mjd",
    "valid_end_mjd", "source_ms_path", "status",
)  # fmt: skip
LIST = ListQuery(
    "caltables",
    {name: caltables.c[name] for name in _SHOWN} | {"id": cast(caltables.c.id, Text)},
    key="path",
    order="-created_at",
    sortable=("path",),
    bucket="status",
)


def by_id(table_id: str) -> Steps[CalibrationTableRecord | None]:
    """Find a table by its path, or by the number of its row."""
    number = row_number(table_id)
    if number is not None:
        return ask(Query(_BY_NUMBER, {"id": number}, first(_read), prompt=True))
    return ask(Query(_BY_PATH, {"path": table_id}, first(_read), prompt=True))


def page(limit: int, offset: int) -> Steps[list[CalibrationTableRecord]]:
    """Read a part of all tables, newest first."""
    return ask(Query(_ALL, {"limit": limit, "offset": offset}, every(_read)))


def active(mjd: float) -> Steps[list[CalibrationTableRecord]]:
    """Read the newest active set that is valid at a time, in the order of application."""
    return ask(Query(_ACTIVE, {"mjd": mjd}, every(_read), prompt=True))


def solved_from(ms_path: str) -> Steps[list[CalibrationTableRecord]]:
    """Read the active tables that were solved from a Measurement Set, in the order of application."""
    return ask(Query(_SOLVED_FROM, {"ms_path": ms_path}, every(_read), prompt=True))


def matches(ms_path: str) -> Steps[list[CalibrationTableRecord]]:
    """Read the tables of a Measurement Set: those solved from it, else the active set of its mid time."""
    return ask(Query(_MATCHES, {"ms_path": ms_path}, every(_read), prompt=True))


def count() -> Steps[int]:
    """Count the tables."""
    return counts.total("caltables")
