"""Records as the API shows them: one function per reply of ``schemas``, pure, without a decision of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from dsa110_contimg.api.interfaces import (
    CalibrationTableRecord,
    ImageRecord,
    JobRecord,
    MeasurementSetRecord,
    ProductFile,
    ProvenanceRecord,
)
from dsa110_contimg.api.pages import Page
from dsa110_contimg.api.replies import iso_time, mjd_time, path_segment

View = dict[str, Any]

_IMAGE_NUMBERS = ("noise_jy", "dynamic_range", "peak_flux_jy", "beam_major_arcsec", "beam_minor_arcsec", "beam_pa_deg")
_IMAGE_FACTS = (
    "thermal_noise_jy", "pbcor", "format", "field_name", "imsize_x", "imsize_y", "cellsize_arcsec", "freq_ghz",
    "bandwidth_mhz", "integration_sec", "mid_mjd",
)  # fmt: skip
_MS_FACTS = (
    "group_id", "stage", "status", "start_mjd", "mid_mjd", "end_mjd", "field_name", "cal_applied", "flagged_fraction",
    "quality_note",
)  # fmt: skip
_CAMEL_CASE = {
    "run_id": "runId", "ms_path": "msPath", "cal_table": "calTable", "pointing_ra_deg": "pointingRaDeg",
    "pointing_dec_deg": "pointingDecDeg", "qa_grade": "qaGrade", "qa_summary": "qaSummary", "logs_url": "logsUrl",
    "qa_url": "qaUrl", "created_at": "createdAt",
}  # fmt: skip


def with_times(page: Page, *names: str) -> Page:
    """Return a page whose columns of Unix times are ISO 8601."""
    for name in names:
        if page.rows and name in page.rows[0]:
            for row in page.rows:
                row[name] = iso_time(row[name])
    return page


def image_item(image: ImageRecord) -> View:
    """Return one row of the list of images."""
    return {
        "id": str(image.id),
        "path": image.path,
        "qa_grade": image.qa_grade,
        "created_at": iso_time(image.created_at),
        "run_id": image.run_id,
        "type": image.type,
        "pointing_ra_deg": image.center_ra_deg,
        "pointing_dec_deg": image.center_dec_deg,
    } | {name: getattr(image, name) for name in _IMAGE_NUMBERS}


def image_detail(image: ImageRecord) -> View:
    """Return one image."""
    base = f"/api/v1/images/{image.id}"
    return (
        image_item(image)
        | {name: getattr(image, name) for name in _IMAGE_FACTS}
        | {
            "ms_path": image.ms_path,
            "cal_table": image.cal_table,
            "qa_summary": image.qa_summary,
            "fits_url": f"{base}/fits",
            "thumbnail_url": f"{base}/thumbnail",
            "provenance_url": f"{base}/provenance",
            "parent_id": _text(image.parent_id),
            "version": image.version,
            "imaging_params": dict(image.imaging_params) or None,
            "superseded_by": image.superseded_by,
            "mask_path": f"{base}/masks/{image.mask_id}" if image.mask_id else None,
        }
    )


def image_version(image: ImageRecord) -> View:
    """Return one image among the versions of its family."""
    return {
        "id": str(image.id),
        "version": image.version,
        "parent_id": _text(image.parent_id),
        "created_at": iso_time(image.created_at),
        "qa_grade": image.qa_grade,
        "imaging_params": dict(image.imaging_params) or None,
    }


def ms_item(ms: MeasurementSetRecord, qa_grade: str) -> View:
    """Return one row of the list of Measurement Sets."""
    return {
        "id": ms.group_id or None,
        "path": ms.path,
        "run_id": ms.run_id,
        "qa_grade": qa_grade,
        "created_at": iso_time(ms.processed_at),
        "pointing_ra_deg": ms.pointing_ra_deg,
        "pointing_dec_deg": ms.pointing_dec_deg,
        "missing_subbands": list(ms.missing_subbands),
    } | {name: getattr(ms, name) for name in _MS_FACTS}


def match(table: CalibrationTableRecord) -> View:
    """Return one calibration table of a Measurement Set."""
    return {
        "cal_table": table.path,
        "type": table.table_type,
        "id": _text(table.id),
        "set_name": table.set_name,
        "valid_start_mjd": table.valid_start_mjd,
        "valid_end_mjd": table.valid_end_mjd,
        "source_ms_path": table.source_ms_path,
    }


def calibration_item(table: CalibrationTableRecord) -> View:
    """Return one row of the list of calibration tables."""
    return {
        "id": _text(table.id),
        "path": table.path,
        "table_type": table.table_type,
        "set_name": table.set_name,
        "order_index": table.order_index,
        "cal_field": table.cal_field,
        "refant": table.refant,
        "created_at": iso_time(table.created_at),
        "valid_start_mjd": table.valid_start_mjd,
        "valid_end_mjd": table.valid_end_mjd,
        "source_ms_path": table.source_ms_path,
        "status": table.status,
    }


def calibration_detail(table: CalibrationTableRecord) -> View:
    """Return one calibration table."""
    return calibration_item(table) | {
        "valid_start": mjd_time(table.valid_start_mjd),
        "valid_end": mjd_time(table.valid_end_mjd),
        "notes": table.notes,
        "solver_command": table.solver_command,
        "solver_version": table.solver_version,
        "solver_params": dict(table.solver_params),
        "quality_metrics": dict(table.quality_metrics),
        "source_ms_url": f"/api/v1/ms/{path_segment(table.source_ms_path)}" if table.source_ms_path else None,
    }


def ms_detail(ms: MeasurementSetRecord, matches: list[View], qa_grade: str, qa_summary: str) -> View:
    """Return one Measurement Set."""
    return ms_item(ms, qa_grade) | {"calibrator_matches": matches, "qa_summary": qa_summary}


def job_item(job: JobRecord) -> View:
    """Return one row of the list of runs."""
    return {
        "run_id": job.run_id,
        "status": job.status,
        "started_at": iso_time(job.started_at),
        "finished_at": iso_time(job.finished_at),
        "created_at": iso_time(job.created_at),
        "group_id": job.group_id,
        "error": job.error,
    }


def job_detail(job: JobRecord, image_ids: Sequence[int]) -> View:
    """Return one run."""
    return job_item(job) | {
        "logs_url": f"/api/logs/{path_segment(job.run_id)}",
        "qa_url": f"/api/qa/job/{path_segment(job.run_id)}",
        "config": dict(job.params) or None,
        "ms_path": job.ms_path,
        "workflow_id": job.workflow_id,
        "image_ids": [str(image_id) for image_id in image_ids],
        "provenance_url": f"/api/v1/jobs/{path_segment(job.run_id)}/provenance",
    }


def provenance(facts: Mapping[str, Any], image_id: int | None, stages: Sequence[ProvenanceRecord]) -> View:
    """Return where a product comes from.

    Parameters
    ----------
    facts
        ``run_id, ms_path, cal_table, pointing_ra_deg, pointing_dec_deg, qa_grade, qa_summary, qa_url, created_at``.
    image_id
        Of the image that belongs to it.
    stages
        How each stage was run.
    """
    ms_segment = path_segment(facts["ms_path"]) if facts["ms_path"] else None
    told = {
        **facts,
        "logs_url": f"/api/logs/{path_segment(facts['run_id'])}" if facts["run_id"] else None,
        "ms_url": f"/api/ms/{ms_segment}/metadata" if ms_segment else None,
        "image_url": f"/api/images/{image_id}" if image_id else None,
    }
    camel = {camel: told[snake] for snake, camel in _CAMEL_CASE.items()} | {
        "calUrl": f"/cal/{path_segment(facts['cal_table'])}" if facts["cal_table"] else None,
        "msUrl": f"/ms/{ms_segment}" if ms_segment else None,
        "imageUrl": f"/images/{image_id}" if image_id else None,
    }
    return {**told, **camel, "stages": [stage(record) for record in stages]}


def stage(record: ProvenanceRecord) -> View:
    """Return how one stage made what it made."""
    return {
        "stage": record.stage,
        "task_id": record.task_id,
        "attempt": record.attempt,
        "code_version": record.code_version,
        "host": record.host,
        "started_at": iso_time(record.started_at),
        "finished_at": iso_time(record.finished_at),
        "duration_s": round(record.finished_at - record.started_at, 3),
        "cpu_s": record.cpu_s,
        "peak_rss_bytes": record.peak_rss_bytes,
        "params": dict(record.params),
        "summary": dict(record.summary),
        "inputs": [_file(file) for file in record.files if file.role == "input"],
        "outputs": [_file(file) for file in record.files if file.role == "output"],
    }


def _file(file: ProductFile) -> View:
    names = ("path", "role", "kind", "size_bytes", "sha256")
    return {name: getattr(file, name) for name in names}


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
