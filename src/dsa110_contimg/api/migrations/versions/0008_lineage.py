"""Versions of images: parents, families, the parameters of the imager; masks count as writes."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from dsa110_contimg.api.migrations import counters

revision = "0008"
down_revision = "0007"
branch_labels: Any = None
depends_on: Any = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INDEXES = {"parent_id": "ix_images_parent_id_version", "root_id": "ix_images_root_id_version"}


def upgrade() -> None:
    """Add the columns, the table of families, and the count of regions, of which an image shows the newest mask."""
    op.add_column("images", sa.Column("parent_id", ROW_NUMBER))
    op.add_column("images", sa.Column("root_id", ROW_NUMBER))
    op.add_column("images", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("images", sa.Column("imaging_params", sa.Text()))
    for column, name in INDEXES.items():
        op.create_index(op.f(name), "images", [column, "version"], unique=column == "root_id")
    op.create_table(
        "image_families",
        sa.Column("root_id", ROW_NUMBER, autoincrement=False, nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("root_id", name=op.f("pk_image_families")),
    )
    counters.keep("image_regions")


def downgrade() -> None:
    """Drop them; the images stay, and no longer tell what they are versions of."""
    counters.release("image_regions")
    op.drop_table("image_families")
    for name in INDEXES.values():
        op.drop_index(op.f(name), "images")
    for name in ("imaging_params", "version", "root_id", "parent_id"):
        op.drop_column("images", name)
