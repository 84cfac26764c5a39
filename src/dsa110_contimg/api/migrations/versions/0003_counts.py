"""What lists and statistics need: counts, generations, running sums of sources."""

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
    _sum_up_sources()
    counters.prepare()
    for table, bucket in COUNTED.items():
        counters.keep(table, bucket)


def downgrade() -> None:
    """Drop the tables with their rows."""
    for table in COUNTED:
        counters.release(table)
    counters.clear()
    _forget_sums()
    op.drop_table("table_generations")
    op.drop_table("table_counts")


def _sum_up_sources() -> None:
    """Add nothing yet."""


def _forget_sums() -> None:
    """Drop nothing yet."""
