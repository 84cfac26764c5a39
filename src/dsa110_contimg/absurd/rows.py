"""Records of the queue's database as what JSON can carry."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

Row = dict[str, Any]


def as_row(record: Mapping[str, Any]) -> Row:
    """Return a record with ids as text and times in ISO 8601 with their zone."""
    return {key: _shown(value) for key, value in record.items()}


def as_task(record: Mapping[str, Any]) -> Row:
    """Return a row of ``absurd.tasks`` in the same way, with the further names that its columns go by."""
    row = as_row(record)
    return {
        **row,
        "retry_count": row["attempt"],
        "started_at": row["claimed_at"],
        "finished_at": row["completed_at"],
    }


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list) and value and isinstance(value[0], UUID):
        return [str(item) for item in value]
    return value
