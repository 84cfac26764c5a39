"""Statements on Measurement Sets."""

from sqlalchemy import bindparam, case, func, or_, select

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import IMAGED_STAGES, MeasurementSetRecord
from dsa110_contimg.api.queries import counts
from dsa110_contimg.api.queries.decoding import (
    ask,
    every,
    first,
    paged,
    record_columns,
    record_reader,
)
from dsa110_contimg.api.queries.listing import ListQuery
from dsa110_contimg.api.tables import images, ms_index

_COLUMNS = record_columns(MeasurementSetRecord, ms_index)
_read = record_reader(MeasurementSetRecord, _COLUMNS)
_SELECT = select(*_COLUMNS)

_BY_PATH = Statement(_SELECT.where(ms_index.c.path == bindparam("path")))
_BY_RUN = Statement(_SELECT.where(ms_index.c.run_id == bindparam("run_id")).order_by(ms_index.c.path).limit(1))
_BY_GROUP = Statement(
    _SELECT.where(ms_index.c.group_id == bindparam("group_id"))
    .order_by(ms_index.c.created_at.desc(), ms_index.c.path)
    .limit(1)
)
_ALL = paged(_SELECT.order_by(ms_index.c.mid_mjd.desc(), ms_index.c.path))
_IMAGE_GRADE = (
    select(images.c.qa_grade)
    .where(images.c.ms_path == ms_index.c.path, images.c.qa_grade.is_not(None), images.c.parent_id.is_(None))
    .order_by(images.c.created_at.desc(), images.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
#: The same verdict as ``services.qa_service.ms_grade`` gives.
_GRADE = func.coalesce(
    _IMAGE_GRADE,
    case(
        (ms_index.c.status == "failed", "fail"),
        (or_(*(ms_index.c.stage == stage for stage in sorted(IMAGED_STAGES))), "good"),
        (ms_index.c.stage == "calibrated", "warn"),
        else_="fail",
    ),
)
_SHOWN = (
    "path", "run_id", "pointing_ra_deg", "pointing_dec_deg", "missing_subbands", "group_id", "stage", "status",
    "start_mjd", "mid_mjd", "end_mjd", "field_name", "cal_applied", "flagged_fraction", "quality_note",
)  # fmt: skip
LIST = ListQuery(
    "ms_index",
    {
        "id": ms_index.c.group_id,
        "qa_grade": _GRADE,
        "created_at": ms_index.c.processed_at,
        **{name: ms_index.c[name] for name in _SHOWN},
    },
    key="path",
    order="-path",
    sortable=("mid_mjd",),
    bucket="stage",
)


def by_path(path: str) -> Steps[MeasurementSetRecord | None]:
    """Find a Measurement Set by its path."""
    return ask(Query(_BY_PATH, {"path": path}, first(_read), prompt=True))


def by_id(ms_id: str) -> Steps[MeasurementSetRecord | None]:
    """Find a Measurement Set by its path, or by its short id: the stamp of its group (the newest one of it)."""
    found: MeasurementSetRecord | None = yield Query(_BY_PATH, {"path": ms_id}, first(_read), prompt=True)
    if found is None and not ms_id.startswith("/"):
        found = yield Query(_BY_GROUP, {"group_id": ms_id}, first(_read), prompt=True)
    return found


def by_run(run_id: str) -> Steps[MeasurementSetRecord | None]:
    """Find the Measurement Set of a run."""
    return ask(Query(_BY_RUN, {"run_id": run_id}, first(_read), prompt=True))


def page(limit: int, offset: int) -> Steps[list[MeasurementSetRecord]]:
    """Read a part of all Measurement Sets, latest observation first."""
    return ask(Query(_ALL, {"limit": limit, "offset": offset}, every(_read)))


def count() -> Steps[int]:
    """Count the Measurement Sets."""
    return counts.total("ms_index")
