"""Statements on how products were made."""

from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, select

from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.interfaces import ProductFile, ProvenanceRecord, RunOrigin, StageSummary
from dsa110_contimg.api.queries.calibration import first_match
from dsa110_contimg.api.queries.decoding import ask, every, first, record_columns, record_reader
from dsa110_contimg.api.tables import images, jobs, ms_index, provenance, provenance_files

_COLUMNS = record_columns(ProvenanceRecord, provenance)
_read = record_reader(ProvenanceRecord, _COLUMNS)
_FILE_COLUMNS = record_columns(ProductFile, provenance_files)
_read_file = record_reader(ProductFile, _FILE_COLUMNS)
_ORDER = (provenance.c.started_at, provenance.c.id)

_USED = select(provenance_files.c.provenance_id).where(provenance_files.c.path == bindparam("path"))
_OF_RUN = provenance.c.run_id == bindparam("run_id")
_OF_FILE = provenance.c.id.in_(_USED)


def _stages(condition: Any) -> Statement:
    return Statement(select(provenance.c.id, *_COLUMNS).where(condition).order_by(*_ORDER))


def _files(condition: Any) -> Statement:
    chosen = select(provenance.c.id).where(condition)
    return Statement(
        select(provenance_files.c.provenance_id, *_FILE_COLUMNS)
        .where(provenance_files.c.provenance_id.in_(chosen))
        .order_by(provenance_files.c.id)
    )


_made = images.alias("made")
_IMAGE_OF_RUN = (
    select(_made.c.id)
    .where(_made.c.ms_path == jobs.c.ms_path, _made.c.run_id == jobs.c.run_id)
    .order_by(_made.c.created_at.desc(), _made.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
_RUN_COLUMNS = record_columns(
    RunOrigin,
    jobs,
    ms_index.c.pointing_ra_deg,
    ms_index.c.pointing_dec_deg,
    first_match(jobs.c.ms_path, ms_index.c.mid_mjd).label("cal_table"),
    images.c.id.label("image_id"),
    images.c.qa_grade,
    images.c.qa_summary,
)
_RUN = Statement(
    select(*_RUN_COLUMNS)
    .select_from(
        jobs.outerjoin(ms_index, ms_index.c.path == jobs.c.ms_path).outerjoin(images, images.c.id == _IMAGE_OF_RUN)
    )
    .where(jobs.c.run_id == bindparam("run_id"))
)
_read_run = record_reader(RunOrigin, _RUN_COLUMNS)

_SUMMARY_COLUMNS = record_columns(StageSummary, provenance)
_SUMMARIES = Statement(select(*_SUMMARY_COLUMNS).where(_OF_RUN).order_by(*_ORDER))
_read_summary = record_reader(StageSummary, _SUMMARY_COLUMNS)

_RUN_STAGES, _RUN_FILES = _stages(_OF_RUN), _files(_OF_RUN)
_FILE_STAGES, _FILE_FILES = _stages(_OF_FILE), _files(_OF_FILE)


def _numbered_stage(row: Row) -> tuple[int, ProvenanceRecord]:
    number, *values = row
    return number, _read(values)  # type: ignore[arg-type]


def _numbered_file(row: Row) -> tuple[int, ProductFile]:
    number, *values = row
    return number, _read_file(values)  # type: ignore[arg-type]


def _together(
    stages: Statement, files: Statement, params: dict[str, str], *, prompt: bool
) -> Steps[list[ProvenanceRecord]]:
    numbered: list[tuple[int, ProvenanceRecord]] = yield Query(stages, params, every(_numbered_stage), prompt=prompt)
    if not numbered:
        return []
    used: list[tuple[int, ProductFile]] = yield Query(files, params, every(_numbered_file), prompt=prompt)
    by_stage: dict[int, list[ProductFile]] = {}
    for number, file in used:
        by_stage.setdefault(number, []).append(file)
    return [replace(record, files=tuple(by_stage.get(number, ()))) for number, record in numbered]


def run_origin(run_id: str) -> Steps[RunOrigin | None]:
    """Find what the run of exactly this id used and made."""
    return ask(Query(_RUN, {"run_id": run_id}, first(_read_run), prompt=True))


def summaries(run_id: str) -> Steps[list[StageSummary]]:
    """Read what the stages of a run told of their products, in the order in which they began."""
    return ask(Query(_SUMMARIES, {"run_id": run_id}, every(_read_summary), prompt=True))


def for_run(run_id: str) -> Steps[list[ProvenanceRecord]]:
    """Read the stages of a run in the order in which they began."""
    return _together(_RUN_STAGES, _RUN_FILES, {"run_id": run_id}, prompt=True)


def for_file(path: str) -> Steps[list[ProvenanceRecord]]:
    """Read the stages that read or wrote a file; a calibration table is read by very many."""
    return _together(_FILE_STAGES, _FILE_FILES, {"path": path}, prompt=False)
