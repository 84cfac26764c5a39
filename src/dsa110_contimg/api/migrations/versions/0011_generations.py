"""Writes are numbered by the time, so that no number comes again after a database was restored."""

from typing import Any

from dsa110_contimg.api.migrations import counters

revision = "0011"
down_revision = "0010"
branch_labels: Any = None
depends_on: Any = None


def upgrade() -> None:
    """Renew the triggers."""
    counters.prepare()
    for table, bucket in counters.COUNTED.items():
        counters.renew(table, bucket)


def downgrade() -> None:
    """Change nothing: the numbers rise as they did before, and faster."""
