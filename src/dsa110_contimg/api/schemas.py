"""Request and reply models: the documented contract.

Replies are written as bytes without these models; a test validates every reply against them, and OpenAPI shows them.
Times are ISO 8601 UTC with Z, angles ICRS degrees, fluxes Jy, peaks and noise Jy/beam, beam axes arcsec. A number that
is not known, not a number or infinite is null.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

QAGrade = Literal["good", "warn", "fail"]
Health = Literal["healthy", "degraded"]


class Reply(BaseModel):
    """Base of all replies: a key that is not documented is an error (of ours; a test finds it)."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(Reply):
    """The one error body."""

    error: str = Field(description="code for programs, such as NOT_FOUND")
    message: str = Field(description="the thing, the value and the remedy")
    details: dict[str, Any]
    code: str = Field(description="code for the web client, such as IMAGE_NOT_FOUND")
    http_status: int
    user_message: str
    action: str = Field(description="what to do")
    ref_id: str = Field(description="id of the request, as in X-Request-ID")
    trace_id: str = Field(pattern="^[0-9a-f]{12}$")
    doc_anchor: str | None
    detail: Any = Field(default=None, description="as the framework gives it (401, 403, 404, 405, 422, 503)")


class Beam(Reply):
    """Restoring beam, full width at half maximum; position angle from north through east."""

    major_arcsec: float | None
    minor_arcsec: float | None
    pa_deg: float | None


class ImageListItem(Reply):
    """One image of the list."""

    id: str
    path: str
    qa_grade: QAGrade | None
    created_at: str | None
    run_id: str | None
    type: str
    noise_jy: float | None = Field(description="rms, Jy/beam")
    dynamic_range: float | None = Field(description="peak over rms")
    peak_flux_jy: float | None = Field(description="Jy/beam")
    beam_major_arcsec: float | None
    beam_minor_arcsec: float | None
    beam_pa_deg: float | None
    pointing_ra_deg: float | None
    pointing_dec_deg: float | None


class ImageDetail(ImageListItem):
    """One image."""

    ms_path: str | None
    cal_table: str | None
    qa_summary: str | None
    thermal_noise_jy: float | None = Field(description="expected from the receivers alone, Jy/beam")
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


class QualityMetrics(Reply):
    """Measured quality; further numbers of the assessment stand under their own names."""

    model_config = ConfigDict(extra="allow")
    noise_rms_jy: float | None
    dynamic_range: float | None
    theoretical_noise_jy: float | None


class SourceStats(Reply):
    """What was found in the image."""

    n_sources: int | None
    peak_flux_jy: float | None


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


class ProductFileView(Reply):
    """One file that went into a stage or came out of it."""

    path: str
    role: str
    kind: str
    size_bytes: int
    sha256: str


class StageView(Reply):
    """How one stage made what it made."""

    stage: str
    task_id: str
    attempt: int
    code_version: str
    host: str
    started_at: str
    finished_at: str
    duration_s: float
    cpu_s: float
    peak_rss_bytes: int
    params: dict[str, Any]
    summary: dict[str, Any]
    inputs: list[ProductFileView]
    outputs: list[ProductFileView]


class Provenance(Reply):
    """Where a product comes from: snake_case with addresses of the API, camelCase with addresses of the web client."""

    run_id: str
    ms_path: str | None
    cal_table: str | None
    pointing_ra_deg: float | None
    pointing_dec_deg: float | None
    qa_grade: QAGrade | None
    qa_summary: str | None
    logs_url: str | None
    qa_url: str | None
    ms_url: str | None
    image_url: str | None
    created_at: str | None
    runId: str  # noqa: N815 - spelling of the web client
    msPath: str | None  # noqa: N815
    calTable: str | None  # noqa: N815
    calUrl: str | None  # noqa: N815
    pointingRaDeg: float | None  # noqa: N815
    pointingDecDeg: float | None  # noqa: N815
    qaGrade: QAGrade | None  # noqa: N815
    qaSummary: str | None  # noqa: N815
    logsUrl: str | None  # noqa: N815
    qaUrl: str | None  # noqa: N815
    msUrl: str | None  # noqa: N815
    imageUrl: str | None  # noqa: N815
    createdAt: str | None  # noqa: N815
    stages: list[StageView]


class CalibratorMatch(Reply):
    """One calibration table of a Measurement Set."""

    cal_table: str
    type: str


class CalibratorMatches(Reply):
    """All calibration tables of a Measurement Set."""

    ms_path: str
    matches: list[CalibratorMatch]


class MSDetail(Reply):
    """One Measurement Set."""

    path: str
    pointing_ra_deg: float | None
    pointing_dec_deg: float | None
    calibrator_matches: list[CalibratorMatch]
    qa_grade: QAGrade
    qa_summary: str
    run_id: str | None
    created_at: str | None
    group_id: str | None
    stage: str | None
    status: str | None
    start_mjd: float | None
    mid_mjd: float | None
    end_mjd: float | None
    field_name: str | None
    cal_applied: bool
    flagged_fraction: float | None
    missing_subbands: list[int]
    quality_note: str | None


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


class JobListItem(Reply):
    """One run of the list."""

    run_id: str
    status: Literal["pending", "running", "completed", "failed"]
    started_at: str | None
    finished_at: str | None
    created_at: str | None
    group_id: str
    error: str | None


class JobDetail(JobListItem):
    """One run."""

    logs_url: str | None
    qa_url: str | None
    config: dict[str, Any] | None
    ms_path: str | None
    workflow_id: str | None
    image_ids: list[str]
    provenance_url: str


class MSCounts(Reply):
    """Measurement Sets by stage; the stages add up to the total."""

    total: int
    by_stage: dict[str, int]


class JobCounts(Reply):
    """Runs by status; they add up to the total."""

    total: int
    by_status: dict[str, int]


class Total(Reply):
    """A number of things."""

    total: int


class RecentImage(Reply):
    """One of the newest images."""

    id: str
    path: str
    created_at: str | None
    type: str


class StatsMeta(Reply):
    """When the numbers were true."""

    generated_at: str
    cache_hint_seconds: int


class Stats(Reply):
    """How much there is of everything."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    ms: MSCounts
    images: Total
    photometry: Total
    sources: Total
    jobs: JobCounts
    recent_images: list[RecentImage]
    cal_tables: Total
    meta: StatsMeta = Field(alias="_meta")


class HealthReply(Reply):
    """State of the service; the last four only with ``detailed=true``."""

    status: Health
    service: str
    version: str
    api_version: str
    timestamp: str
    databases: dict[str, str] | None = None
    redis: dict[str, str] | None = None
    disk: dict[str, dict[str, Any]] | None = None
    absurd: dict[str, str | None] | None = None


class Liveness(Reply):
    """The process answers."""

    status: Literal["alive"]


class Readiness(Reply):
    """The process can serve."""

    status: Literal["ready"]
    schema_revision: str | None
