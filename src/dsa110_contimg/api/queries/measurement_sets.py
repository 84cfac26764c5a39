"""Statements on Measurement Sets."""

from sqlalchemy import bindparam, select

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import MeasurementSetRecord
from dsa110_contimg.api.queries.decoding import (
    ask,
    counting,
    every,
    first,
    paged,
    record_columns,
    record_reader,
    value,
)
from dsa110_contimg.api.tables import ms_index

_COLUMNS = record_columns(MeasurementSetRecord, ms_index)
_read = record_reader(MeasurementSetRecord, _COLUMNS)
_SELECT = select(*_COLUMNS)

_BY_PATH = Statement(_SELECT.where(ms_index.c.path == bindparam("path")))
_BY_RUN = Statement(_SELECT.where(ms_index.c.run_id == bindparam("run_id")).order_by(ms_index.c.path).limit(1))
_ALL = paged(_SELECT.order_by(ms_index.c.mid_mjd.desc(), ms_index.c.path))
_COUNT = counting(ms_index)


def by_path(path: str) -> Steps[MeasurementSetRecord | None]:
    """Find a Measurement Set by its path."""
    return ask(Query(_BY_PATH, {"path": path}, first(_read)))


def by_run(run_id: str) -> Steps[MeasurementSetRecord | None]:
    """Find the Measurement Set of a run."""
    return ask(Query(_BY_RUN, {"run_id": run_id}, first(_read)))


def page(limit: int, offset: int) -> Steps[list[MeasurementSetRecord]]:
    """Read a part of all Measurement Sets, latest observation first."""
    return ask(Query(_ALL, {"limit": limit, "offset": offset}, every(_read)))


def count() -> Steps[int]:
    """Count the Measurement Sets."""
    return ask(Query(_COUNT, {}, value))
