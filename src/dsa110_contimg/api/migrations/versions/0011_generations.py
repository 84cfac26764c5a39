"""Writes are numbered by the time, so that no number comes again after a database was restored."""

from typing import Any

from dsa110_contimg.api.migrations import counters

revision = "0011"
down_revision = "0010"
branch_labels: Any = None
depends_on: Any = None

# Each with the column whose values are counted apart.
COUNTED = {
    "ms_index": "stage", "images": "type", "sources": None, "photometry": None, "caltables": "status",
    "jobs": "status", "batch_jobs": "status", "batch_job_items": "status", "hdf5_files": None, "image_qa": None,
    "calibration_qa": None, "provenance": None, "image_regions": None,
}  # fmt: skip


def upgrade() -> None:
    """Renew the triggers."""
    counters.prepare()
    for table, bucket in COUNTED.items():
        counters.renew(table, bucket)


def downgrade() -> None:
    """Change nothing: the numbers rise as they did before, and faster."""
