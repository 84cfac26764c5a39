"""Statements of reports on quality: a product together with what was measured on it, in one row."""

from typing import Any

from sqlalchemy import bindparam, select

from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import ImageRecord, JobRecord
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord
from dsa110_contimg.api.queries import measurement_sets, provenance
from dsa110_contimg.api.queries.calibration import first_match
from dsa110_contimg.api.queries.decoding import (
    every,
    first,
    record_columns,
    record_reader,
    row_number,
    side_by_side,
    value_of,
)
from dsa110_contimg.api.report_interfaces import ImageFacts, MSFacts, RunFacts
from dsa110_contimg.api.tables import calibration_qa, image_qa, images, jobs, ms_index

_IMAGE = record_columns(ImageRecord, images)
_JOB = record_columns(JobRecord, jobs)
_ON_IMAGE = record_columns(ImageQARecord, image_qa)
_ON_TABLES = record_columns(CalibrationQARecord, calibration_qa)
_read_image = record_reader(ImageRecord, _IMAGE)


def _newest(table: Any, condition: Any) -> Any:
    """Return the number of the newest row that fulfils a condition on another table's row."""
    return (
        select(table.c.id).where(condition).order_by(table.c.timestamp.desc(), table.c.id.desc()).limit(1)
    ).scalar_subquery()


_of_image, _of_tables = image_qa.alias("of_image"), calibration_qa.alias("of_tables")
_IMAGE_FACTS = Statement(
    select(*_IMAGE, *_ON_IMAGE)
    .select_from(
        images.outerjoin(image_qa, image_qa.c.id == _newest(_of_image, _of_image.c.image_path == images.c.path))
    )
    .where(images.c.id == bindparam("id"))
)
_read_image_facts = side_by_side((_read_image, len(_IMAGE)), (record_reader(ImageQARecord, _ON_IMAGE), len(_ON_IMAGE)))

_MS_FACTS = measurement_sets.OneSet(
    select(*measurement_sets.COLUMNS, *_IMAGE, *_ON_TABLES).select_from(
        ms_index.outerjoin(images, images.c.id == measurement_sets.ASSESSED_IMAGE.scalar_subquery()).outerjoin(
            calibration_qa, calibration_qa.c.id == _newest(_of_tables, _of_tables.c.ms_path == ms_index.c.path)
        )
    ),
    side_by_side(
        (measurement_sets.READ, len(measurement_sets.COLUMNS)),
        (_read_image, len(_IMAGE)),
        (record_reader(CalibrationQARecord, _ON_TABLES), len(_ON_TABLES)),
    ),
)

_RUN_FACTS = Statement(
    select(*_JOB, first_match(jobs.c.ms_path, ms_index.c.mid_mjd).label("cal_table"))
    .select_from(jobs.outerjoin(ms_index, ms_index.c.path == jobs.c.ms_path))
    .where(jobs.c.run_id == bindparam("run_id"))
)
_read_run = side_by_side((record_reader(JobRecord, _JOB), len(_JOB)), (value_of, 1))
_IMAGES_OF_RUN = Statement(
    select(*_IMAGE)
    .where(images.c.ms_path == bindparam("ms_path"), images.c.run_id == bindparam("run_id"))
    .order_by(images.c.created_at.desc(), images.c.id.desc())
)


def of_image(image_id: str) -> Steps[ImageFacts | None]:
    """Find an image by its id, with what was last measured on it."""
    number = row_number(image_id)
    if number is None:
        return None
    found = yield Query(_IMAGE_FACTS, {"id": number}, first(_read_image_facts), prompt=True)
    return found and ImageFacts(*found)


def of_ms(ms_id: str) -> Steps[MSFacts | None]:
    """Find a Measurement Set by its path or short id, with its newest assessed image and all that was measured."""
    found = yield from _MS_FACTS.by_id(ms_id)
    if found is None:
        return None
    ms, image, measured = found
    return MSFacts(ms, image, measured, (yield from provenance.summaries(ms.run_id)) if ms.run_id else ())


def of_run(run_id: str) -> Steps[RunFacts | None]:
    """Find a run by exactly its id, with its images and what its stages told."""
    found = yield Query(_RUN_FACTS, {"run_id": run_id}, first(_read_run), prompt=True)
    if found is None:
        return None
    job, cal_table = found
    params = {"ms_path": job.ms_path, "run_id": run_id}
    made = yield Query(_IMAGES_OF_RUN, params, every(_read_image), prompt=True)
    return RunFacts(job, cal_table, made, (yield from provenance.summaries(run_id)))
