"""Statements on runs."""

from sqlalchemy import bindparam, select

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import JobRecord
from dsa110_contimg.api.queries import counts
from dsa110_contimg.api.queries.decoding import (
    ask,
    every,
    first,
    paged,
    record_columns,
    record_reader,
    value,
)
from dsa110_contimg.api.queries.listing import ListQuery
from dsa110_contimg.api.tables import jobs

_COLUMNS = record_columns(JobRecord, jobs)
_read = record_reader(JobRecord, _COLUMNS)
_SELECT = select(*_COLUMNS)

_BY_RUN = Statement(_SELECT.where(jobs.c.run_id == bindparam("run_id")))
_STATUS = Statement(select(jobs.c.status).where(jobs.c.run_id == bindparam("run_id")))
_ALL = paged(_SELECT.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()))
_SHOWN = ("run_id", "status", "started_at", "finished_at", "created_at", "group_id", "error")
LIST = ListQuery(
    "jobs",
    {name: jobs.c[name] for name in _SHOWN},
    key="number",
    order="-created_at",
    sortable=("started_at", "finished_at"),
    more={"number": jobs.c.id, "ms_path": jobs.c.ms_path, "workflow_id": jobs.c.workflow_id},
    bucket="status",
)


def by_run(run_id: str) -> Steps[JobRecord | None]:
    """Find a run by exactly this id."""
    return ask(Query(_BY_RUN, {"run_id": run_id}, first(_read), prompt=True))


def status_of(run_id: str) -> Steps[str | None]:
    """Find the state of a run by exactly this id."""
    return ask(Query(_STATUS, {"run_id": run_id}, value, prompt=True))


def page(limit: int, offset: int) -> Steps[list[JobRecord]]:
    """Read a part of all runs, newest first."""
    return ask(Query(_ALL, {"limit": limit, "offset": offset}, every(_read)))


def count() -> Steps[int]:
    """Count the runs."""
    return counts.total("jobs")
