"""Verdicts on quality as the API tells them; the thresholds and the grade come from the assessment stage."""

from collections.abc import Mapping, Sequence
from typing import Any

from dsa110_contimg.api.interfaces import IMAGED_STAGES, ImageRecord, MeasurementSetRecord, StageSummary
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord
from dsa110_contimg.api.replies import iso_time
from dsa110_contimg.api.report_interfaces import MSFacts, RunFacts
from dsa110_contimg.pipeline.quality import WORDS, Finding, dynamic_range_word, judge, worst

_HIGH_NOISE_JY = 0.01
_LOW_DYNAMIC_RANGE = 100.0


def image_qa(image: ImageRecord) -> dict[str, Any]:
    """Return the verdict on an image: grade, numbers, and what a person should look at."""
    metrics = dict(image.qa_metrics)
    found = findings(image_metrics(image))
    return {
        "image_id": str(image.id),
        "qa_grade": _grade(image, found),
        "qa_summary": image.qa_summary or image_summary(image),
        "quality_metrics": metrics
        | {
            "noise_rms_jy": image.noise_jy,
            "dynamic_range": image.dynamic_range,
            "theoretical_noise_jy": image.thermal_noise_jy,
        },
        "beam": {
            "major_arcsec": image.beam_major_arcsec,
            "minor_arcsec": image.beam_minor_arcsec,
            "pa_deg": image.beam_pa_deg,
        },
        "source_stats": {"n_sources": n_sources(metrics), "peak_flux_jy": image.peak_flux_jy},
        "flags": _names_beyond(found),
        "warnings": image_warnings(image),
    }


def _grade(image: ImageRecord, found: Sequence[Finding]) -> str | None:
    """Return the grade of the assessment; an image that was never assessed is judged here, by the same limits."""
    return image.qa_grade or worst(finding.grade for finding in found)


def n_sources(metrics: Mapping[str, Any]) -> int | None:
    """Return how many sources the assessment of an image counted."""
    value = metrics.get("sources", metrics.get("n_sources"))
    return int(value) if isinstance(value, int | float) else None


def image_summary(image: ImageRecord) -> str:
    """Return the numbers of an image in one line; it stands in for the assessment's own words."""
    parts = []
    if image.noise_jy is not None:
        parts.append(f"RMS {image.noise_jy * 1000:.2f} mJy")
    if image.dynamic_range is not None:
        parts.append(f"DR {image.dynamic_range:.0f}")
    if image.beam_major_arcsec is not None:
        parts.append(f'Beam {image.beam_major_arcsec:.1f}"')
    return ", ".join(parts) or "No QA metrics available"


def image_warnings(image: ImageRecord) -> list[str]:
    """Return what a person should look at: noise above 10 mJy/beam, dynamic range below 100."""
    warnings = []
    if image.noise_jy is not None and image.noise_jy > _HIGH_NOISE_JY:
        warnings.append("High noise level detected")
    if image.dynamic_range is not None and image.dynamic_range < _LOW_DYNAMIC_RANGE:
        warnings.append("Low dynamic range")
    return warnings


def ms_grade(ms: MeasurementSetRecord) -> str:
    """Return the grade of a Measurement Set: that of its newest assessed image, else how far it came.

    Without such an image: ``fail`` when its status is failed; ``good`` once imaged; ``warn`` once calibrated; else
    ``fail``, as existing clients expect it.
    """
    if ms.image_grade is not None:
        return ms.image_grade
    if ms.status == "failed":
        return "fail"
    return "good" if ms.stage in IMAGED_STAGES else "warn" if ms.stage == "calibrated" else "fail"


def findings(metrics: Mapping[str, Any]) -> list[Finding]:
    """Judge the numbers that have a limit in ``pipeline.quality``; what is no number is passed over."""
    return list(judge({name: float(value) for name, value in metrics.items() if _is_number(value)}))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def image_metrics(image: ImageRecord) -> dict[str, Any]:
    """Return the numbers by which an image is judged: those of its assessment, else those that it carries itself."""
    metrics = dict(image.qa_metrics)
    metrics.setdefault("dynamic_range", image.dynamic_range)
    if image.noise_jy is not None and image.thermal_noise_jy:
        metrics.setdefault("rms_ratio", image.noise_jy / image.thermal_noise_jy)
    return metrics


def image_report(image: ImageRecord, measured: ImageQARecord | None) -> dict[str, Any]:
    """Return the verdict on an image with its reasons."""
    metrics = image_metrics(image)
    found = findings(metrics)
    counted = measured.num_sources if measured else None
    return {
        "image_id": str(image.id),
        "qa_grade": _grade(image, found),
        "qa_summary": image.qa_summary or image_summary(image),
        "quality_metrics": {
            "rms_noise": image.noise_jy,
            "dynamic_range": image.dynamic_range,
            "beam_major_arcsec": image.beam_major_arcsec,
            "beam_minor_arcsec": image.beam_minor_arcsec,
            "beam_pa_deg": image.beam_pa_deg,
            "theoretical_noise_jy": image.thermal_noise_jy,
            "peak_flux_jy": image.peak_flux_jy,
        },
        "flags": _names_beyond(found),
        "timestamp": iso_time(measured.timestamp if measured else image.created_at),
        "assessed": image.qa_grade is not None,
        "reasons": _reasons(metrics, found),
        "findings": [_told(finding) for finding in found],
        "overall_quality": _image_word(image, measured),
        "n_sources": n_sources(metrics) if counted is None else counted,
        "warnings": image_warnings(image),
    }


def image_reasons(image: ImageRecord) -> list[Any]:
    """Return why an image has its grade: in the words of the assessment, else by the same limits."""
    metrics = image_metrics(image)
    return _reasons(metrics, findings(metrics))


def _reasons(metrics: Mapping[str, Any], found: Sequence[Finding]) -> list[Any]:
    told = metrics.get("reasons")
    return told if isinstance(told, list) else [finding.reason for finding in found if finding.grade != "good"]


def _word(measured: ImageQARecord | CalibrationQARecord | None) -> str:
    """Return the quality in a word; an earlier database may hold anything there."""
    return measured.overall_quality if measured and measured.overall_quality in WORDS else "unknown"


def _image_word(image: ImageRecord, measured: ImageQARecord | None) -> str:
    """Return the quality of a measured image in a word, by the dynamic range that is recorded with it, as the grade."""
    if measured is None or image.dynamic_range is None:
        return _word(measured)
    return dynamic_range_word(image.dynamic_range)


def ms_report(known: MSFacts) -> dict[str, Any]:
    """Return the verdict on a Measurement Set: that of its newest assessed image, else how far it came."""
    ms, image, measured = known.ms, known.image, known.measured
    metrics = {"missing_subbands": len(ms.missing_subbands), **stage_metrics(known.stages)}
    found = findings(metrics)
    if image is not None:
        grade, reasons = image.qa_grade, image_reasons(image)
    else:
        grade = ms_grade(ms)
        state = "its processing failed" if ms.status == "failed" else f"no image of it was assessed; stage {ms.stage}"
        reasons = [f"{grade}: {state}", *(one.reason for one in found if one.grade != "good")]
    return {
        "ms_path": ms.path,
        "qa_grade": grade,
        "qa_summary": ms_summary(ms),
        "stage": ms.stage,
        "status": ms.status,
        "cal_applied": ms.cal_applied,
        "quality_metrics": {
            "stage": ms.stage, "status": ms.status, "flagged_fraction": ms.flagged_fraction, **metrics,
        },
        "flags": _names_beyond(found),
        "timestamp": iso_time(measured.timestamp if measured else ms.processed_at),
        "reasons": reasons,
        "findings": [_told(finding) for finding in found],
        "calibration": None if measured is None else calibration_report(measured),
        "image_id": str(image.id) if image else None,
    }  # fmt: skip


def calibration_report(measured: CalibrationQARecord) -> dict[str, Any]:
    """Return what was measured on calibration tables."""
    return {
        "overall_quality": _word(measured),
        "flags_total": measured.flags_total,
        "k_metrics": dict(measured.k_metrics),
        "bp_metrics": dict(measured.bp_metrics),
        "g_metrics": dict(measured.g_metrics),
        "per_spw_stats": dict(measured.per_spw_stats),
        "timestamp": iso_time(measured.timestamp),
    }


_STAGE_METRICS = {
    "flagging": {"flagged_fraction_live": "flagged_fraction_live"},
    "calibration-solve": {"median_snr": "calibration_snr"},
    "imaging": {"dynamic_range": "dynamic_range"},
    "reimaging": {"dynamic_range": "dynamic_range"},
}


def stage_metrics(stages: Sequence[StageSummary]) -> dict[str, Any]:
    """Return the numbers with a limit that the stages of a run told of their products."""
    return {
        metric: stage.summary[told]
        for stage in stages
        for told, metric in _STAGE_METRICS.get(stage.stage, {}).items()
        if _is_number(stage.summary.get(told))
    }


def job_report(known: RunFacts) -> dict[str, Any]:
    """Return the verdict on a run: failed, or that of its newest assessed image; null before there is one."""
    job = known.job
    found = findings(stage_metrics(known.stages))
    graded = next((image for image in known.images if image.qa_grade is not None), None)
    grade = "fail" if job.status == "failed" else graded.qa_grade if graded else None
    reasons = [f"fail: {job.error or 'the run failed'}"] if job.status == "failed" else []
    if graded is not None:
        reasons += image_reasons(graded)
    return {
        "run_id": job.run_id,
        "qa_grade": grade,
        "qa_summary": (graded.qa_summary or image_summary(graded)) if graded else job.error,
        "ms_path": job.ms_path,
        "cal_table": known.cal_table,
        "flags": _names_beyond(found),
        "queue_status": job.status,
        "pipeline_config": dict(job.params) or None,
        "reasons": reasons,
        "findings": [_told(finding) for finding in found],
        "stages": [stage.stage for stage in known.stages],
        "image_ids": [str(image.id) for image in known.images],
        "timestamp": iso_time(job.finished_at),
    }


def _names_beyond(found: Sequence[Finding]) -> list[str]:
    """Return the names of the numbers that are beyond their limits."""
    return [finding.name for finding in found if finding.grade != "good"]


def _told(finding: Finding) -> dict[str, Any]:
    return {"name": finding.name, "value": finding.value, "grade": finding.grade, "text": finding.text}


def ms_summary(ms: MeasurementSetRecord) -> str:
    """Return the state of a Measurement Set in one line."""
    parts = ["Calibrated"] if ms.cal_applied else []
    if ms.stage:
        parts.append(f"Stage: {ms.stage}")
    if ms.flagged_fraction is not None:
        parts.append(f"{ms.flagged_fraction:.1%} flagged")
    if ms.quality_note:
        parts.append(ms.quality_note)
    return ", ".join(parts) or "No QA info"
