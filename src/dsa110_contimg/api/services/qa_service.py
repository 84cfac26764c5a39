"""Verdicts on quality as the API tells them; the thresholds and the grade come from the assessment stage."""

from collections.abc import Sequence
from typing import Any

from dsa110_contimg.api.interfaces import IMAGED_STAGES, ImageRecord, MeasurementSetRecord

_HIGH_NOISE_JY = 0.01
_LOW_DYNAMIC_RANGE = 100.0


def image_qa(image: ImageRecord) -> dict[str, Any]:
    """Return the verdict on an image: grade, numbers, and what a person should look at."""
    metrics = dict(image.qa_metrics)
    flags = [name for name, value in metrics.items() if value is True]
    return {
        "image_id": str(image.id),
        "qa_grade": image.qa_grade,
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
        "source_stats": {"n_sources": _count(metrics.get("n_sources")), "peak_flux_jy": image.peak_flux_jy},
        "flags": flags,
        "warnings": image_warnings(image),
    }


def _count(value: Any) -> int | None:
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


def ms_grade(ms: MeasurementSetRecord, images: Sequence[ImageRecord] = ()) -> str:
    """Return the grade of a Measurement Set: that of its newest assessed image, else how far it came.

    Without an image: ``fail`` when its status is failed; ``good`` once imaged; ``warn`` once calibrated; else ``fail``,
    as existing clients expect it.
    """
    graded = next((image.qa_grade for image in images if image.qa_grade is not None), None)
    if graded is not None:
        return graded
    if ms.status == "failed":
        return "fail"
    return "good" if ms.stage in IMAGED_STAGES else "warn" if ms.stage == "calibrated" else "fail"


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
