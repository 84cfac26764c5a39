"""What lists and statistics need: counts, generations, running sums of sources."""

import math
from typing import Any

import sqlalchemy as sa
from alembic import op

from dsa110_contimg.api.migrations import counters

revision = "0003"
down_revision = "0002"
branch_labels: Any = None
depends_on: Any = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
# Each with the column whose values are counted apart.
COUNTED = {
    "ms_index": "stage",
    "images": "type",
    "sources": None,
    "photometry": None,
    "caltables": "status",
    "jobs": "status",
    "batch_jobs": "status",
    "batch_job_items": "status",
    "hdf5_files": None,
    "image_qa": None,
    "calibration_qa": None,
    "provenance": None,
}
SUMS = (
    "peak_flux_jy", "min_flux_jy", "max_flux_jy", "mean_flux_jy", "deviation_sum", "weight_sum", "weighted_mean_jy",
    "chi_squared", "eta", "v",
)  # fmt: skip
CURVE = [
    "source_id", "mjd", "image_id", "flux_jy", "flux_err_jy", "peak_jyb", "peak_err_jyb", "snr", "flags",
]  # fmt: skip
DROPPED: tuple[tuple[str, tuple[str, ...]], ...] = (("photometry", ("source_id", "mjd")), ("jobs", ("status",)))
ORDERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    *(("sources", (name, "id")) for name in ("ra_deg", "detection_count", "last_detected_mjd", "peak_flux_jy")),
    *(("sources", (name, "id")) for name in ("eta", "v")),
    *(("images", (name, "created_at", "id")) for name in ("type", "qa_grade")),
    *(("images", (name, "id")) for name in ("mid_mjd", "noise_jy", "dynamic_range", "peak_flux_jy")),
    *(("jobs", (name, "id")) for name in ("started_at", "finished_at")),
    ("jobs", ("status", "created_at", "id")),
)
SOURCES = sa.table(
    "sources",
    *map(sa.column, ("id", "detection_count", "first_detected_mjd", "last_detected_mjd", "latest_image_id")),
    *map(sa.column, ("flux_count", *SUMS)),
)
# In two passes, the second about the means of the first; f is the flux density and w its weight, where both are known.
SUMMED = sa.text("""
WITH pairs AS (
    SELECT source_id, mjd, peak_jyb,
        CASE WHEN flux_jy IS NULL THEN peak_jyb ELSE flux_jy END AS flux,
        CASE WHEN flux_jy IS NULL THEN peak_err_jyb ELSE flux_err_jy END AS error
    FROM photometry
), epochs AS (
    SELECT source_id, mjd, peak_jyb, CASE WHEN error > 0 THEN flux END AS f,
        CASE WHEN error > 0 AND flux IS NOT NULL THEN 1.0 / error / error END AS w
    FROM pairs
), means AS (
    SELECT source_id, count(*) AS detection_count, min(mjd) AS first_detected_mjd, max(mjd) AS last_detected_mjd,
        max(peak_jyb) AS peak_flux_jy, count(f) AS flux_count, min(f) AS min_flux_jy, max(f) AS max_flux_jy,
        avg(f) AS mean_flux_jy, sum(w) AS weight_sum, sum(w * f) / sum(w) AS weighted_mean_jy
    FROM epochs GROUP BY source_id
), spreads AS (
    SELECT epochs.source_id, sum((f - mean_flux_jy) * (f - mean_flux_jy)) AS deviation_sum,
        sum(w * (f - weighted_mean_jy) * (f - weighted_mean_jy)) AS chi_squared
    FROM epochs JOIN means ON means.source_id = epochs.source_id GROUP BY epochs.source_id
)
SELECT means.*, deviation_sum, chi_squared, (
    SELECT image_id FROM photometry AS p WHERE p.source_id = means.source_id ORDER BY mjd DESC, image_id DESC LIMIT 1
) AS latest_image_id
FROM means JOIN spreads ON spreads.source_id = means.source_id
""")
BATCH = 1000


def upgrade() -> None:
    """Create the tables and the triggers that keep them."""
    op.create_table(
        "table_counts",
        sa.Column("name", IDENTIFIER, nullable=False),
        sa.Column("bucket", IDENTIFIER, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "bucket", name=op.f("pk_table_counts")),
    )
    op.create_table(
        "table_generations",
        sa.Column("name", IDENTIFIER, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_table_generations")),
    )
    _add_sums()
    _sum_up()
    _create_orders()
    counters.prepare()
    for table, bucket in COUNTED.items():
        counters.keep(table, bucket)


def downgrade() -> None:
    """Drop the tables with their rows."""
    for table in COUNTED:
        counters.release(table)
    counters.clear()
    _drop_sums()
    op.drop_table("table_generations")
    op.drop_table("table_counts")


def _add_sums() -> None:
    """Let sources have sums, measurements the number of their image, and every order of a list an index."""
    op.add_column("photometry", sa.Column("image_id", ROW_NUMBER))
    op.execute("UPDATE photometry SET image_id = (SELECT id FROM images WHERE images.path = photometry.image_path)")
    op.add_column("sources", sa.Column("latest_image_id", ROW_NUMBER))
    op.add_column("sources", sa.Column("flux_count", sa.Integer(), server_default="0", nullable=False))
    for name in SUMS:
        op.add_column("sources", sa.Column(name, sa.Double()))
    for table, columns in DROPPED:
        op.drop_index(op.f(_index_name(table, columns)), table)
    op.create_index("ix_photometry_curve", "photometry", CURVE)


def _create_orders() -> None:
    for table, columns in ORDERS:
        op.create_index(op.f(_index_name(table, columns)), table, list(columns))


def _drop_sums() -> None:
    op.drop_index("ix_photometry_curve", "photometry")
    for table, columns in ORDERS:
        op.drop_index(op.f(_index_name(table, columns)), table)
    for table, columns in DROPPED:
        op.create_index(op.f(_index_name(table, columns)), table, list(columns))
    for name in ("latest_image_id", "flux_count", *SUMS):
        op.drop_column("sources", name)
    op.drop_column("photometry", "image_id")


def _sum_up() -> None:
    """Add up the measurements that are there."""
    connection = op.get_bind()
    keep = (
        sa.update(SOURCES)
        .where(SOURCES.c.id == sa.bindparam("source_id"))
        .values({column.name: sa.bindparam(column.name) for column in SOURCES.c if column.name != "id"})
    )
    for rows in connection.execute(SUMMED).mappings().partitions(BATCH):
        connection.execute(keep, [_with_indices(dict(row)) for row in rows])


def _with_indices(sums: dict[str, Any]) -> dict[str, Any]:
    degrees, mean = sums["flux_count"] - 1, sums["mean_flux_jy"]
    sums["eta"] = sums["chi_squared"] / degrees if degrees > 0 else None
    sums["v"] = math.sqrt(sums["deviation_sum"] / degrees) / abs(mean) if degrees > 0 and mean else None
    return sums


def _index_name(table: str, columns: tuple[str, ...]) -> str:
    return "_".join(("ix", table, *columns))
