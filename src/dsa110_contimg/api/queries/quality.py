"""Statements that keep what was measured on images and calibration tables; ``reports`` reads it.

A product has one row: what is measured again replaces what was measured before, so that a stage that runs a second time
leaves the same rows. ``job_id`` is the row of the run that made the Measurement Set; 0 when no run is known.
"""

from typing import Any

from sqlalchemy import Table, bindparam, delete, func, insert, select

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord
from dsa110_contimg.api.queries.decoding import as_given
from dsa110_contimg.api.queries.measurements import take_turn
from dsa110_contimg.api.queries.upserts import column_names, field_values
from dsa110_contimg.api.tables import calibration_qa, image_qa, jobs

_RUN = (
    select(jobs.c.id)
    .where(jobs.c.ms_path == bindparam("ms_path"))
    .order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
    .limit(1)
    .scalar_subquery()
)


def _adding(record: type[Any], table: Table) -> Statement:
    values = as_given(table.c[name] for name in column_names(record, table))
    return Statement(insert(table).values(**values, job_id=func.coalesce(_RUN, 0)))


_FORGET_IMAGE = Statement(delete(image_qa).where(image_qa.c.image_path == bindparam("image_path")))
_ADD_IMAGE = _adding(ImageQARecord, image_qa)
_FORGET_TABLES = Statement(delete(calibration_qa).where(calibration_qa.c.ms_path == bindparam("ms_path")))
_ADD_TABLES = _adding(CalibrationQARecord, calibration_qa)


def save_image(record: ImageQARecord) -> Steps[None]:
    """Keep what was measured on an image instead of what was measured before."""
    yield from take_turn()  # else the deletion would not see the row of who measures at the same time (PostgreSQL)
    yield Query(_FORGET_IMAGE, {"image_path": record.image_path})
    yield Query(_ADD_IMAGE, field_values(record))


def save_tables(record: CalibrationQARecord) -> Steps[None]:
    """Keep what was measured on the tables of a Measurement Set instead of what was measured before."""
    yield from take_turn()
    yield Query(_FORGET_TABLES, {"ms_path": record.ms_path})
    yield Query(_ADD_TABLES, field_values(record))
