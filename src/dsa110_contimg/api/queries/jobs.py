"""Statements on runs."""

from sqlalchemy import bindparam, select

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import JobRecord
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
from dsa110_contimg.api.tables import jobs

_COLUMNS = record_columns(JobRecord, jobs)
_read = record_reader(JobRecord, _COLUMNS)
_SELECT = select(*_COLUMNS)

_BY_RUN = Statement(_SELECT.where(jobs.c.run_id == bindparam("run_id")))
_ALL = paged(_SELECT.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()))
_COUNT = counting(jobs)


def by_run(run_id: str) -> Steps[JobRecord | None]:
    """Find a run by exactly this id."""
    return ask(Query(_BY_RUN, {"run_id": run_id}, first(_read)))


def page(limit: int, offset: int) -> Steps[list[JobRecord]]:
    """Read a part of all runs, newest first."""
    return ask(Query(_ALL, {"limit": limit, "offset": offset}, every(_read)))


def count() -> Steps[int]:
    """Count the runs."""
    return ask(Query(_COUNT, {}, value))
