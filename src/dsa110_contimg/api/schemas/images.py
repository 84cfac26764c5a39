"""Replies about images."""

from typing import Any

from pydantic import ConfigDict, Field

from dsa110_contimg.api.schemas.base import QAGrade, Reply


class Beam(Reply):
    """Restoring beam, full width at half maximum; position angle from north through east."""

    major_arcsec: float | None = Field(description="arcsec")
    minor_arcsec: float | None = Field(description="arcsec")
    pa_deg: float | None = Field(description="deg")


class ImageListItem(Reply):
    """One image of the list."""

    id: str
    path: str
    qa_grade: QAGrade | None
    created_at: str | None
    run_id: str | None
    type: str
    noise_jy: float | None
    dynamic_range: float | None
    peak_flux_jy: float | None
    beam_major_arcsec: float | None
    beam_minor_arcsec: float | None
    beam_pa_deg: float | None
    pointing_ra_deg: float | None = Field(description="right ascension of the centre (ICRS), deg")
    pointing_dec_deg: float | None = Field(description="declination of the centre (ICRS), deg")


class ImageDetail(ImageListItem):
    """One image."""

    ms_path: str | None
    cal_table: str | None
    qa_summary: str | None
    thermal_noise_jy: float | None
    pbcor: bool = Field(description="corrected for the primary beam")
    format: str
    field_name: str | None
    imsize_x: int | None
    imsize_y: int | None
    cellsize_arcsec: float | None
    freq_ghz: float | None
    bandwidth_mhz: float | None
    integration_sec: float | None
    mid_mjd: float | None
    fits_url: str
    thumbnail_url: str
    provenance_url: str
    parent_id: str | None
    version: int
    imaging_params: dict[str, Any] | None = Field(description="what the imager was told, in the words of `reimage`")
    superseded_by: str | None = Field(
        description="run of the same observation whose measurements count in light curves instead; null: these count"
    )
    mask_path: str | None = Field(description="where the newest mask of the image is")


class QualityMetrics(Reply):
    """Measured quality; further numbers of the assessment stand under their own names."""

    model_config = ConfigDict(extra="allow")
    noise_rms_jy: float | None = Field(description="not corrected for the primary beam, Jy/beam")
    dynamic_range: float | None = Field(description="peak over rms")
    theoretical_noise_jy: float | None = Field(description="expected from the receivers alone, Jy/beam")


class SourceStats(Reply):
    """What was found in the image."""

    n_sources: int | None
    peak_flux_jy: float | None = Field(description="brightest pixel, not corrected for the primary beam, Jy/beam")


class ImageQA(Reply):
    """Verdict on one image."""

    image_id: str
    qa_grade: QAGrade | None
    qa_summary: str | None
    quality_metrics: QualityMetrics
    beam: Beam
    source_stats: SourceStats
    flags: list[str]
    warnings: list[str]
