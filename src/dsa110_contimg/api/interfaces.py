"""What the wings say to each other about products: records and the Protocols of those who keep them.

A record is one row, with the field names and units of the products database (``tables.py`` gives the meaning of each).
Times named ``*_at`` are Unix seconds (UTC), ``*_mjd`` are MJD (UTC), angles degrees (ICRS), fluxes Jy, peaks Jy/beam.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One run of the pipeline over one observation."""

    run_id: str
    group_id: str
    status: str  # pending | running | completed | failed
    ms_path: str
    workflow_id: str | None = None
    created_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    error: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MeasurementSetRecord:
    """One converted observation."""

    path: str
    run_id: str
    group_id: str
    stage: str  # converted | flagged | calibrated | imaged | cataloged
    start_mjd: float
    end_mjd: float
    mid_mjd: float
    pointing_ra_deg: float
    pointing_dec_deg: float
    status: str = "completed"
    cal_applied: bool = False
    field_name: str | None = None
    imagename: str | None = None
    processed_at: float | None = None
    flagged_fraction: float | None = None
    missing_subbands: tuple[int, ...] = ()
    quality_note: str | None = None


@dataclass(frozen=True, slots=True)
class CalibrationTableRecord:
    """One table of solutions."""

    path: str
    set_name: str
    table_type: str  # BP | GP of the contract
    order_index: int
    source_ms_path: str
    cal_field: str | None
    refant: str | None
    created_at: float
    valid_start_mjd: float | None
    valid_end_mjd: float | None
    status: str = "active"
    notes: str | None = None
    solver_command: str | None = None
    solver_version: str | None = None
    solver_params: Mapping[str, Any] = field(default_factory=dict)
    quality_metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image. ``id`` is None until the database has given it one."""

    path: str
    ms_path: str
    run_id: str
    type: str
    created_at: float
    id: int | None = None
    format: str = "fits"
    pbcor: bool = False
    beam_major_arcsec: float | None = None
    beam_minor_arcsec: float | None = None
    beam_pa_deg: float | None = None
    noise_jy: float | None = None
    thermal_noise_jy: float | None = None
    peak_flux_jy: float | None = None
    dynamic_range: float | None = None
    field_name: str | None = None
    center_ra_deg: float | None = None
    center_dec_deg: float | None = None
    imsize_x: int | None = None
    imsize_y: int | None = None
    cellsize_arcsec: float | None = None
    freq_ghz: float | None = None
    bandwidth_mhz: float | None = None
    integration_sec: float | None = None
    mid_mjd: float | None = None
    qa_grade: str | None = None  # good | warn | fail, given by the assessment
    qa_summary: str | None = None
    qa_metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One source of the sky, the same in all epochs."""

    id: str
    name: str
    ra_deg: float
    dec_deg: float


@dataclass(frozen=True, slots=True)
class PhotometryRecord:
    """One measurement of one source in one image."""

    source_id: str
    image_path: str
    ra_deg: float
    dec_deg: float
    peak_jyb: float
    peak_err_jyb: float
    flux_jy: float
    flux_err_jy: float
    snr: float
    mjd: float
    measured_at: float
    local_rms: float | None = None
    sep_from_center_deg: float | None = None
    flags: int = 0


@dataclass(frozen=True, slots=True)
class ProductFile:
    """One file or directory that went into a stage or came out of it."""

    path: str
    role: str  # input | output
    kind: str  # uvh5 | ms | caltable | image | catalogue | ...
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ProvenanceRecord:
    """How a stage made what it made: enough to say why a product is as it is, and to make it again."""

    run_id: str
    stage: str  # task name
    task_id: str
    attempt: int
    code_version: str
    host: str
    started_at: float
    finished_at: float
    cpu_s: float
    peak_rss_bytes: int
    params: Mapping[str, Any]
    summary: Mapping[str, Any]
    files: tuple[ProductFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that one finished stage has to say; it is kept in one transaction or not at all.

    Each part is an upsert by its natural key (path, run_id + stage, source + image), so that a stage that runs a second
    time after a crash leaves the same rows. None of the optional fields of an upserted record erases a known value:
    None means "nothing to say".
    """

    job: JobRecord | None = None
    measurement_set: MeasurementSetRecord | None = None
    calibration_tables: tuple[CalibrationTableRecord, ...] = ()
    image: ImageRecord | None = None
    sources: tuple[SourceRecord, ...] = ()
    photometry: tuple[PhotometryRecord, ...] = ()
    provenance: ProvenanceRecord | None = None


class ProductRecorder(Protocol):
    """Where stages record what they made."""

    async def record(self, recording: Recording) -> None:
        """Keep all parts of ``recording`` in one transaction.

        When ``recording.photometry`` is given, earlier rows of the same image that are not in it go in the same
        transaction (a repeated extraction replaces, it does not add).
        """

    async def sources_near(self, ra_deg: float, dec_deg: float, radius_deg: float) -> Sequence[SourceRecord]:
        """Return the known sources within ``radius_deg`` of a position, across RA 0 and at the poles too."""

    async def get_job(self, run_id: str) -> JobRecord | None:
        """Return a run by its id."""
