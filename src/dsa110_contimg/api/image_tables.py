"""Tables of images, and of the families that versions of one image are.

An image that was made again of the same visibilities has the image it was made after as its parent, and the first of
them all as its root. No foreign key ties it to them: when one is deleted, its descendants stay what they are.
"""

from sqlalchemy import ForeignKey, Index, Integer, Table, Text

from dsa110_contimg.api.column_kinds import Flag, Identifier, Json, Number, RowNumber
from dsa110_contimg.api.columns import column, metadata, mjd, path, row_number, run, unix

images = Table(
    "images",
    metadata,
    row_number(),
    path("path", "Path of the image", unique=True),
    path("ms_path", "Measurement Set it was made of", ForeignKey("ms_index.path", ondelete="CASCADE")),
    unix("created_at", "Making of the image", "time.creation", nullable=False),
    column("type", Text, "Kind of image: 5min, image, residual, mosaic, ...", "meta.code.class", nullable=False),
    column("format", Text, "File format: fits or casa", "meta.code", nullable=False, server_default="fits"),
    column("beam_major_arcsec", Number, "Synthesised beam, major axis (FWHM)", "phys.angSize;instr.beam", "arcsec"),
    column("beam_minor_arcsec", Number, "Synthesised beam, minor axis (FWHM)", "phys.angSize;instr.beam", "arcsec"),
    column("beam_pa_deg", Number, "Synthesised beam, position angle north to east", "pos.posAng;instr.beam", "deg"),
    column(
        "noise_jy",
        Number,
        "Measured noise (rms), not corrected for the primary beam",
        "stat.stdev;phot.flux.density",
        "Jy / beam",
    ),
    column("thermal_noise_jy", Number, "Expected thermal noise", "instr.sensitivity;phot.flux.density", "Jy / beam"),
    column(
        "peak_flux_jy",
        Number,
        "Brightest pixel, not corrected for the primary beam",
        "phot.flux.density;stat.max",
        "Jy / beam",
    ),
    column("dynamic_range", Number, "Brightest pixel over noise", "stat.snr;stat.max"),
    column("pbcor", Flag, "1 when corrected for the primary beam", "meta.code", nullable=False, server_default="0"),
    column("field_name", Text, "Name of the field", "meta.id;obs.field"),
    column("center_ra_deg", Number, "Right ascension of the centre (ICRS)", "pos.eq.ra", "deg"),
    column("center_dec_deg", Number, "Declination of the centre (ICRS)", "pos.eq.dec", "deg"),
    column("imsize_x", Integer, "Width", "meta.number;instr.pixel", "pix"),
    column("imsize_y", Integer, "Height", "meta.number;instr.pixel", "pix"),
    column("cellsize_arcsec", Number, "Pixel scale", "instr.scale", "arcsec"),
    column("freq_ghz", Number, "Reference frequency", "em.freq", "GHz"),
    column("bandwidth_mhz", Number, "Bandwidth", "instr.bandwidth", "MHz"),
    column("integration_sec", Number, "Integration time", "time.duration;obs.exposure", "s"),
    mjd("mid_mjd", "Middle of the observation", "time.epoch;obs.exposure"),
    run(),
    column("qa_grade", Text, "Verdict on the quality: good, warn or fail", "meta.code.qual"),
    column("qa_summary", Text, "The verdict in words", "meta.note"),
    column("qa_metrics", Json, "The numbers behind the verdict", "meta.code.qual;stat"),
    column(
        "parent_id",
        RowNumber,
        "Image that it is another version of; there may be no such image any more",
        "meta.id.parent",
    ),
    column("root_id", RowNumber, "First image of its family; none for the first itself", "meta.id.assoc"),
    column("version", Integer, "Number within the family, from 1", "meta.version", nullable=False, server_default="1"),
    column(
        "imaging_params",
        Json,
        "Parameters of the imager: imsize, cell, niter, robust, weighting",
        "meta.note;meta.software",
    ),
    column(
        "superseded_by",
        Identifier,
        "Run of the same observation whose measurements count instead of those in this image; none: these count",
        "meta.id.assoc",
    ),
    Index(None, "created_at", "id"),
    Index(None, "ms_path", "created_at"),
    Index(None, "run_id"),
    Index(None, "type", "created_at", "id"),
    Index(None, "qa_grade", "created_at", "id"),
    Index(None, "mid_mjd", "id"),
    Index(None, "noise_jy", "id"),
    Index(None, "dynamic_range", "id"),
    Index(None, "peak_flux_jy", "id"),
    Index(None, "parent_id", "version"),
    Index(None, "root_id", "version", unique=True),
    sqlite_autoincrement=True,  # else the id of the newest image would be free when it is deleted
)

image_families = Table(
    "image_families",
    metadata,
    column(
        "root_id", RowNumber, "First image of the family", "meta.id;meta.main", primary_key=True, autoincrement=False
    ),
    column("last_version", Integer, "Highest number that was given to a version", "meta.version", nullable=False),
)
"""Numbers of versions are given when they are ordered, and never twice, also when nothing comes of the order."""
