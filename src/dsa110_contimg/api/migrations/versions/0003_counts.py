"""What lists and statistics need: counts, generations, running sums of sources."""

import dataclasses
import itertools
import operator
from typing import Any

import sqlalchemy as sa
from alembic import op

from dsa110_contimg.api.flux_sums import Epoch, FluxSums
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
EPOCHS = sa.text(
    "SELECT source_id, mjd, image_id, flux_jy, flux_err_jy, peak_jyb, peak_err_jyb FROM photometry "
    "ORDER BY source_id, mjd, id"
)


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
    for table, columns in ORDERS:
        op.create_index(op.f(_index_name(table, columns)), table, list(columns))
    op.create_index("ix_photometry_curve", "photometry", CURVE)


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
    rows = connection.execute(EPOCHS).fetchall()
    for source_id, epochs in itertools.groupby(rows, key=operator.itemgetter(0)):
        sums = FluxSums()
        for _, *epoch in epochs:
            sums = sums.add(Epoch(*epoch))
        values = dataclasses.asdict(sums)
        connection.execute(sa.update(SOURCES).where(SOURCES.c.id == source_id).values(values))


def _index_name(table: str, columns: tuple[str, ...]) -> str:
    return "_".join(("ix", table, *columns))
