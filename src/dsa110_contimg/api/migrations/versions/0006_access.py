"""The record of changes as a chain."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels: Any = None
depends_on: Any = None


def upgrade() -> None:
    """Add the links of the chain; what was recorded before stays, outside it."""
    op.add_column("audit_log", sa.Column("kind", sa.Text(), server_default="begun", nullable=False))
    op.add_column("audit_log", sa.Column("change_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")))
    op.add_column("audit_log", sa.Column("prev_hash", sa.Text()))
    op.add_column("audit_log", sa.Column("hash", sa.Text()))
    op.create_index(op.f("ix_audit_log_change_id"), "audit_log", ["change_id"])
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.execute("INSERT INTO audit_head (id, seq, hash) SELECT 1, COALESCE(MAX(id), 0), '' FROM audit_log")


def downgrade() -> None:
    """Drop the links; the entries stay, of each change the one of its beginning with its outcome."""
    op.execute(
        "UPDATE audit_log SET status = (SELECT ended.status FROM audit_log AS ended "
        "WHERE ended.change_id = audit_log.id AND ended.kind = 'ended') WHERE kind = 'begun' AND hash IS NOT NULL"
    )
    op.execute("DELETE FROM audit_log WHERE kind IN ('changed', 'ended')")
    op.drop_table("audit_head")
    op.drop_index(op.f("ix_audit_log_change_id"), "audit_log")
    for name in ("hash", "prev_hash", "change_id", "kind"):
        op.drop_column("audit_log", name)
