"""Statements on Measurement Sets."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import bindparam, case, func, or_, select
from sqlalchemy.sql import Select

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import IMAGED_STAGES, MeasurementSetRecord
from dsa110_contimg.api.queries import counts
from dsa110_contimg.api.queries.calibration import first_match
from dsa110_contimg.api.queries.decoding import (
    ask,
    every,
    first,
    paged,
    record_columns,
    record_reader,
    value_of,
)
from dsa110_contimg.api.queries.listing import ListQuery
from dsa110_contimg.api.tables import images, ms_index

COLUMNS = record_columns(MeasurementSetRecord, ms_index)
READ = record_reader(MeasurementSetRecord, COLUMNS)
_SELECT = select(*COLUMNS)
#: The newest image that is no further version of another: those are trials of its parameters.
_own = images.alias("own")
_NEWEST_IMAGE = (
    select(_own.c.id)
    .where(_own.c.ms_path == ms_index.c.path, _own.c.parent_id.is_(None))
    .order_by(_own.c.created_at.desc(), _own.c.id.desc())
    .limit(1)
)
ASSESSED_IMAGE = _NEWEST_IMAGE.where(_own.c.qa_grade.is_not(None))
_IMAGE_GRADE = ASSESSED_IMAGE.with_only_columns(_own.c.qa_grade).scalar_subquery()
_ONE = (*COLUMNS, _IMAGE_GRADE.label("image_grade"), _NEWEST_IMAGE.scalar_subquery().label("image_id"))
_ORIGIN = (*_ONE, first_match(ms_index.c.path, ms_index.c.mid_mjd).label("cal_table"))


class OneSet:
    """The question for one Measurement Set by its path or its short id, with some columns.

    Parameters
    ----------
    selected : Select
        Of rows of ``ms_index``.
    read : callable
        Makes of a row what is asked for.
    """

    def __init__(self, selected: Select[Any], read: Callable[[Any], Any]) -> None:
        speaking = case((_NEWEST_IMAGE.where(_own.c.superseded_by.is_(None)).exists(), 0), else_=1)
        order = (speaking, ms_index.c.created_at.desc(), ms_index.c.path)
        self._by_path = Statement(selected.where(ms_index.c.path == bindparam("path")))
        self._by_group = Statement(
            selected.where(ms_index.c.group_id == bindparam("group_id")).order_by(*order).limit(1)
        )
        self._decode = first(read)

    def by_id(self, ms_id: str) -> Steps[Any]:
        """Find it by the path, or by the short id: the stamp of its group.

        Of several runs of an observation it is that of the run that speaks for it (`observations`), by its images;
        before there is an image, the newest. So a rerun that is under way or came out badly takes no place.
        """
        found = yield Query(self._by_path, {"path": ms_id}, self._decode, prompt=True)
        if found is None and not ms_id.startswith("/"):
            found = yield Query(self._by_group, {"group_id": ms_id}, self._decode, prompt=True)
        return found


_BY_ID = OneSet(select(*_ONE), record_reader(MeasurementSetRecord, _ONE))
_ORIGIN_BY_ID = OneSet(select(*_ORIGIN), record_reader(MeasurementSetRecord, _ORIGIN))
_PATH_BY_ID = OneSet(select(ms_index.c.path), value_of)
_BY_RUN = Statement(_SELECT.where(ms_index.c.run_id == bindparam("run_id")).order_by(ms_index.c.path).limit(1))
_ALL = paged(_SELECT.order_by(ms_index.c.mid_mjd.desc(), ms_index.c.path))
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


def by_id(ms_id: str) -> Steps[MeasurementSetRecord | None]:
    """Find a Measurement Set by its path or its short id, with its newest image and the verdict on it."""
    return _BY_ID.by_id(ms_id)


def origin(ms_id: str) -> Steps[MeasurementSetRecord | None]:
    """Find the same with the calibration table that is applied first."""
    return _ORIGIN_BY_ID.by_id(ms_id)


def path_of(ms_id: str) -> Steps[str | None]:
    """Find the path of the Measurement Set of a path or a short id."""
    return _PATH_BY_ID.by_id(ms_id)


def by_run(run_id: str) -> Steps[MeasurementSetRecord | None]:
    """Find the Measurement Set of a run."""
    return ask(Query(_BY_RUN, {"run_id": run_id}, first(READ), prompt=True))


def page(limit: int, offset: int) -> Steps[list[MeasurementSetRecord]]:
    """Read a part of all Measurement Sets, latest observation first."""
    return ask(Query(_ALL, {"limit": limit, "offset": offset}, every(READ)))


def count() -> Steps[int]:
    """Count the Measurement Sets."""
    return counts.total("ms_index")
