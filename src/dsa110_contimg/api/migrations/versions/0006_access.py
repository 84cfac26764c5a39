"""The record of changes as a chain."""

from typing import Any

revision = "0006"
down_revision = "0005"
branch_labels: Any = None
depends_on: Any = None


def upgrade() -> None:
    """Create the tables."""


def downgrade() -> None:
    """Drop the tables with their rows."""
