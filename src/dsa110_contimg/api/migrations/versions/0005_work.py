"""Accepted work on its way to the queue."""

from typing import Any

revision = "0005"
down_revision = "0004"
branch_labels: Any = None
depends_on: Any = None


def upgrade() -> None:
    """Create the tables."""


def downgrade() -> None:
    """Drop the tables with their rows."""
