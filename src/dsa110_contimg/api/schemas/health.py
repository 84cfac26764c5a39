"""Replies about the health of the service."""

from typing import Any, Literal

from pydantic import Field

from dsa110_contimg.api.schemas.base import Health, Reply


class HealthReply(Reply):
    """State of the service; the last four only with ``detailed=true``."""

    status: Health
    service: str
    version: str
    api_version: str
    timestamp: str
    databases: dict[str, str] | None = None
    redis: dict[str, str] | None = None
    disk: dict[str, dict[str, Any]] | None = None
    absurd: dict[str, str | None] | None = None


class Liveness(Reply):
    """The process answers."""

    status: Literal["alive"]


class Readiness(Reply):
    """The process can serve."""

    status: Literal["ready"]
    schema_revision: str | None
    read_only: bool = Field(description="the products database is one of the earlier pipeline: changes are refused")
