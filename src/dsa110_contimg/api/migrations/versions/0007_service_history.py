"""States of monitored services."""

from typing import Any

revision = "0007"
down_revision = "0006"
branch_labels: Any = None
depends_on: Any = None


def upgrade() -> None:
    """Create the tables."""


def downgrade() -> None:
    """Drop the tables with their rows."""
