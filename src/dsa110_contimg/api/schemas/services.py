"""Replies about the services around the API."""

from typing import Any, Literal

from pydantic import Field

from dsa110_contimg.api.schemas.base import Reply

ServiceWord = Literal["running", "stopped", "degraded", "error", "checking"]


class ServiceStatus(Reply):
    """One service; ``port`` is 0 for what has none."""

    name: str
    port: int
    description: str
    status: ServiceWord
    responseTime: float = Field(description="ms")  # noqa: N815 - as clients read it
    lastChecked: str  # noqa: N815
    error: str | None
    details: dict[str, Any] | None


class ServicesSummary(Reply):
    """How many run; ``stopped`` are all others."""

    total: int
    running: int
    stopped: int


class ServicesStatus(Reply):
    """All services."""

    services: list[ServiceStatus]
    summary: ServicesSummary
    timestamp: str


class ServiceSpan(Reply):
    """A time in one state, to a minute."""

    status: ServiceWord
    since: str
    until: str
    error: str | None


class ServicePast(Reply):
    """The past of one service."""

    name: str
    spans: list[ServiceSpan]


class ServicesHistory(Reply):
    """The past of all services."""

    services: list[ServicePast]
    since: str
    hours: int
