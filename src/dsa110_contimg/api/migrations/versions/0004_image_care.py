"""Ratings, masks and regions of images."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels: Any = None
depends_on: Any = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "image_ratings",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("image_id", ROW_NUMBER, nullable=False),
        sa.Column("rater", IDENTIFIER, nullable=False),
        sa.Column("rating", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.Text()),
        sa.Column("tag", sa.Text()),
        sa.Column("comment", sa.Text()),
        sa.Column("rated_at", sa.Double(), nullable=False),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name=op.f("ck_image_ratings_rating")),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_image_ratings_image_id_images"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_ratings")),
        sa.UniqueConstraint("image_id", "rater", name=op.f("uq_image_ratings_image_id_rater")),
    )
    op.create_table(
        "image_regions",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("image_id", ROW_NUMBER, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("region_count", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_image_regions_image_id_images"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_regions")),
    )
    op.create_index(
        op.f("ix_image_regions_image_id_kind_created_at"), "image_regions", ["image_id", "kind", "created_at"]
    )


def downgrade() -> None:
    """Drop the tables with their rows."""
    op.drop_table("image_regions")
    op.drop_table("image_ratings")
