"""Replies about the cache."""

from typing import Literal

from pydantic import Field

from dsa110_contimg.api.schemas.base import Reply


class CacheStats(Reply):
    """How the cache is; the numbers only while Redis answers."""

    enabled: bool
    status: Literal["disabled", "connected", "error"]
    hits: int | None = None
    misses: int | None = None
    hit_rate: float | None = Field(None, description="hits of all that was asked, 0 to 1")
    memory_used_bytes: int | None = None
    memory_used_human: str | None = None
    total_keys: int | None = None
    error: str | None = None


class CacheInvalidated(Reply):
    """How many replies were forgotten."""

    pattern: str
    keys_deleted: int


class CacheCleared(Reply):
    """How many replies were forgotten."""

    status: Literal["cleared"]
    keys_deleted: int
