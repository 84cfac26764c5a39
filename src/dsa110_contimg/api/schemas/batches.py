"""Requests and replies about batches."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dsa110_contimg.api.schemas.base import Reply

BatchType = Literal["thumbnail", "image-qa", "calibration-qa"]
BatchStatus = Literal["pending", "running", "done", "failed", "cancelled"]


class BatchRequest(BaseModel):
    """What is to be done with which things."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"type": "image-qa", "items": ["1", "2"]}]}
    )
    type: BatchType = Field(description="thumbnail and image-qa work on images, calibration-qa on Measurement Sets")
    items: list[Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]] = Field(
        min_length=1, max_length=1000, description="ids or paths; what is named twice is done once"
    )


class Batch(Reply):
    """One batch."""

    id: str
    type: str
    created_at: str | None
    status: BatchStatus
    total_items: int
    completed_items: int
    failed_items: int
    params: dict[str, Any]


class BatchItem(Reply):
    """One thing of a batch."""

    id: str
    name: str
    status: BatchStatus
    error: str | None
    started_at: str | None
    completed_at: str | None
