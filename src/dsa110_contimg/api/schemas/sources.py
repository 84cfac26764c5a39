"""Replies about sources of the sky."""

from pydantic import Field

from dsa110_contimg.api.schemas.base import QAGrade, Reply

_SUPERSEDED = "run of the same observation that counts instead; only where superseded measurements are asked for"


class SourceListItem(Reply):
    """One source of the list."""

    id: str
    name: str | None
    ra_deg: float
    dec_deg: float
    num_images: int = Field(description="images in which it was measured, each observation once")
    image_id: str | None = Field(description="image of the latest epoch")
    first_detected_mjd: float | None
    last_detected_mjd: float | None
    peak_flux_jy: float | None = Field(description="largest peak, Jy/beam")
    flux_jy: float | None = Field(description="mean by inverse variances, Jy")
    eta: float | None = Field(description="chi squared by degree of freedom about that mean")
    v: float | None = Field(description="standard deviation over mean")


class ContributingImage(Reply):
    """One image in which a source was measured."""

    image_id: str
    path: str
    ms_path: str | None
    qa_grade: QAGrade | None
    created_at: str | None
    flux_jy: float | None = Field(description="Jy; its peak (Jy/beam) where nothing else was measured")
    flux_error_jy: float | None = Field(description="its uncertainty (1 sigma), Jy")
    superseded_by: str | None = Field(default=None, description=_SUPERSEDED)


class SourceDetail(Reply):
    """One source and the images in which it was measured, newest first, at most 1000."""

    id: str
    name: str | None
    ra_deg: float
    dec_deg: float
    num_images: int = Field(description="images in which it was measured, each observation once")
    peak_flux_jy: float | None
    flux_jy: float | None = Field(description="mean by inverse variances, Jy")
    eta: float | None
    v: float | None
    contributing_images: list[ContributingImage]
    latest_image_id: str | None


class LightCurvePointView(Reply):
    """One epoch."""

    mjd: float
    flux_jy: float | None = Field(description="Jy; its peak (Jy/beam) where nothing else was measured")
    flux_err_jy: float | None = Field(description="its uncertainty (1 sigma), Jy")
    peak_jyb: float | None
    peak_err_jyb: float | None
    snr: float | None
    image_id: str | None = Field(description="null where an earlier pipeline measured in an image that is in no list")
    image_path: str
    flags: int
    superseded_by: str | None = Field(default=None, description=_SUPERSEDED)


class LightCurve(Reply):
    """Measurements of a source by rising time."""

    source_id: str
    data_points: list[LightCurvePointView]
    truncated: bool = Field(description="there are more; ask again with the cursor")
    next_cursor: str | None


class FluxStats(Reply):
    """Flux densities of all epochs, Jy."""

    mean_jy: float | None = Field(description="Jy")
    std_jy: float | None = Field(description="standard deviation, Jy")
    min_jy: float | None = Field(description="Jy")
    max_jy: float | None = Field(description="Jy")


class Variability(Reply):
    """How a source varies, of the epochs that have a flux density and its uncertainty."""

    source_id: str
    source_name: str | None
    n_epochs: int
    variability_index: float | None = Field(description="standard deviation over mean (V)")
    modulation_index: float | None = Field(description="the same")
    chi_squared: float | None = Field(description="about the mean by inverse variances")
    chi_squared_reduced: float | None = Field(description="by degree of freedom (eta)")
    is_variable: bool | None = Field(description="more than noise (3 sigma) and more than 10 %")
    flux_stats: FluxStats
    weighted_mean_jy: float | None
    eta: float | None
    v: float | None
    chance_probability: float | None = Field(description="of such a chi squared or a larger one by noise alone")
    message: str | None


class SourceMetrics(Reply):
    """Numbers behind the verdict on a source."""

    ra_deg: float
    dec_deg: float
    n_good: int
    n_warn: int
    n_fail: int
    n_epochs: int
    eta: float | None
    v: float | None


class SourceQA(Reply):
    """What the grades of its images say of a source."""

    source_id: str
    source_name: str | None
    n_images: int
    qa_grades: list[QAGrade] = Field(description="those that occur, best first")
    overall_grade: QAGrade | None = Field(description="the one that half of the images have or better")
    flags: list[str]
    metrics: SourceMetrics
