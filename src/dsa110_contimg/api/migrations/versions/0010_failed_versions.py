"""A version of an image that could not be made counts as such: the trigger of the runs knows its stage.

In a new database revision 0007 has made it like this already.
"""

from typing import Any

from dsa110_contimg.api.migrations import events

revision = "0010"
down_revision = "0009"
branch_labels: Any = None
depends_on: Any = None


def upgrade() -> None:
    """Make the trigger anew."""
    events.release("jobs")
    events.keep("jobs")


def downgrade() -> None:
    """Leave the trigger, which the revision before has under the same name."""
