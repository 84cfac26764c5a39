"""Replies about quality."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from dsa110_contimg.api.schemas.base import QAGrade, Reply

Quality = Literal["excellent", "good", "marginal", "poor", "unknown"]


class FindingView(Reply):
    """One number that was judged."""

    name: str
    value: float | None = Field(description="in the unit that the text says")
    grade: QAGrade
    text: str = Field(description="what it is, and what it should be")


class Verdict(Reply):
    """What every report on quality has."""

    flags: list[str] = Field(description="names of the numbers beyond their limits")
    timestamp: str | None = Field(description="when it was measured")
    reasons: list[str] = Field(description="why the grade is not good")
    findings: list[FindingView]


class ImageNumbers(Reply):
    """Measured numbers of an image."""

    rms_noise: float | None = Field(description="not corrected for the primary beam, Jy/beam")
    dynamic_range: float | None = Field(description="peak over rms")
    beam_major_arcsec: float | None
    beam_minor_arcsec: float | None
    beam_pa_deg: float | None
    theoretical_noise_jy: float | None = Field(description="Jy/beam")
    peak_flux_jy: float | None = Field(description="brightest pixel, not corrected for the primary beam, Jy/beam")


class ImageReport(Verdict):
    """Verdict on an image."""

    image_id: str
    qa_grade: QAGrade | None
    qa_summary: str | None
    quality_metrics: ImageNumbers
    assessed: bool = Field(description="false: it is judged here, by what it carries itself")
    overall_quality: Quality
    n_sources: int | None
    warnings: list[str]


class CalibrationReport(Reply):
    """What was measured on the tables that were solved from a Measurement Set."""

    overall_quality: Quality
    flags_total: float | None = Field(description="flagged part of the solutions of antennas that are there, 0 to 1")
    k_metrics: dict[str, Any]
    bp_metrics: dict[str, Any]
    g_metrics: dict[str, Any]
    per_spw_stats: dict[str, Any]
    timestamp: str | None


class MSNumbers(Reply):
    """Measured numbers of a Measurement Set; those that its run told stand under their own names."""

    model_config = ConfigDict(extra="allow")
    stage: str | None
    status: str | None
    flagged_fraction: float | None = Field(description="0 to 1, absent antennas and missing subbands included")
    missing_subbands: int


class MSReport(Verdict):
    """Verdict on a Measurement Set."""

    ms_path: str
    qa_grade: QAGrade
    qa_summary: str
    stage: str | None
    status: str | None
    cal_applied: bool
    quality_metrics: MSNumbers
    calibration: CalibrationReport | None
    image_id: str | None = Field(description="the image whose grade it has")


class JobReport(Verdict):
    """Verdict on a run."""

    run_id: str
    qa_grade: QAGrade | None
    qa_summary: str | None
    ms_path: str | None
    cal_table: str | None
    queue_status: str | None
    pipeline_config: dict[str, Any] | None
    stages: list[str] = Field(description="stages that ended well, in their order")
    image_ids: list[str]
