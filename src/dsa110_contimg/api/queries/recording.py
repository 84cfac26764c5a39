"""Statements that keep what a finished stage says: upserts by natural keys, all in one transaction.

Rows are written in the order of their keys, so that two writers that touch the same rows wait for each other in the
same order and cannot deadlock.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, case, delete, func, null, select, update
from sqlalchemy.sql import ColumnElement

from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.exceptions import InvalidRecordError
from dsa110_contimg.api.interfaces import (
    CalibrationTableRecord,
    ImageRecord,
    JobRecord,
    MeasurementSetRecord,
    ProductFile,
    ProvenanceRecord,
    Recording,
    SourceRecord,
)
from dsa110_contimg.api.queries import measurements, observations, quality
from dsa110_contimg.api.queries.decoding import value
from dsa110_contimg.api.queries.sources import near
from dsa110_contimg.api.queries.upserts import column_names, field_values, upsert
from dsa110_contimg.api.tables import (
    caltables,
    images,
    jobs,
    ms_index,
    provenance,
    provenance_files,
    sources,
    work_orders,
)
from dsa110_contimg.pipeline.crossmatch import separation_deg

# --- runs ---------------------------------------------------------------------------------------------------------


def _job_rules(new: Any) -> Mapping[str, ColumnElement[Any]]:
    open_ended = (new.status == "pending") | (new.status == "running")
    return {
        # A job that did not say when it was ordered was inserted with the time of now; the first time stays.
        "created_at": func.coalesce(bindparam("said_created_at", type_=jobs.c.created_at.type), jobs.c.created_at),
        "finished_at": case((open_ended, new.finished_at), else_=func.coalesce(new.finished_at, jobs.c.finished_at)),
        "error": case((new.status == "failed", func.coalesce(new.error, jobs.c.error)), else_=new.error),
    }


_JOB = upsert(jobs, ["run_id"], column_names(JobRecord, jobs), _job_rules)


_REOPEN = Statement(
    update(work_orders)
    .where(
        work_orders.c.run_id == bindparam("resumed_run"),
        work_orders.c.target == "absurd",
        work_orders.c.status == "failed",
    )
    .values(status="sent", ended_at=null(), result=null(), error=null())
)


def save_job(job: JobRecord) -> Steps[None]:
    """Keep a run; the order of one that goes on again, because a stage is tried again, is open again."""
    ordered = time.time() if job.created_at is None else job.created_at
    yield Query(_JOB, {**field_values(job), "created_at": ordered, "said_created_at": job.created_at})
    if job.status == "running":
        yield Query(_REOPEN, {"resumed_run": job.run_id})
    yield from observations.settle_run(job.run_id)


_CAME_TO_NOTHING = Statement(
    select(jobs.c.run_id).where(
        jobs.c.run_id == bindparam("run_id"), jobs.c.status == "failed",
        jobs.c.finished_at < bindparam("before_s", type_=jobs.c.finished_at.type),
        ~select(images.c.id).where(images.c.run_id == jobs.c.run_id).exists(),
    )
)  # fmt: skip


def came_to_nothing(run_ids: Sequence[str], before_s: float) -> Steps[list[str]]:
    """Find out which of these runs failed before a time and have no image."""
    found = []
    for run_id in run_ids:
        if (yield Query(_CAME_TO_NOTHING, {"run_id": run_id, "before_s": before_s}, value)) is not None:
            found.append(run_id)
    return found


# --- Measurement Sets ---------------------------------------------------------------------------------------------

_MS_EXTRA = ("ra_deg", "dec_deg", "stage_updated_at", "created_at")


def _ms_rules(new: Any) -> Mapping[str, ColumnElement[Any]]:
    is_new = new.stage == "converted"
    old = ms_index.c
    return {
        "created_at": old.created_at,
        "stage_updated_at": case(
            (old.stage.is_distinct_from(new.stage), new.stage_updated_at), else_=old.stage_updated_at
        ),
        "cal_applied": case((is_new, new.cal_applied), (new.cal_applied == 1, 1), else_=old.cal_applied),
    }


_MS = upsert(ms_index, ["path"], [*column_names(MeasurementSetRecord, ms_index), *_MS_EXTRA], _ms_rules)


def _save_ms(record: MeasurementSetRecord) -> Steps[None]:
    now = time.time()
    said = record.missing_subbands or record.stage == "converted"
    yield Query(
        _MS,
        {
            **field_values(record),
            "missing_subbands": record.missing_subbands if said else None,
            "ra_deg": record.pointing_ra_deg,
            "dec_deg": record.pointing_dec_deg,
            "stage_updated_at": now,
            "created_at": now,
        },
    )


# --- calibration tables and images --------------------------------------------------------------------------------

_CALTABLE = upsert(caltables, ["path"], column_names(CalibrationTableRecord, caltables))


def _image_rules(new: Any) -> Mapping[str, ColumnElement[Any]]:
    return {"pbcor": case((new.pbcor == 1, 1), else_=images.c.pbcor)}


_IMAGE = upsert(images, ["path"], column_names(ImageRecord, images), _image_rules)


_PARENT = Statement(
    select(images.c.id).where(
        images.c.id == bindparam("of_image", type_=images.c.id.type), images.c.ms_path == bindparam("of_ms")
    )
)


def _save_image(image: ImageRecord) -> Steps[None]:
    if image.parent_id is not None:
        parent = yield Query(_PARENT, {"of_image": image.parent_id, "of_ms": image.ms_path}, value)
        if parent is None:  # its number may be another image's by now
            raise InvalidRecordError(f"image {image.parent_id}, of which {image.path} is a version, was deleted")
    yield Query(_IMAGE, field_values(image))


def _save_caltables(records: Sequence[CalibrationTableRecord]) -> Steps[None]:
    ordered = sorted(records, key=lambda record: record.path)
    yield Query(_CALTABLE, many=[field_values(record) for record in ordered])


# --- sources and measurements -------------------------------------------------------------------------------------

_SOURCE = upsert(sources, ["id"], ["id", *column_names(SourceRecord, sources)])


def _save_sources(records: Sequence[SourceRecord]) -> Steps[None]:
    ordered = sorted(records, key=lambda record: record.id)
    yield Query(_SOURCE, many=[{**field_values(record), "ra_deg": record.ra_deg % 360.0} for record in ordered])


def _identified(recording: Recording) -> Steps[Recording]:
    """Call the sources that are known already by the names under which they are known."""
    if not recording.sources or not recording.same_source_deg:
        return recording
    yield from measurements.take_turn()  # from here on nobody else records any
    close: list[tuple[bool, float, str, str]] = []
    for source in recording.sources:
        for known in (yield from near(source.ra_deg, source.dec_deg, recording.same_source_deg)):
            away_deg = separation_deg(source.ra_deg, source.dec_deg, known.ra_deg, known.dec_deg)
            close.append((source.id != known.id, away_deg, source.id, known.id))
    names: dict[str, str] = {}
    for _, _, found, name in sorted(close):
        if found not in names and name not in names.values():
            names[found] = name
    return replace(
        recording,
        sources=tuple(source for source in recording.sources if source.id not in names),
        photometry=tuple(
            replace(each, source_id=names.get(each.source_id, each.source_id)) for each in recording.photometry
        ),
    )


# --- provenance ---------------------------------------------------------------------------------------------------

_PROVENANCE_NAMES = column_names(ProvenanceRecord, provenance)
_PROVENANCE = upsert(provenance, ["run_id", "stage"], _PROVENANCE_NAMES, returning="id")
_OF_STAGE = provenance_files.c.provenance_id == bindparam("stage_id")
_USED = Statement(select(provenance_files.c.path, provenance_files.c.role).where(_OF_STAGE))
_UNUSED = Statement(
    delete(provenance_files).where(
        _OF_STAGE,
        provenance_files.c.path == bindparam("gone_path"),
        provenance_files.c.role == bindparam("gone_role"),
    )
)
_FILE = upsert(
    provenance_files,
    ["provenance_id", "path", "role"],
    ["provenance_id", *column_names(ProductFile, provenance_files)],
)


def _pairs(rows: Sequence[Row]) -> set[tuple[str, str]]:
    return {(row[0], row[1]) for row in rows}


def _save_provenance(record: ProvenanceRecord) -> Steps[None]:
    given = {**field_values(record), "params": record.params, "summary": record.summary}
    number = yield Query(_PROVENANCE, given, value)
    earlier: set[tuple[str, str]] = yield Query(_USED, {"stage_id": number}, _pairs)
    gone = sorted(earlier - {(file.path, file.role) for file in record.files})
    yield Query(_UNUSED, many=[{"stage_id": number, "gone_path": path, "gone_role": role} for path, role in gone])
    files = sorted(record.files, key=lambda file: (file.role, file.path))
    yield Query(_FILE, many=[{"provenance_id": number, **field_values(file)} for file in files])


# --- all of it ----------------------------------------------------------------------------------------------------


def record(recording: Recording) -> Steps[None]:
    """Keep all parts of a recording."""
    recording = yield from _identified(recording)
    if recording.job is not None:
        yield from save_job(recording.job)
    if recording.measurement_set is not None:
        yield from _save_ms(recording.measurement_set)
    yield from _save_caltables(recording.calibration_tables)
    if recording.image is not None:
        yield from _save_image(recording.image)
    yield from _save_sources(recording.sources)
    measured = yield from measurements.save(recording.photometry)
    yield from observations.settle({*measured, *([recording.image.ms_path] if recording.image else ())})
    if recording.provenance is not None:
        yield from _save_provenance(recording.provenance)
    if recording.image_qa is not None:
        yield from quality.save_image(recording.image_qa)
    if recording.calibration_qa is not None:
        yield from quality.save_tables(recording.calibration_qa)
