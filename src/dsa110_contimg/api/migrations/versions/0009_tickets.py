"""Tickets, with which a page opens a WebSocket."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels: Any = None
depends_on: Any = None

IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "websocket_tickets",
        sa.Column("secret_sha256", IDENTIFIER, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("key_id", IDENTIFIER),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.Double()),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("secret_sha256", name=op.f("pk_websocket_tickets")),
    )


def downgrade() -> None:
    """Drop the table: whoever has a ticket asks for another."""
    op.drop_table("websocket_tickets")
