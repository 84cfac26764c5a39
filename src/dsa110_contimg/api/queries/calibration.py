"""Statements on calibration tables."""

from sqlalchemy import bindparam, or_, select

from dsa110_contimg.api.column_kinds import Number
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import CalibrationTableRecord
from dsa110_contimg.api.queries.decoding import (
    ask,
    counting,
    every,
    first,
    paged,
    record_columns,
    record_reader,
    row_number,
    value,
)
from dsa110_contimg.api.queries.listing import ListQuery
from dsa110_contimg.api.tables import caltables, ms_index

_COLUMNS = record_columns(CalibrationTableRecord, caltables)
_read = record_reader(CalibrationTableRecord, _COLUMNS)
_SELECT = select(*_COLUMNS)
_APPLIED = (caltables.c.order_index, caltables.c.path)
_MJD = bindparam("mjd", type_=Number)

_BY_PATH = Statement(_SELECT.where(caltables.c.path == bindparam("path")))
_BY_NUMBER = Statement(_SELECT.where(caltables.c.id == bindparam("id")))
_ALL = paged(_SELECT.order_by(caltables.c.created_at.desc(), caltables.c.path))
_SOLVED_FROM = Statement(_SELECT.where(caltables.c.source_ms_path == bindparam("ms_path")).order_by(*_APPLIED))
_MID_TIME = Statement(select(ms_index.c.mid_mjd).where(ms_index.c.path == bindparam("ms_path")))
_VALID = (
    caltables.c.status == "active",
    or_(caltables.c.valid_start_mjd.is_(None), caltables.c.valid_start_mjd <= _MJD),
    or_(caltables.c.valid_end_mjd.is_(None), caltables.c.valid_end_mjd >= _MJD),
)
_NEWEST_SET = (
    select(caltables.c.set_name)
    .where(*_VALID)
    .order_by(caltables.c.created_at.desc(), caltables.c.set_name.desc())
    .limit(1)
    .scalar_subquery()
)
_ACTIVE = Statement(_SELECT.where(*_VALID, caltables.c.set_name == _NEWEST_SET).order_by(*_APPLIED))
_COUNT = counting(caltables)
_SHOWN = (
    "id", "path", "table_type", "set_name", "order_index", "cal_field", "refant", "created_at", "valid_start_mjd",
    "valid_end_mjd", "source_ms_path", "status",
)  # fmt: skip
LIST = ListQuery(
    "caltables",
    {name: caltables.c[name] for name in _SHOWN},
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
    own: list[CalibrationTableRecord] = yield Query(_SOLVED_FROM, {"ms_path": ms_path}, every(_read), prompt=True)
    return [table for table in own if table.status == "active"]


def matches(ms_path: str) -> Steps[list[CalibrationTableRecord]]:
    """Read the tables of a Measurement Set: those solved from it, else the active set of its mid time."""
    usable = yield from solved_from(ms_path)
    if usable:
        return usable
    mjd = yield Query(_MID_TIME, {"ms_path": ms_path}, value, prompt=True)
    return [] if mjd is None else (yield from active(mjd))


def count() -> Steps[int]:
    """Count the tables."""
    return ask(Query(_COUNT, {}, value))
