"""A run that somebody canceled counts as no failure, so that canceling many raises no alarm.

In a new database revision 0007 has made the trigger of the runs like this already.
"""

from typing import Any

from dsa110_contimg.api.migrations import events

revision = "0012"
down_revision = "0011"
branch_labels: Any = None
depends_on: Any = None


def upgrade() -> None:
    """Make the trigger anew."""
    events.release("jobs")
    events.keep("jobs")


def downgrade() -> None:
    """Leave the trigger, which the revision before has under the same name."""
