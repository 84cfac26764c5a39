"""Replies with counts."""

from pydantic import ConfigDict, Field

from dsa110_contimg.api.schemas.base import Reply


class MSCounts(Reply):
    """Measurement Sets by stage; the stages add up to the total."""

    total: int
    by_stage: dict[str, int]


class JobCounts(Reply):
    """Runs by status; they add up to the total."""

    total: int
    by_status: dict[str, int]


class Total(Reply):
    """A number of things."""

    total: int


class RecentImage(Reply):
    """One of the newest images."""

    id: str
    path: str
    created_at: str | None
    type: str


class StatsMeta(Reply):
    """When the numbers were true."""

    generated_at: str
    cache_hint_seconds: int


class Stats(Reply):
    """How much there is of everything."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    ms: MSCounts
    images: Total
    photometry: Total
    sources: Total
    jobs: JobCounts
    recent_images: list[RecentImage]
    cal_tables: Total
    meta: StatsMeta = Field(alias="_meta")
