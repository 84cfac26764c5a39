"""Tables of the products database."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels: Any = None
depends_on: Any = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def _create_batch_jobs() -> None:
    op.create_table(
        "batch_jobs",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("total_items", sa.Integer(), nullable=False),
        sa.Column("completed_items", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed_items", sa.Integer(), server_default="0", nullable=False),
        sa.Column("params", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch_jobs")),
    )
    op.create_index(op.f("ix_batch_jobs_created_at_id"), "batch_jobs", ["created_at", "id"])
    op.create_index(op.f("ix_batch_jobs_status"), "batch_jobs", ["status"])


def _create_calibration_qa() -> None:
    op.create_table(
        "calibration_qa",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("ms_path", IDENTIFIER, nullable=False),
        sa.Column("job_id", ROW_NUMBER, nullable=False),
        sa.Column("k_metrics", sa.Text()),
        sa.Column("bp_metrics", sa.Text()),
        sa.Column("g_metrics", sa.Text()),
        sa.Column("overall_quality", sa.Text()),
        sa.Column("flags_total", sa.Double()),
        sa.Column("per_spw_stats", sa.Text()),
        sa.Column("timestamp", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibration_qa")),
    )
    op.create_index(op.f("ix_calibration_qa_ms_path"), "calibration_qa", ["ms_path"])


def _create_caltables() -> None:
    op.create_table(
        "caltables",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("set_name", sa.Text(), nullable=False),
        sa.Column("path", IDENTIFIER, nullable=False),
        sa.Column("table_type", sa.Text(), nullable=False),
        sa.Column("order_index", sa.Integer(), nullable=False),
        sa.Column("cal_field", sa.Text()),
        sa.Column("refant", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("valid_start_mjd", sa.Double()),
        sa.Column("valid_end_mjd", sa.Double()),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("notes", sa.Text()),
        sa.Column("source_ms_path", IDENTIFIER),
        sa.Column("solver_command", sa.Text()),
        sa.Column("solver_version", sa.Text()),
        sa.Column("solver_params", sa.Text()),
        sa.Column("quality_metrics", sa.Text()),
        sa.CheckConstraint("status IN ('active', 'retired', 'failed')", name=op.f("ck_caltables_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_caltables")),
        sa.UniqueConstraint("path", name=op.f("uq_caltables_path")),
    )
    op.create_index(op.f("ix_caltables_created_at_path"), "caltables", ["created_at", "path"])
    op.create_index(op.f("ix_caltables_set_name"), "caltables", ["set_name"])
    op.create_index(op.f("ix_caltables_source_ms_path_order_index"), "caltables", ["source_ms_path", "order_index"])
    op.create_index(
        op.f("ix_caltables_valid_start_mjd_valid_end_mjd"), "caltables", ["valid_start_mjd", "valid_end_mjd"]
    )


def _create_hdf5_files() -> None:
    op.create_table(
        "hdf5_files",
        sa.Column("path", IDENTIFIER, nullable=False),
        sa.Column("filename", IDENTIFIER, nullable=False),
        sa.Column("group_id", IDENTIFIER, nullable=False),
        sa.Column("subband_code", sa.Text(), nullable=False),
        sa.Column("subband_num", sa.Integer()),
        sa.Column("timestamp_iso", sa.Text()),
        sa.Column("timestamp_mjd", sa.Double()),
        sa.Column("file_size_bytes", sa.BigInteger()),
        sa.Column("modified_time", sa.Double()),
        sa.Column("indexed_at", sa.Double(), nullable=False),
        sa.Column("stored", sa.Integer(), server_default="1", nullable=False),
        sa.Column("ra_deg", sa.Double()),
        sa.Column("dec_deg", sa.Double()),
        sa.Column("obs_date", sa.Text()),
        sa.Column("obs_time", sa.Text()),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_hdf5_files")),
    )
    op.create_index(op.f("ix_hdf5_files_group_id_subband_code"), "hdf5_files", ["group_id", "subband_code"])
    op.create_index(op.f("ix_hdf5_files_stored"), "hdf5_files", ["stored"])
    op.create_index(op.f("ix_hdf5_files_timestamp_mjd"), "hdf5_files", ["timestamp_mjd"])


def _create_image_qa() -> None:
    op.create_table(
        "image_qa",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("ms_path", IDENTIFIER, nullable=False),
        sa.Column("job_id", ROW_NUMBER, nullable=False),
        sa.Column("image_path", IDENTIFIER, nullable=False),
        sa.Column("rms_noise", sa.Double()),
        sa.Column("peak_flux", sa.Double()),
        sa.Column("dynamic_range", sa.Double()),
        sa.Column("beam_major", sa.Double()),
        sa.Column("beam_minor", sa.Double()),
        sa.Column("beam_pa", sa.Double()),
        sa.Column("num_sources", sa.Integer()),
        sa.Column("thumbnail_path", sa.Text()),
        sa.Column("overall_quality", sa.Text()),
        sa.Column("timestamp", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_qa")),
    )
    op.create_index(op.f("ix_image_qa_image_path"), "image_qa", ["image_path"])
    op.create_index(op.f("ix_image_qa_ms_path"), "image_qa", ["ms_path"])


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("type", sa.Text(), server_default="pipeline", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("ms_path", IDENTIFIER, nullable=False),
        sa.Column("run_id", IDENTIFIER, nullable=False),
        sa.Column("group_id", IDENTIFIER),
        sa.Column("workflow_id", IDENTIFIER),
        sa.Column("params", sa.Text()),
        sa.Column("logs", sa.Text()),
        sa.Column("artifacts", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("finished_at", sa.Double()),
        sa.Column("error", sa.Text()),
        sa.CheckConstraint("status IN ('pending', 'running', 'completed', 'failed')", name=op.f("ck_jobs_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("run_id", name=op.f("uq_jobs_run_id")),
    )
    op.create_index(op.f("ix_jobs_created_at_id"), "jobs", ["created_at", "id"])
    op.create_index(op.f("ix_jobs_ms_path"), "jobs", ["ms_path"])
    op.create_index(op.f("ix_jobs_status"), "jobs", ["status"])


def _create_ms_index() -> None:
    op.create_table(
        "ms_index",
        sa.Column("path", IDENTIFIER, nullable=False),
        sa.Column("start_mjd", sa.Double()),
        sa.Column("end_mjd", sa.Double()),
        sa.Column("mid_mjd", sa.Double()),
        sa.Column("processed_at", sa.Double()),
        sa.Column("status", sa.Text()),
        sa.Column("stage", sa.Text()),
        sa.Column("stage_updated_at", sa.Double()),
        sa.Column("cal_applied", sa.Integer(), server_default="0", nullable=False),
        sa.Column("imagename", sa.Text()),
        sa.Column("ra_deg", sa.Double()),
        sa.Column("dec_deg", sa.Double()),
        sa.Column("pointing_ra_deg", sa.Double()),
        sa.Column("pointing_dec_deg", sa.Double()),
        sa.Column("field_name", sa.Text()),
        sa.Column("group_id", IDENTIFIER),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("run_id", IDENTIFIER),
        sa.Column("flagged_fraction", sa.Double()),
        sa.Column("missing_subbands", sa.Text()),
        sa.Column("quality_note", sa.Text()),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_ms_index")),
    )
    op.create_index(op.f("ix_ms_index_group_id"), "ms_index", ["group_id"])
    op.create_index(op.f("ix_ms_index_mid_mjd_path"), "ms_index", ["mid_mjd", "path"])
    op.create_index(op.f("ix_ms_index_run_id"), "ms_index", ["run_id"])
    op.create_index(op.f("ix_ms_index_stage"), "ms_index", ["stage"])
    op.create_index(op.f("ix_ms_index_status"), "ms_index", ["status"])


def _create_provenance() -> None:
    op.create_table(
        "provenance",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("run_id", IDENTIFIER, nullable=False),
        sa.Column("stage", IDENTIFIER, nullable=False),
        sa.Column("task_id", IDENTIFIER, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=False),
        sa.Column("cpu_s", sa.Double()),
        sa.Column("peak_rss_bytes", sa.BigInteger()),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provenance")),
        sa.UniqueConstraint("run_id", "stage", name=op.f("uq_provenance_run_id_stage")),
    )


def _create_sources() -> None:
    op.create_table(
        "sources",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ra_deg", sa.Double(), nullable=False),
        sa.Column("dec_deg", sa.Double(), nullable=False),
        sa.Column("catalog_match", sa.Text()),
        sa.Column("source_type", sa.Text()),
        sa.Column("first_detected_mjd", sa.Double()),
        sa.Column("last_detected_mjd", sa.Double()),
        sa.Column("detection_count", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
    )
    op.create_index(op.f("ix_sources_dec_deg_ra_deg"), "sources", ["dec_deg", "ra_deg"])


def _create_batch_job_items() -> None:
    op.create_table(
        "batch_job_items",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("batch_id", ROW_NUMBER, nullable=False),
        sa.Column("ms_path", IDENTIFIER, nullable=False),
        sa.Column("job_id", ROW_NUMBER),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("started_at", sa.Double()),
        sa.Column("completed_at", sa.Double()),
        sa.Column("data_id", sa.Text()),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batch_jobs.id"], name=op.f("fk_batch_job_items_batch_id_batch_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_batch_job_items_job_id_jobs"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch_job_items")),
    )
    op.create_index(op.f("ix_batch_job_items_batch_id"), "batch_job_items", ["batch_id"])
    op.create_index(op.f("ix_batch_job_items_ms_path"), "batch_job_items", ["ms_path"])


def _create_images() -> None:
    op.create_table(
        "images",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("path", IDENTIFIER, nullable=False),
        sa.Column("ms_path", IDENTIFIER, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), server_default="fits", nullable=False),
        sa.Column("beam_major_arcsec", sa.Double()),
        sa.Column("beam_minor_arcsec", sa.Double()),
        sa.Column("beam_pa_deg", sa.Double()),
        sa.Column("noise_jy", sa.Double()),
        sa.Column("thermal_noise_jy", sa.Double()),
        sa.Column("peak_flux_jy", sa.Double()),
        sa.Column("dynamic_range", sa.Double()),
        sa.Column("pbcor", sa.Integer(), server_default="0", nullable=False),
        sa.Column("field_name", sa.Text()),
        sa.Column("center_ra_deg", sa.Double()),
        sa.Column("center_dec_deg", sa.Double()),
        sa.Column("imsize_x", sa.Integer()),
        sa.Column("imsize_y", sa.Integer()),
        sa.Column("cellsize_arcsec", sa.Double()),
        sa.Column("freq_ghz", sa.Double()),
        sa.Column("bandwidth_mhz", sa.Double()),
        sa.Column("integration_sec", sa.Double()),
        sa.Column("mid_mjd", sa.Double()),
        sa.Column("run_id", IDENTIFIER),
        sa.Column("qa_grade", sa.Text()),
        sa.Column("qa_summary", sa.Text()),
        sa.Column("qa_metrics", sa.Text()),
        sa.ForeignKeyConstraint(
            ["ms_path"], ["ms_index.path"], name=op.f("fk_images_ms_path_ms_index"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("path", name=op.f("uq_images_path")),
    )
    op.create_index(op.f("ix_images_created_at_id"), "images", ["created_at", "id"])
    op.create_index(op.f("ix_images_ms_path_created_at"), "images", ["ms_path", "created_at"])
    op.create_index(op.f("ix_images_run_id"), "images", ["run_id"])


def _create_provenance_files() -> None:
    op.create_table(
        "provenance_files",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("provenance_id", ROW_NUMBER, nullable=False),
        sa.Column("path", IDENTIFIER, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.CheckConstraint("role IN ('input', 'output')", name=op.f("ck_provenance_files_role")),
        sa.ForeignKeyConstraint(
            ["provenance_id"],
            ["provenance.id"],
            name=op.f("fk_provenance_files_provenance_id_provenance"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provenance_files")),
        sa.UniqueConstraint("provenance_id", "path", "role", name=op.f("uq_provenance_files_provenance_id_path_role")),
    )
    op.create_index(op.f("ix_provenance_files_path"), "provenance_files", ["path"])


def _create_photometry() -> None:
    op.create_table(
        "photometry",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("source_id", IDENTIFIER, nullable=False),
        sa.Column("image_path", IDENTIFIER, nullable=False),
        sa.Column("ra_deg", sa.Double(), nullable=False),
        sa.Column("dec_deg", sa.Double(), nullable=False),
        sa.Column("nvss_flux_mjy", sa.Double()),
        sa.Column("peak_jyb", sa.Double()),
        sa.Column("peak_err_jyb", sa.Double()),
        sa.Column("flux_jy", sa.Double()),
        sa.Column("flux_err_jy", sa.Double()),
        sa.Column("normalized_flux_jy", sa.Double()),
        sa.Column("normalized_flux_err_jy", sa.Double()),
        sa.Column("snr", sa.Double()),
        sa.Column("local_rms", sa.Double()),
        sa.Column("sep_from_center_deg", sa.Double()),
        sa.Column("mjd", sa.Double()),
        sa.Column("measured_at", sa.Double()),
        sa.Column("flags", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["image_path"], ["images.path"], name=op.f("fk_photometry_image_path_images"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name=op.f("fk_photometry_source_id_sources")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_photometry")),
        sa.UniqueConstraint("source_id", "image_path", name=op.f("uq_photometry_source_id_image_path")),
    )
    op.create_index(op.f("ix_photometry_image_path"), "photometry", ["image_path"])
    op.create_index(op.f("ix_photometry_source_id_mjd"), "photometry", ["source_id", "mjd"])


def upgrade() -> None:
    """Create the tables."""
    _create_batch_jobs()
    _create_calibration_qa()
    _create_caltables()
    _create_hdf5_files()
    _create_image_qa()
    _create_jobs()
    _create_ms_index()
    _create_provenance()
    _create_sources()
    _create_batch_job_items()
    _create_images()
    _create_provenance_files()
    _create_photometry()


def downgrade() -> None:
    """Drop the tables with their rows."""
    for table in (
        "photometry",
        "provenance_files",
        "images",
        "batch_job_items",
        "sources",
        "provenance",
        "ms_index",
        "jobs",
        "image_qa",
        "hdf5_files",
        "caltables",
        "calibration_qa",
        "batch_jobs",
    ):
        op.drop_table(table)
