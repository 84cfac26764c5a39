"""Tables of the products database: the one description of every column.

Each column carries in ``column.info`` its ``unit`` (as astropy writes it; empty for numbers without one), its ``ucd``
(IVOA UCD 1+) and its ``description``. Everything that speaks of a column (answers, exports, table heads) takes the
words from here. The column names are those of the earlier pipeline's unified schema, with ours beside them.

Both databases get the same tables: numbers with a point are double precision, times named ``*_at`` are Unix seconds
(UTC), ``*_mjd`` MJD (UTC); JSON is kept as text and yes/no as 0 or 1 on both, so that one statement serves both.
NaN and the infinities are no values; they are kept as NULL.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)

from dsa110_contimg.api.column_kinds import Flag, Identifier, Json, Number, RowNumber
from dsa110_contimg.api.columns import column as _column
from dsa110_contimg.api.columns import metadata as metadata
from dsa110_contimg.api.columns import mjd as _mjd
from dsa110_contimg.api.columns import path as _path
from dsa110_contimg.api.columns import row_number as _row_number
from dsa110_contimg.api.columns import run as _run
from dsa110_contimg.api.columns import unix as _unix
from dsa110_contimg.api.image_care_tables import image_ratings as image_ratings
from dsa110_contimg.api.image_care_tables import image_regions as image_regions
from dsa110_contimg.api.image_tables import image_families as image_families
from dsa110_contimg.api.image_tables import images as images
from dsa110_contimg.api.ticket_tables import websocket_tickets as websocket_tickets

SCHEMA_REVISION = "0016"
"""Revision of the migrations that makes these tables."""

ms_index = Table(
    "ms_index",
    metadata,
    _column("path", Identifier, "Path of the Measurement Set", "meta.id;meta.main", primary_key=True),
    _mjd("start_mjd", "Begin of the observation", "time.start;obs.exposure"),
    _mjd("end_mjd", "End of the observation", "time.end;obs.exposure"),
    _mjd("mid_mjd", "Middle of the observation", "time.epoch;obs.exposure"),
    _unix("processed_at", "Conversion of the raw files", "time.processing"),
    _column("status", Text, "State of the processing: completed, failed, ...", "meta.code.status"),
    _column("stage", Text, "Last finished stage: converted, flagged, calibrated, imaged, cataloged", "meta.code.class"),
    _unix("stage_updated_at", "Last change of the stage", "time.processing"),
    _column("cal_applied", Flag, "1 when the calibration was applied", "meta.code", nullable=False, server_default="0"),
    _column("imagename", Text, "Common start of the paths of its images", "meta.ref.url"),
    _column("ra_deg", Number, "Right ascension of the field centre (ICRS)", "pos.eq.ra", "deg"),
    _column("dec_deg", Number, "Declination of the field centre (ICRS)", "pos.eq.dec", "deg"),
    _column("pointing_ra_deg", Number, "Right ascension of the phase centre (ICRS)", "pos.eq.ra;instr.fov", "deg"),
    _column("pointing_dec_deg", Number, "Declination of the phase centre (ICRS)", "pos.eq.dec;instr.fov", "deg"),
    _column("field_name", Text, "Name of the field", "meta.id;obs.field"),
    _column("group_id", Identifier, "Stamp of the group of subband files, UTC", "meta.id;obs"),
    _unix("created_at", "First record of this Measurement Set", "time.creation", nullable=False),
    _run(),
    _column("flagged_fraction", Number, "Flagged part of the visibilities, 0 to 1", "stat.filling"),
    _column("missing_subbands", Json, "Numbers of the subbands that were not there", "meta.number;em.freq"),
    _column("quality_note", Text, "What a user of the data should know", "meta.note"),
    Index(None, "mid_mjd", "path"),
    Index(None, "run_id"),
    Index(None, "group_id"),
    Index(None, "stage"),
    Index(None, "status"),
)

sources = Table(
    "sources",
    metadata,
    _column(
        "id", Identifier, "Name by which the source is known to the database", "meta.id;meta.main", primary_key=True
    ),
    _column("name", Text, "Name for people", "meta.id;src", nullable=False),
    _column("ra_deg", Number, "Right ascension (ICRS)", "pos.eq.ra;meta.main", "deg", nullable=False),
    _column("dec_deg", Number, "Declination (ICRS)", "pos.eq.dec;meta.main", "deg", nullable=False),
    _column("catalog_match", Text, "Counterpart in a catalogue", "meta.id.cross"),
    _column("source_type", Text, "Kind of source", "src.class"),
    _mjd("first_detected_mjd", "First measurement", "time.epoch;stat.min"),
    _mjd("last_detected_mjd", "Last measurement", "time.epoch;stat.max"),
    _column("detection_count", Integer, "Measurements", "meta.number", nullable=False, server_default="0"),
    _column("latest_image_id", RowNumber, "Image of the last measurement", "meta.id.cross"),
    _column("peak_flux_jy", Number, "Largest peak flux density", "phot.flux.density;stat.max", "Jy / beam"),
    _column(
        "flux_count", Integer, "Measurements of flux density with uncertainty", "meta.number", nullable=False,
        server_default="0",
    ),
    _column("min_flux_jy", Number, "Least flux density", "phot.flux.density;stat.min", "Jy"),
    _column("max_flux_jy", Number, "Largest flux density", "phot.flux.density;stat.max", "Jy"),
    _column("mean_flux_jy", Number, "Mean flux density", "phot.flux.density;stat.mean", "Jy"),
    _column("deviation_sum", Number, "Squared deviations from the mean, added up", "stat.variance", "Jy2"),
    _column("weight_sum", Number, "Weights (inverse variances), added up", "stat.weight", "1 / Jy2"),
    _column(
        "weighted_mean_jy", Number, "Mean flux density by inverse variances", "phot.flux.density;stat.mean", "Jy"
    ),
    _column("chi_squared", Number, "Chi squared about the weighted mean", "stat.fit.chi2;src.var"),
    _column("eta", Number, "Chi squared by degree of freedom: is it more than noise?", "stat.fit.chi2;src.var"),
    _column("v", Number, "Standard deviation over mean: by how much?", "src.var.index"),
    Index(None, "dec_deg", "ra_deg"),
    Index(None, "ra_deg", "id"),
    Index(None, "detection_count", "id"),
    Index(None, "last_detected_mjd", "id"),
    Index(None, "peak_flux_jy", "id"),
    Index(None, "eta", "id"),
    Index(None, "v", "id"),
)  # fmt: skip

photometry = Table(
    "photometry",
    metadata,
    _row_number(),
    _column(
        "source_id", Identifier, "Source that was measured", "meta.id;src", "", ForeignKey("sources.id"), nullable=False
    ),
    _path("image_path", "Image in which it was measured", ForeignKey("images.path", ondelete="CASCADE")),
    _column("ra_deg", Number, "Right ascension of the fit (ICRS)", "pos.eq.ra", "deg", nullable=False),
    _column("dec_deg", Number, "Declination of the fit (ICRS)", "pos.eq.dec", "deg", nullable=False),
    _column("nvss_flux_mjy", Number, "Flux density in NVSS", "phot.flux.density;em.radio.750-1500MHz", "mJy"),
    _column("peak_jyb", Number, "Peak flux density", "phot.flux.density;stat.max", "Jy / beam"),
    _column("peak_err_jyb", Number, "Its uncertainty (1 sigma)", "stat.error;phot.flux.density", "Jy / beam"),
    _column("flux_jy", Number, "Integrated flux density", "phot.flux.density", "Jy"),
    _column("flux_err_jy", Number, "Its uncertainty (1 sigma)", "stat.error;phot.flux.density", "Jy"),
    _column("normalized_flux_jy", Number, "Flux density on the ensemble's scale", "phot.flux.density;arith", "Jy"),
    _column("normalized_flux_err_jy", Number, "Its uncertainty (1 sigma)", "stat.error;phot.flux.density", "Jy"),
    _column("snr", Number, "Peak flux density over local noise", "stat.snr"),
    _column("local_rms", Number, "Noise around the source", "stat.stdev;phot.flux.density", "Jy / beam"),
    _column("sep_from_center_deg", Number, "Distance from the image centre", "pos.angDistance", "deg"),
    _mjd("mjd", "Middle of the observation", "time.epoch;obs.exposure"),
    _unix("measured_at", "Making of the measurement", "time.processing"),
    _column(
        "flags", Integer, "Bits of the source finder; 0 is clean", "meta.code.qual", nullable=False, server_default="0"
    ),
    UniqueConstraint("source_id", "image_path"),
    _column("image_id", RowNumber, "Number of that image", "meta.id.cross"),
    # A light curve is one run of this index: what it shows stands in it, and nothing is fetched from the table.
    Index(
        "ix_photometry_curve", "source_id", "mjd", "image_id", "flux_jy", "flux_err_jy", "peak_jyb", "peak_err_jyb",
        "snr", "flags",
    ),
    Index(None, "image_path"),
)  # fmt: skip

caltables = Table(
    "caltables",
    metadata,
    _row_number(),
    _column("set_name", Text, "Set of tables that are applied together", "meta.id", nullable=False),
    _path("path", "Path of the table", unique=True),
    _column("table_type", Text, "Kind of solutions: K, BP, GP, ...", "meta.code.class", nullable=False),
    _column("order_index", Integer, "Place in the order of application", "meta.number", nullable=False),
    _column("cal_field", Text, "Calibrator", "meta.id;src.calib"),
    _column("refant", Text, "Reference antenna", "meta.id;instr"),
    _unix("created_at", "Making of the table", "time.creation", nullable=False),
    _mjd("valid_start_mjd", "Begin of validity (NULL is no limit)", "time.start"),
    _mjd("valid_end_mjd", "End of validity (NULL is no limit)", "time.end"),
    _column("status", Text, "active, retired or failed", "meta.code.status", nullable=False, server_default="active"),
    _column("notes", Text, "Remarks", "meta.note"),
    _column("source_ms_path", Identifier, "Measurement Set it was solved from", "meta.ref.url"),
    _column("solver_command", Text, "Call of the solver", "meta.note;meta.software"),
    _column("solver_version", Text, "Version of the solver", "meta.version;meta.software"),
    _column("solver_params", Json, "Parameters of the solver", "meta.note;meta.software"),
    _column("quality_metrics", Json, "Numbers on the quality of the solutions", "meta.code.qual;stat"),
    CheckConstraint("status IN ('active', 'retired', 'failed')", name="status"),
    Index(None, "set_name"),
    Index(None, "source_ms_path", "order_index"),
    Index(None, "created_at", "path"),
    # The newest set that is valid at a time is found in this index, from its end, without a look at the table.
    Index("ix_caltables_newest", "created_at", "set_name", "status", "valid_start_mjd", "valid_end_mjd"),
)

jobs = Table(
    "jobs",
    metadata,
    _row_number(),
    _column("type", Text, "Kind of job", "meta.code.class", nullable=False, server_default="pipeline"),
    _column("status", Text, "pending, running, completed or failed", "meta.code.status", nullable=False),
    _path("ms_path", "Measurement Set of the run"),
    _column("run_id", Identifier, "Name of the run", "meta.id;meta.main", nullable=False, unique=True),
    _column("group_id", Identifier, "Stamp of the group of subband files, UTC", "meta.id;obs"),
    _column("workflow_id", Identifier, "Workflow of the task queue", "meta.id"),
    _column("params", Json, "Parameters of the run", "meta.note"),
    _column("logs", Text, "Remarks of the run", "meta.note"),
    _column("artifacts", Json, "Paths of what the run made", "meta.ref.url"),
    _unix("created_at", "Order of the run", "time.creation", nullable=False),
    _unix("started_at", "Begin of the run", "time.start;time.processing"),
    _unix("finished_at", "End of the run", "time.end;time.processing"),
    _column("error", Text, "Why the run failed", "meta.note"),
    CheckConstraint("status IN ('pending', 'running', 'completed', 'failed')", name="status"),
    Index(None, "created_at", "id"),
    Index(None, "status", "created_at", "id"),
    Index(None, "started_at", "id"),
    Index(None, "finished_at", "id"),
    Index(None, "ms_path"),
    Index(None, "workflow_id"),
)

batch_jobs = Table(
    "batch_jobs",
    metadata,
    _row_number(),
    _column("type", Text, "Kind of batch", "meta.code.class", nullable=False),
    _unix("created_at", "Order of the batch", "time.creation", nullable=False),
    _column("status", Text, "pending, running, done, failed or cancelled", "meta.code.status", nullable=False),
    _column("total_items", Integer, "Items", "meta.number", nullable=False),
    _column("completed_items", Integer, "Items done", "meta.number", nullable=False, server_default="0"),
    _column("failed_items", Integer, "Items failed", "meta.number", nullable=False, server_default="0"),
    _column("params", Json, "Parameters of the batch", "meta.note"),
    Index(None, "created_at", "id"),
    Index(None, "status"),
)

batch_job_items = Table(
    "batch_job_items",
    metadata,
    _row_number(),
    _column(
        "batch_id", RowNumber, "Its batch", "meta.id.parent", "", ForeignKey("batch_jobs.id", ondelete="CASCADE"),
        nullable=False,
    ),
    _path("ms_path", "What is worked on: a Measurement Set, or another name of the item"),
    _column("job_id", RowNumber, "Job of the item", "meta.id", "", ForeignKey("jobs.id", ondelete="SET NULL")),
    _column("status", Text, "pending, running, done, failed or cancelled", "meta.code.status", nullable=False),
    _column("error", Text, "Why it failed", "meta.note"),
    _unix("started_at", "Begin of the work", "time.start;time.processing"),
    _unix("completed_at", "End of the work", "time.end;time.processing"),
    _column("data_id", Text, "Name of the data product", "meta.id"),
    Index(None, "batch_id"),
    Index(None, "ms_path"),
)  # fmt: skip

hdf5_files = Table(
    "hdf5_files",
    metadata,
    _column("path", Identifier, "Path of the subband file", "meta.id;meta.main", primary_key=True),
    _column("filename", Identifier, "Name of the file", "meta.id;meta.file", nullable=False),
    _column("group_id", Identifier, "Stamp of its group, UTC", "meta.id;obs", nullable=False),
    _column("subband_code", Text, "Subband as in the name, sb00 to sb15", "meta.id;em.freq", nullable=False),
    _column("subband_num", Integer, "Number of the subband, 0 to 15", "meta.number;em.freq"),
    _column("timestamp_iso", Text, "Time stamp of the name, ISO 8601 (UTC)", "time.start;obs"),
    _mjd("timestamp_mjd", "Time stamp of the name", "time.start;obs"),
    _column("file_size_bytes", BigInteger, "Size of the file", "phys.size;meta.file", "byte"),
    _unix("modified_time", "Last change of the file", "time;meta.file"),
    _unix("indexed_at", "Finding of the file", "time.processing", nullable=False),
    _column("stored", Flag, "1 while the file is there", "meta.code", nullable=False, server_default="1"),
    _column("ra_deg", Number, "Right ascension of the pointing (ICRS)", "pos.eq.ra", "deg"),
    _column("dec_deg", Number, "Declination of the pointing (ICRS)", "pos.eq.dec", "deg"),
    _column("obs_date", Text, "Day of the observation (UTC)", "time.epoch;obs"),
    _column("obs_time", Text, "Time of the day of the observation (UTC)", "time.epoch;obs"),
    Index(None, "group_id", "subband_code"),
    Index(None, "timestamp_mjd"),
    Index(None, "stored"),
)

_QUALITY = "excellent, good, marginal, poor or unknown"

image_qa = Table(
    "image_qa",
    metadata,
    _row_number(),
    _path("ms_path", "Measurement Set of the image"),
    _column("job_id", RowNumber, "Job that measured it", "meta.id", nullable=False),
    _path("image_path", "Image that was measured"),
    _column("rms_noise", Number, "Noise (rms)", "stat.stdev;phot.flux.density", "Jy / beam"),
    _column("peak_flux", Number, "Brightest pixel", "phot.flux.density;stat.max", "Jy / beam"),
    _column("dynamic_range", Number, "Brightest pixel over noise", "stat.snr;stat.max"),
    _column("beam_major", Number, "Synthesised beam, major axis (FWHM)", "phys.angSize;instr.beam", "arcsec"),
    _column("beam_minor", Number, "Synthesised beam, minor axis (FWHM)", "phys.angSize;instr.beam", "arcsec"),
    _column("beam_pa", Number, "Synthesised beam, position angle north to east", "pos.posAng;instr.beam", "deg"),
    _column("num_sources", Integer, "Sources found", "meta.number;src"),
    _column("thumbnail_path", Text, "Path of the preview", "meta.ref.url"),
    _column("overall_quality", Text, _QUALITY, "meta.code.qual"),
    _unix("timestamp", "Making of the measurement", "time.processing", nullable=False),
    Index(None, "image_path"),
    Index(None, "ms_path"),
)

calibration_qa = Table(
    "calibration_qa",
    metadata,
    _row_number(),
    _path("ms_path", "Measurement Set that was solved"),
    _column("job_id", RowNumber, "Job that measured it", "meta.id", nullable=False),
    _column("k_metrics", Json, "Numbers on the delays", "meta.code.qual;stat"),
    _column("bp_metrics", Json, "Numbers on the bandpass", "meta.code.qual;stat"),
    _column("g_metrics", Json, "Numbers on the gains", "meta.code.qual;stat"),
    _column("overall_quality", Text, _QUALITY, "meta.code.qual"),
    _column("flags_total", Number, "Flagged part of the solutions, 0 to 1", "stat.filling"),
    _column("per_spw_stats", Json, "Numbers on each spectral window", "meta.code.qual;stat"),
    _unix("timestamp", "Making of the measurement", "time.processing", nullable=False),
    Index(None, "ms_path"),
)

provenance = Table(
    "provenance",
    metadata,
    _row_number(),
    _run(nullable=False),
    _column("stage", Identifier, "Stage of the run (task name)", "meta.code.class", nullable=False),
    _column("task_id", Identifier, "Task of the queue", "meta.id", nullable=False),
    _column("attempt", Integer, "Attempt that succeeded, from 1", "meta.number", nullable=False),
    _column("code_version", Text, "Version of this software", "meta.version;meta.software", nullable=False),
    _column("host", Text, "Machine", "meta.id", nullable=False),
    _unix("started_at", "Begin of the stage", "time.start;time.processing", nullable=False),
    _unix("finished_at", "End of the stage", "time.end;time.processing", nullable=False),
    _column("cpu_s", Number, "CPU time", "time.duration;time.processing", "s"),
    _column("peak_rss_bytes", BigInteger, "Most memory in use", "phys.size;stat.max", "byte"),
    _column("params", Json, "Parameters of the stage", "meta.note", nullable=False),
    _column("summary", Json, "What the stage says about its product", "meta.note", nullable=False),
    UniqueConstraint("run_id", "stage"),
)

provenance_files = Table(
    "provenance_files",
    metadata,
    _row_number(),
    _column(
        "provenance_id", RowNumber, "Stage that used it", "meta.id.parent", "",
        ForeignKey("provenance.id", ondelete="CASCADE"), nullable=False,
    ),
    _path("path", "Path of the file or directory"),
    _column("role", Text, "input or output", "meta.code", nullable=False),
    _column("kind", Text, "uvh5, ms, caltable, image, catalogue, ...", "meta.code.class", nullable=False),
    _column("size_bytes", BigInteger, "Size", "phys.size;meta.file", "byte", nullable=False),
    _column("sha256", Text, "SHA-256 checksum, hexadecimal", "meta.checksum", nullable=False),
    CheckConstraint("role IN ('input', 'output')", name="role"),
    UniqueConstraint("provenance_id", "path", "role"),
    Index(None, "path"),
)  # fmt: skip

api_keys = Table(
    "api_keys",
    metadata,
    _column("id", Identifier, "Public part of the key", "meta.id;meta.main", primary_key=True),
    _column("name", Text, "Whose key it is, for what", "meta.note", nullable=False),
    _column("secret_sha256", Text, "SHA-256 of the secret part, hexadecimal", "meta.checksum", nullable=False),
    _column("scopes", Json, "What its holder may do", "meta.code", nullable=False),
    _unix("created_at", "Making of the key", "time.creation", nullable=False),
    _unix("expires_at", "End of its life", "time.end"),
    _unix("last_used_at", "Last change made with it, to a minute", "time"),
    _unix("revoked_at", "When it was taken back", "time.end"),
)

audit_log = Table(
    "audit_log",
    metadata,
    _row_number(),
    _unix("at", "Begin of the change", "time", nullable=False),
    _column("actor", Text, "Who asked for it", "meta.id", nullable=False),
    _column("key_id", Identifier, "Key that was shown", "meta.id"),
    _column("client_ip", Text, "Address it came from", "meta.id"),
    _column("action", Text, "Method and name of the call", "meta.code.class", nullable=False),
    _column("path", Text, "Path that was asked: the thing that was changed", "meta.ref.url", nullable=False),
    _column("scope", Text, "Scope that it needs", "meta.code", nullable=False),
    _column("request_id", Text, "Id of the request, as in the log", "meta.id", nullable=False),
    _column("status", Integer, "HTTP status of the reply; none: it ended unforeseen", "meta.code.status"),
    _column("kind", Text, "begun, changed, ended or denied", "meta.code", nullable=False, server_default="begun"),
    _column("change_id", RowNumber, "Entry with which the change began", "meta.id.parent"),
    _column("prev_hash", Text, "Hash of the entry before", "meta.checksum"),
    _column("hash", Text, "SHA-256 of this entry and the hash before, hexadecimal", "meta.checksum"),
    Index(None, "at"),
    Index(None, "key_id"),
    Index(None, "change_id"),
)  # fmt: skip

audit_head = Table(
    "audit_head",
    metadata,
    _column("id", Integer, "1: there is one row", "meta.id;meta.main", primary_key=True, autoincrement=False),
    _column("seq", BigInteger, "Number of the newest entry of the record of changes", "meta.id", nullable=False),
    _column("hash", Text, "Its hash", "meta.checksum", nullable=False),
    CheckConstraint("id = 1", name="id"),
)

_COUNTED_TABLE = "Table that is counted"

table_counts = Table(
    "table_counts",
    metadata,
    _column("name", Identifier, _COUNTED_TABLE, "meta.id;meta.table", primary_key=True),
    _column(
        "bucket", Identifier, "Stage, status or type of the rows; empty for none", "meta.code.class", primary_key=True
    ),
    _column("n", BigInteger, "Rows of it", "meta.number", nullable=False),
)
"""How many rows a table has: kept by triggers inside each write, so that nobody has to count."""

table_generations = Table(
    "table_generations",
    metadata,
    _column("name", Identifier, _COUNTED_TABLE, "meta.id;meta.table", primary_key=True),
    _column("value", BigInteger, "Number of the last write to the table", "meta.version", nullable=False),
)
"""Another one after every write to a table: what was read under another generation may be out of date."""

work_orders = Table(
    "work_orders",
    metadata,
    _column("id", Identifier, "Name of the job", "meta.id;meta.main", primary_key=True),
    _column("kind", Text, "Kind of work", "meta.code.class", nullable=False),
    _column("target", Text, "Where it is done: rq or absurd", "meta.code.class", nullable=False),
    _column("arguments", Json, "What it is done with", "meta.note", nullable=False),
    _column("run_id", Identifier, "Run that it makes", "meta.id"),
    _column("meta", Json, "Remarks: who asked for it, of which run", "meta.note"),
    _column(
        "status", Text, "accepted, sent, running, finished, failed or canceled", "meta.code.status", nullable=False
    ),
    _column("attempts", Integer, "Times it was begun", "meta.number", nullable=False, server_default="0"),
    _column("claim", Identifier, "Who works on it", "meta.id"),
    _unix("created_at", "When it was accepted", "time.creation", nullable=False),
    _unix("sent_at", "When the queue last took it", "time"),
    _unix("started_at", "Begin of the work", "time.start;time.processing"),
    _unix("beat_at", "Last sign of life of who works on it", "time"),
    _unix("ended_at", "End of the work", "time.end;time.processing"),
    _column("result", Json, "What came of it", "meta.note"),
    _column("error", Text, "Why it failed", "meta.note"),
    CheckConstraint("target IN ('rq', 'absurd')", name="target"),
    CheckConstraint("status IN ('accepted', 'sent', 'running', 'finished', 'failed', 'canceled')", name="status"),
    Index(None, "status", "created_at"),
    Index(None, "created_at", "id"),
    Index(None, "run_id"),
)
"""Accepted work: a row before the caller is told; until it has ended it is put to its queue again."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _column("actor", Identifier, "Who asked", "meta.id", primary_key=True),
    _column("key", Identifier, "Name that the caller gave the request", "meta.id", primary_key=True),
    _column("fingerprint", Text, "SHA-256 of method, path and body", "meta.checksum", nullable=False),
    _unix("created_at", "First request", "time.creation", nullable=False),
    _column("status", Integer, "HTTP status of the reply; none while it is made", "meta.code.status"),
    _column("reply", Text, "Body of the reply", "meta.note"),
    Index(None, "created_at"),
)
"""Replies to requests that create something, so that the same request again creates nothing."""

event_counts = Table(
    "event_counts",
    metadata,
    _column("name", Identifier, "What happened", "meta.id", primary_key=True),
    _column("label", Identifier, "Its first label, or upper bound of its value", "meta.code.class", primary_key=True),
    _column("second_label", Identifier, "Its second label, empty for none", "meta.code.class", primary_key=True),
    _column("n", BigInteger, "How often it happened", "meta.number", nullable=False),
    _column("total", Number, "Sum of its values", "stat", nullable=False),
)  # kept by triggers inside each write; no number falls

service_history = Table(
    "service_history",
    metadata,
    _column("service", Identifier, "Name of the service", "meta.id", primary_key=True),
    _unix("minute_at", "Begin of the minute", "time", primary_key=True),
    _column("status", Identifier, "running, stopped, degraded or error", "meta.code.status", primary_key=True),
    _column("response_ms", Number, "Time to its answer", "time.duration", "ms"),
    _column("error", Text, "Why it was not running", "meta.note"),
)  # one row for each state that was seen in a minute; the last day is kept
