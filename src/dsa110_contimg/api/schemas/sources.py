"""Replies about sources of the sky."""

from pydantic import Field

from dsa110_contimg.api.schemas.base import QAGrade, Reply


class SourceListItem(Reply):
    """One source of the list."""

    id: str
    name: str | None
    ra_deg: float
    dec_deg: float
    num_images: int
    image_id: str | None = Field(description="image of the latest epoch")
    first_detected_mjd: float | None
    last_detected_mjd: float | None


class ContributingImage(Reply):
    """One image in which a source was measured."""

    image_id: str
    path: str
    ms_path: str | None
    qa_grade: QAGrade | None
    created_at: str | None
    flux_jy: float | None
    flux_error_jy: float | None


class SourceDetail(Reply):
    """One source and the images in which it was measured, newest first, at most 1000."""

    id: str
    name: str | None
    ra_deg: float
    dec_deg: float
    num_images: int
    contributing_images: list[ContributingImage]
    latest_image_id: str | None


class LightCurvePointView(Reply):
    """One epoch."""

    mjd: float
    flux_jy: float | None
    flux_err_jy: float | None
    peak_jyb: float | None
    peak_err_jyb: float | None
    snr: float | None
    image_id: str
    image_path: str
    flags: int


class LightCurve(Reply):
    """Measurements of a source by rising time."""

    source_id: str
    data_points: list[LightCurvePointView]
