"""The newest calibration that is valid at a time is chosen in an index, instead of the one of validity."""

from typing import Any

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels: Any = None
depends_on: Any = None

_VALIDITY = ["valid_start_mjd", "valid_end_mjd"]


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_caltables_newest", "caltables", ["created_at", "set_name", "status", *_VALIDITY])
    op.drop_index("ix_caltables_valid_start_mjd_valid_end_mjd", "caltables")


def downgrade() -> None:
    """Make the earlier one again."""
    op.create_index("ix_caltables_valid_start_mjd_valid_end_mjd", "caltables", _VALIDITY)
    op.drop_index("ix_caltables_newest", "caltables")
