"""Replies about runs of the pipeline."""

from typing import Any

from dsa110_contimg.api.schemas.base import Reply, RunStatus


class JobListItem(Reply):
    """One run of the list."""

    run_id: str
    status: RunStatus
    started_at: str | None
    finished_at: str | None
    created_at: str | None
    group_id: str
    error: str | None


class JobDetail(JobListItem):
    """One run."""

    logs_url: str
    qa_url: str
    config: dict[str, Any] | None
    ms_path: str | None
    workflow_id: str | None
    image_ids: list[str]
    provenance_url: str
