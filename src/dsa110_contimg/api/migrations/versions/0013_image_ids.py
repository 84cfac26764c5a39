"""SQLite never gives the id of a deleted image to another one, as PostgreSQL never does.

Without AUTOINCREMENT the newest image's id would be free again: who sends a deletion twice would delete its successor.
"""

from typing import Any

from alembic import op

from dsa110_contimg.api.migrations import counters, events

revision = "0013"
down_revision = "0012"
branch_labels: Any = None
depends_on: Any = None


def upgrade() -> None:
    """Make the table anew, which is the only way; it loses its triggers by that."""
    _remake(autoincrement=True)


def downgrade() -> None:
    """Make the table anew without it."""
    _remake(autoincrement=False)


def _remake(*, autoincrement: bool) -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    events.release("images")
    with op.batch_alter_table("images", recreate="always", table_kwargs={"sqlite_autoincrement": autoincrement}):
        pass
    counters.keep("images", "type")
    events.keep("images")
