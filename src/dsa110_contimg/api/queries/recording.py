"""Statements that keep what a finished stage says: upserts by natural keys, all in one transaction.

Rows are written in the order of their keys, so that two writers that touch the same rows wait for each other in the
same order and cannot deadlock.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table, bindparam, case, delete, func, select, update
from sqlalchemy.sql import ClauseElement, ColumnElement

from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import (
    CalibrationTableRecord,
    ImageRecord,
    JobRecord,
    MeasurementSetRecord,
    PhotometryRecord,
    ProductFile,
    ProvenanceRecord,
    Recording,
    SourceRecord,
)
from dsa110_contimg.api.queries.decoding import value
from dsa110_contimg.api.tables import (
    caltables,
    images,
    jobs,
    ms_index,
    photometry,
    provenance,
    provenance_files,
    sources,
)

Rules = Callable[[Any], Mapping[str, ColumnElement[Any]]]
"""From an upsert's ``excluded`` (the row that was to be inserted) to the values of particular columns."""


def _no_rules(new: Any) -> Mapping[str, ColumnElement[Any]]:
    return {}


def _upsert(
    table: Table, keys: Sequence[str], columns: Iterable[str], rules: Rules = _no_rules, returning: str | None = None
) -> Statement:
    """Return the statement that inserts a row, or updates the one of the same ``keys``.

    An update takes the new value of a column unless that is NULL, or what ``rules`` say.
    """
    names = list(columns)

    def build(insert: Callable[..., Any]) -> ClauseElement:
        statement = insert(table).values({name: bindparam(name, type_=table.c[name].type) for name in names})
        new = statement.excluded
        known = {name: func.coalesce(new[name], table.c[name]) for name in names if name not in keys}
        statement = statement.on_conflict_do_update(index_elements=list(keys), set_={**known, **rules(new)})
        built: ClauseElement = statement.returning(table.c[returning]) if returning else statement
        return built

    return Statement(build)


def _names(record: type[Any], table: Table) -> list[str]:
    return [item.name for item in dataclasses.fields(record) if item.name in table.c and item.name != "id"]


def _fields(record: Any) -> dict[str, Any]:
    """Return the fields of a record as parameters; an empty mapping has nothing to say."""
    values = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    return {name: None if isinstance(given, Mapping) and not given else given for name, given in values.items()}


# --- runs ---------------------------------------------------------------------------------------------------------


def _job_rules(new: Any) -> Mapping[str, ColumnElement[Any]]:
    open_ended = (new.status == "pending") | (new.status == "running")
    return {
        # A job that did not say when it was ordered was inserted with the time of now; the first time stays.
        "created_at": func.coalesce(bindparam("said_created_at", type_=jobs.c.created_at.type), jobs.c.created_at),
        "finished_at": case((open_ended, new.finished_at), else_=func.coalesce(new.finished_at, jobs.c.finished_at)),
        "error": case((new.status == "failed", func.coalesce(new.error, jobs.c.error)), else_=new.error),
    }


_JOB = _upsert(jobs, ["run_id"], _names(JobRecord, jobs), _job_rules)


def save_job(job: JobRecord) -> Steps[None]:
    """Keep a run."""
    ordered = time.time() if job.created_at is None else job.created_at
    yield Query(_JOB, {**_fields(job), "created_at": ordered, "said_created_at": job.created_at})


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


_MS = _upsert(ms_index, ["path"], [*_names(MeasurementSetRecord, ms_index), *_MS_EXTRA], _ms_rules)


def _save_ms(record: MeasurementSetRecord) -> Steps[None]:
    now = time.time()
    said = record.missing_subbands or record.stage == "converted"
    yield Query(
        _MS,
        {
            **_fields(record),
            "missing_subbands": record.missing_subbands if said else None,
            "ra_deg": record.pointing_ra_deg,
            "dec_deg": record.pointing_dec_deg,
            "stage_updated_at": now,
            "created_at": now,
        },
    )


# --- calibration tables and images --------------------------------------------------------------------------------

_CALTABLE = _upsert(caltables, ["path"], _names(CalibrationTableRecord, caltables))


def _image_rules(new: Any) -> Mapping[str, ColumnElement[Any]]:
    return {"pbcor": case((new.pbcor == 1, 1), else_=images.c.pbcor)}


_IMAGE = _upsert(images, ["path"], _names(ImageRecord, images), _image_rules)


def _save_caltables(records: Sequence[CalibrationTableRecord]) -> Steps[None]:
    ordered = sorted(records, key=lambda record: record.path)
    yield Query(_CALTABLE, many=[_fields(record) for record in ordered])


# --- sources and measurements -------------------------------------------------------------------------------------

_SOURCE = _upsert(sources, ["id"], ["id", *_names(SourceRecord, sources)])
_PHOTOMETRY = _upsert(photometry, ["source_id", "image_path"], _names(PhotometryRecord, photometry))
_MEASURED = Statement(select(photometry.c.source_id).where(photometry.c.image_path == bindparam("image_path")))
_FORGET = Statement(
    delete(photometry).where(
        photometry.c.source_id == bindparam("gone_source_id"), photometry.c.image_path == bindparam("gone_image_path")
    )
)
_OF_SOURCE = photometry.c.source_id == bindparam("source_id")
_ADD_UP = Statement(
    update(sources)
    .where(sources.c.id == bindparam("source_id"))
    .values(
        detection_count=select(func.count()).select_from(photometry).where(_OF_SOURCE).scalar_subquery(),
        first_detected_mjd=select(func.min(photometry.c.mjd)).where(_OF_SOURCE).scalar_subquery(),
        last_detected_mjd=select(func.max(photometry.c.mjd)).where(_OF_SOURCE).scalar_subquery(),
    )
)


def _save_sources(records: Sequence[SourceRecord]) -> Steps[None]:
    ordered = sorted(records, key=lambda record: record.id)
    yield Query(_SOURCE, many=[{**_fields(record), "ra_deg": record.ra_deg % 360.0} for record in ordered])


def _first_column(rows: Sequence[Row]) -> set[str]:
    return {row[0] for row in rows}


def _save_photometry(records: Sequence[PhotometryRecord]) -> Steps[None]:
    """Keep the measurements of one or more images; earlier ones of these images that are not among them go."""
    by_image: dict[str, list[PhotometryRecord]] = {}
    for record in records:
        by_image.setdefault(record.image_path, []).append(record)
    changed: set[str] = set()
    for path, measured in sorted(by_image.items()):
        earlier: set[str] = yield Query(_MEASURED, {"image_path": path}, _first_column)
        now = {record.source_id for record in measured}
        gone = [{"gone_source_id": name, "gone_image_path": path} for name in sorted(earlier - now)]
        yield Query(_FORGET, many=gone)
        changed |= earlier | now
    yield Query(_PHOTOMETRY, many=[_fields(each) for each in sorted(records, key=lambda each: each.source_id)])
    yield Query(_ADD_UP, many=[{"source_id": name} for name in sorted(changed)])


# --- provenance ---------------------------------------------------------------------------------------------------

_PROVENANCE_NAMES = _names(ProvenanceRecord, provenance)
_PROVENANCE = _upsert(provenance, ["run_id", "stage"], _PROVENANCE_NAMES, returning="id")
_OF_STAGE = provenance_files.c.provenance_id == bindparam("stage_id")
_USED = Statement(select(provenance_files.c.path, provenance_files.c.role).where(_OF_STAGE))
_UNUSED = Statement(
    delete(provenance_files).where(
        _OF_STAGE,
        provenance_files.c.path == bindparam("gone_path"),
        provenance_files.c.role == bindparam("gone_role"),
    )
)
_FILE = _upsert(
    provenance_files,
    ["provenance_id", "path", "role"],
    ["provenance_id", *_names(ProductFile, provenance_files)],
)


def _pairs(rows: Sequence[Row]) -> set[tuple[str, str]]:
    return {(row[0], row[1]) for row in rows}


def _save_provenance(record: ProvenanceRecord) -> Steps[None]:
    given = {**_fields(record), "params": record.params, "summary": record.summary}
    number = yield Query(_PROVENANCE, given, value)
    earlier: set[tuple[str, str]] = yield Query(_USED, {"stage_id": number}, _pairs)
    gone = sorted(earlier - {(file.path, file.role) for file in record.files})
    yield Query(_UNUSED, many=[{"stage_id": number, "gone_path": path, "gone_role": role} for path, role in gone])
    files = sorted(record.files, key=lambda file: (file.role, file.path))
    yield Query(_FILE, many=[{"provenance_id": number, **_fields(file)} for file in files])


# --- all of it ----------------------------------------------------------------------------------------------------


def record(recording: Recording) -> Steps[None]:
    """Keep all parts of a recording."""
    if recording.job is not None:
        yield from save_job(recording.job)
    if recording.measurement_set is not None:
        yield from _save_ms(recording.measurement_set)
    yield from _save_caltables(recording.calibration_tables)
    if recording.image is not None:
        yield Query(_IMAGE, _fields(recording.image))
    yield from _save_sources(recording.sources)
    yield from _save_photometry(recording.photometry)
    if recording.provenance is not None:
        yield from _save_provenance(recording.provenance)
