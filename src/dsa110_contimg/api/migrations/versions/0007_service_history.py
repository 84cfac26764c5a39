"""States of monitored services, and counters of what the pipeline made."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from dsa110_contimg.api.migrations import events

revision = "0007"
down_revision = "0006"
branch_labels: Any = None
depends_on: Any = None

IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables and the triggers that count."""
    op.create_table(
        "event_counts",
        sa.Column("name", IDENTIFIER, nullable=False),
        sa.Column("label", IDENTIFIER, nullable=False),
        sa.Column("second_label", IDENTIFIER, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "label", "second_label", name=op.f("pk_event_counts")),
    )
    op.create_table(
        "service_history",
        sa.Column("service", IDENTIFIER, nullable=False),
        sa.Column("minute_at", sa.Double(), nullable=False),
        sa.Column("status", IDENTIFIER, nullable=False),
        sa.Column("response_ms", sa.Double()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("service", "minute_at", "status", name=op.f("pk_service_history")),
    )
    events.keep()


def downgrade() -> None:
    """Drop the tables with their rows."""
    events.release()
    op.drop_table("service_history")
    op.drop_table("event_counts")
