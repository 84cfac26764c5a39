"""Replies about where products come from."""

from typing import Any

from pydantic import Field

from dsa110_contimg.api.schemas.base import QAGrade, Reply


class ProductFileView(Reply):
    """One file that went into a stage or came out of it."""

    path: str
    role: str
    kind: str
    size_bytes: int
    sha256: str


class StageView(Reply):
    """How one stage made what it made."""

    stage: str
    task_id: str
    attempt: int
    code_version: str
    host: str
    started_at: str
    finished_at: str
    duration_s: float = Field(description="s")
    cpu_s: float = Field(description="time of the processor, s")
    peak_rss_bytes: int
    params: dict[str, Any]
    summary: dict[str, Any]
    inputs: list[ProductFileView]
    outputs: list[ProductFileView]


class Provenance(Reply):
    """Where a product comes from: snake_case with addresses of the API, camelCase with addresses of the web client."""

    run_id: str
    ms_path: str | None
    cal_table: str | None
    pointing_ra_deg: float | None = Field(description="right ascension of the centre (ICRS), deg")
    pointing_dec_deg: float | None = Field(description="declination of the centre (ICRS), deg")
    qa_grade: QAGrade | None
    qa_summary: str | None
    logs_url: str | None
    qa_url: str | None
    ms_url: str | None
    image_url: str | None
    created_at: str | None
    runId: str  # noqa: N815 - spelling of the web client
    msPath: str | None  # noqa: N815
    calTable: str | None  # noqa: N815
    calUrl: str | None  # noqa: N815
    pointingRaDeg: float | None = Field(description="right ascension of the centre (ICRS), deg")  # noqa: N815
    pointingDecDeg: float | None = Field(description="declination of the centre (ICRS), deg")  # noqa: N815
    qaGrade: QAGrade | None  # noqa: N815
    qaSummary: str | None  # noqa: N815
    logsUrl: str | None  # noqa: N815
    qaUrl: str | None  # noqa: N815
    msUrl: str | None  # noqa: N815
    imageUrl: str | None  # noqa: N815
    createdAt: str | None  # noqa: N815
    stages: list[StageView]
