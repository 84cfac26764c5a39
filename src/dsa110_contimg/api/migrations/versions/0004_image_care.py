"""Ratings, regions and versions of images."""

from typing import Any

revision = "0004"
down_revision = "0003"
branch_labels: Any = None
depends_on: Any = None


def upgrade() -> None:
    """Create the tables."""


def downgrade() -> None:
    """Drop the tables with their rows."""
