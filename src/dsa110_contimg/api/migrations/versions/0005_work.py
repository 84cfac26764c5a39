"""Accepted work on its way to the queue."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels: Any = None
depends_on: Any = None

IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "work_orders",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("run_id", IDENTIFIER),
        sa.Column("meta", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claim", IDENTIFIER),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double()),
        sa.Column("started_at", sa.Double()),
        sa.Column("beat_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
        sa.Column("result", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.CheckConstraint("target IN ('rq', 'absurd')", name=op.f("ck_work_orders_target")),
        sa.CheckConstraint(
            "status IN ('accepted', 'sent', 'running', 'finished', 'failed', 'canceled')",
            name=op.f("ck_work_orders_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_orders")),
    )
    op.create_index(op.f("ix_work_orders_status_created_at"), "work_orders", ["status", "created_at"])
    op.create_index(op.f("ix_work_orders_created_at_id"), "work_orders", ["created_at", "id"])
    op.create_index(op.f("ix_work_orders_run_id"), "work_orders", ["run_id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("actor", IDENTIFIER, nullable=False),
        sa.Column("key", IDENTIFIER, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("reply", sa.Text()),
        sa.PrimaryKeyConstraint("actor", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])
    op.create_index(op.f("ix_jobs_workflow_id"), "jobs", ["workflow_id"])


def downgrade() -> None:
    """Drop the tables with their rows."""
    op.drop_index(op.f("ix_jobs_workflow_id"), "jobs")
    op.drop_table("idempotency_keys")
    op.drop_table("work_orders")
