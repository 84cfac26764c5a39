"""What the wings say to each other about products: records and the Protocols of those who keep them.

A record is one row, with the field names and units of the products database (``tables.py`` gives the meaning of each).
Times named ``*_at`` are Unix seconds (UTC), ``*_mjd`` are MJD (UTC), angles degrees (ICRS), fluxes Jy, peaks Jy/beam.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dsa110_contimg.api.pages import Document, Page, Wish
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord

#: Stages of a Measurement Set that has an image.
IMAGED_STAGES = frozenset({"imaged", "mosaicked", "cataloged"})


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
    # What follows is filled by reads of one set by its id, not recorded.
    image_grade: str | None = field(default=None, compare=False)  # of its newest assessed image; no further versions
    image_id: int | None = field(default=None, compare=False)  # its newest image; no further versions
    cal_table: str | None = field(default=None, compare=False)  # applied first; only with its origin


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
    id: int | None = field(default=None, compare=False)  # None until the database has given it one


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
    parent_id: int | None = None  # image that it is another version of
    root_id: int | None = None  # first image of its family; None for the first itself
    version: int = 1
    imaging_params: Mapping[str, Any] = field(default_factory=dict)
    superseded_by: str | None = None  # run whose measurements count instead; recording settles it anew
    ms_stage: str | None = None  # filled by reads from the Measurement Set; not recorded
    cal_table: str | None = None  # applied first to its Measurement Set; filled by reads of one image by its id
    mask_id: str | None = None  # its newest mask; filled when one image is read, not recorded


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One source of the sky, the same in all epochs."""

    id: str
    name: str
    ra_deg: float
    dec_deg: float
    catalog_match: str | None = None
    source_type: str | None = None  # calibrator | transient | ...


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
class SourceSummary:
    """One source with what its measurements add up to."""

    id: str
    name: str
    ra_deg: float
    dec_deg: float
    num_images: int  # images in which it was measured
    first_detected_mjd: float | None
    last_detected_mjd: float | None
    latest_image_id: int | None  # image of the latest epoch
    peak_flux_jy: float | None  # the largest, Jy/beam
    flux_count: int  # epochs with a flux density and its uncertainty; the rest is about these
    min_flux_jy: float | None
    max_flux_jy: float | None
    mean_flux_jy: float | None
    deviation_sum: float | None  # squared deviations from the mean, Jy2
    weighted_mean_jy: float | None
    chi_squared: float | None  # about the weighted mean
    eta: float | None
    v: float | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """How much there is of everything."""

    ms_total: int
    ms_by_stage: Mapping[str, int]  # stage '' counts the Measurement Sets without one
    images_total: int
    photometry_total: int
    sources_total: int
    jobs_total: int
    jobs_by_status: Mapping[str, int]
    cal_tables_total: int
    recent_images: tuple[Document, ...]  # the ten newest: id, path, created_at, type


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
class RunOrigin:
    """What a run used and made, in a row."""

    run_id: str
    ms_path: str
    started_at: float | None
    pointing_ra_deg: float | None  # of its Measurement Set
    pointing_dec_deg: float | None
    cal_table: str | None  # applied first
    image_id: int | None  # its newest image
    qa_grade: str | None  # of this image
    qa_summary: str | None


@dataclass(frozen=True, slots=True)
class StageSummary:
    """What a stage told of its product."""

    stage: str  # task name
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that one finished stage has to say; it is kept in one transaction or not at all.

    Each part is an upsert by its natural key (path, run_id + stage, source + image), so that a stage that runs a second
    time after a crash leaves the same rows. None of the optional fields of an upserted record erases a known value:
    None means "nothing to say", and so does an empty mapping. What else an upsert follows:

    * a job that is pending or running has no end yet (``finished_at`` and ``error`` are cleared), and one that
      completed has no ``error``;
    * ``missing_subbands = ()`` and ``cal_applied = False`` count only from stage ``converted`` (a new Measurement Set),
      later stages have nothing to say about them; ``pbcor`` of an image path stays true once said;
    * with ``same_source_deg``, a source is the known one of its id, else the nearest within this angle that is none of
      the others; else it is new. What is known of a source stays.
    """

    job: JobRecord | None = None
    measurement_set: MeasurementSetRecord | None = None
    calibration_tables: tuple[CalibrationTableRecord, ...] = ()
    image: ImageRecord | None = None
    sources: tuple[SourceRecord, ...] = ()
    photometry: tuple[PhotometryRecord, ...] = ()
    provenance: ProvenanceRecord | None = None
    image_qa: ImageQARecord | None = None
    calibration_qa: CalibrationQARecord | None = None
    same_source_deg: float = 0.0


class ProductRecorder(Protocol):
    """Where stages record what they made."""

    async def record(self, recording: Recording) -> None:
        """Keep all parts of ``recording`` in one transaction.

        When ``recording.photometry`` is given, earlier rows of the same image that are not in it go in the same
        transaction (a repeated extraction replaces, it does not add).
        """

    async def get_job(self, run_id: str) -> JobRecord | None:
        """Return a run by its id."""

    async def save_job(self, job: JobRecord) -> None:
        """Keep a run by its id, by the rules of :class:`Recording`."""

    async def came_to_nothing(self, run_ids: Sequence[str], before_s: float) -> list[str]:
        """Return which of these runs failed before a time (Unix, s) and have no image."""


class ImageRepositoryProtocol(Protocol):
    """Reads images; kept by ``AsyncImageRepository(adapter)``."""

    async def get_by_id(self, image_id: str) -> ImageRecord | None:
        """Return the image of this id (decimal text); None if there is none."""

    async def get_by_path(self, path: str) -> ImageRecord | None:
        """Return the image that was written to this path."""

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[ImageRecord]:
        """Return images, newest ``created_at`` first, then by falling id; ``ms_stage`` comes by one join."""

    async def list_for_ms(self, ms_path: str) -> list[ImageRecord]:
        """Return the images of one Measurement Set, newest first."""

    async def list_ids_of_run(self, run_id: str, ms_path: str) -> list[int]:
        """Return the ids of the images that a run made of its Measurement Set, newest first."""

    async def count(self) -> int:
        """Return the number of images."""

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of images as documents, by the order and the conditions of ``wish``."""


class MSRepositoryProtocol(Protocol):
    """Reads Measurement Sets; kept by ``AsyncMSRepository(adapter)``."""

    async def get_metadata(self, ms_id: str) -> MeasurementSetRecord | None:
        """Return the Measurement Set of this path, or of this short id: the stamp of its group."""

    async def get_path(self, ms_id: str) -> str | None:
        """Return the path of the Measurement Set of this path or short id."""

    async def get_origin(self, ms_id: str) -> MeasurementSetRecord | None:
        """Return it with the calibration table that is applied first."""

    async def get_by_run_id(self, run_id: str) -> MeasurementSetRecord | None:
        """Return the Measurement Set that a run made."""

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[MeasurementSetRecord]:
        """Return Measurement Sets, latest observation first, then by path."""

    async def get_calibrator_matches(self, ms_path: str) -> list[CalibrationTableRecord]:
        """Return the calibration tables of a Measurement Set, in the order of application.

        Those solved from it; if there are none, the newest active set whose validity holds its mid time.
        """

    async def count(self) -> int:
        """Return the number of Measurement Sets."""

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of Measurement Sets as documents, by the order and the conditions of ``wish``."""


class SourceRepositoryProtocol(Protocol):
    """Reads sources; kept by ``AsyncSourceRepository(adapter)``."""

    async def get_by_id(self, source_id: str) -> SourceSummary | None:
        """Return the source of this id."""

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[SourceSummary]:
        """Return sources by rising id (byte order)."""

    async def get_lightcurve_page(
        self, source_id: str, start_mjd: float | None, end_mjd: float | None, wish: Wish, superseded: bool = False
    ) -> Page:
        """Return a part of the measurements of a source by rising time; both ends belong to the range.

        Those that count, or with ``superseded`` all, each with the run whose measurements count instead.
        """

    async def list_contributions(
        self, source_id: str, limit: int, offset: int = 0, superseded: bool = False
    ) -> list[Document]:
        """Return the images in which a source was measured, with its flux density there, the last epoch first."""

    async def list_cone(self, ra_deg: float, dec_deg: float, radius_deg: float, wish: Wish) -> Page:
        """Return a page of the sources within an angle of a position, nearest first; only offsets, no cursors."""

    async def count_grades(self, source_id: str) -> dict[str | None, int]:
        """Return how many of the images of a source have each grade."""

    async def list_by_ids(self, source_ids: Sequence[str]) -> list[Document]:
        """Return those sources that there are, as documents, in the given order."""

    async def count(self) -> int:
        """Return the number of sources."""

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of sources as documents, by the order and the conditions of ``wish``."""


class JobRepositoryProtocol(Protocol):
    """Reads runs; kept by ``AsyncJobRepository(adapter)``."""

    async def get_by_run_id(self, run_id: str) -> JobRecord | None:
        """Return the run of exactly this id."""

    async def get_status(self, run_id: str) -> str | None:
        """Return the state of the run of exactly this id; None if there is none."""

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[JobRecord]:
        """Return runs, newest ``created_at`` first, then by falling number."""

    async def count(self) -> int:
        """Return the number of runs."""

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of runs as documents, by the order and the conditions of ``wish``."""


class CalibrationRepositoryProtocol(Protocol):
    """Reads calibration tables; kept by ``AsyncCalibrationRepository(adapter)``."""

    async def get_by_id(self, table_id: str) -> CalibrationTableRecord | None:
        """Return the table of this path, or of this short id: the number of its row."""

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[CalibrationTableRecord]:
        """Return tables, newest first, then by path."""

    async def list_active(self, mjd: float) -> list[CalibrationTableRecord]:
        """Return the newest active set that is valid at ``mjd`` (an open end is no limit), by order of application."""

    async def count(self) -> int:
        """Return the number of tables."""

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of tables as documents, by the order and the conditions of ``wish``."""


class StatsRepositoryProtocol(Protocol):
    """Counts; kept by ``AsyncStatsRepository(adapter)``."""

    async def get_statistics(self) -> Statistics:
        """Return how much there is of everything, as of one moment."""

    async def get_counts(self) -> dict[str, dict[str, int]]:
        """Return how many rows each table has by stage, status or type ('' for none); empty ones are left out."""

    async def get_generations(self) -> dict[str, int]:
        """Return the number of the last write of each table."""


class ProvenanceRepositoryProtocol(Protocol):
    """Reads how products were made; kept by ``AsyncProvenanceRepository(adapter)``."""

    async def get_run_origin(self, run_id: str) -> RunOrigin | None:
        """Return what the run of exactly this id used and made."""

    async def list_for_run(self, run_id: str) -> list[ProvenanceRecord]:
        """Return the stages of a run in the order in which they began."""

    async def list_for_file(self, path: str) -> list[ProvenanceRecord]:
        """Return the stages that read or wrote a file, in the order in which they began."""


class SchemaRepositoryProtocol(Protocol):
    """Knows whether the database is ours; kept by ``AsyncSchemaRepository(adapter)``."""

    async def get_revision(self) -> str | None:
        """Return the revision of the tables; None in a database that was never migrated."""

    async def require_current(self) -> None:
        """Raise DatabaseSchemaError unless the tables are those of this version."""

    async def is_read_only(self) -> bool:
        """Tell whether it is a database of the earlier pipeline, which is served but never changed."""
