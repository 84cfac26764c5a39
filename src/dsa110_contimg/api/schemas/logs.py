"""Replies about logs."""

from pydantic import Field

from dsa110_contimg.api.schemas.base import Reply, RunStatus


class RunLog(Reply):
    """The end of a run's log."""

    run_id: str
    status: RunStatus
    logs: list[str] = Field(description="lines with their ends: time (UTC), level, stage, words; oldest first")
    total_lines: int | None = Field(description="of the whole log; null when it is too large to be counted")
    error: str | None = Field(description="why there is no line")
