"""Requests and replies about versions of images."""

from typing import Any

from pydantic import Field

from dsa110_contimg.api.schemas.base import QAGrade, Reply


class ImageVersion(Reply):
    """One image among the versions of its family."""

    id: str
    version: int
    parent_id: str | None = Field(description="image that it was made after; that image may be deleted")
    created_at: str | None
    qa_grade: QAGrade | None
    imaging_params: dict[str, Any] | None = Field(description="what the imager was told, in the words of `reimage`")


class ImageVersions(Reply):
    """A family of images: the first one and all that were made after it, or after one of those, by version."""

    current_id: str
    root_id: str = Field(description="first image of the family; it may be deleted")
    chain: list[ImageVersion]
    total_versions: int
