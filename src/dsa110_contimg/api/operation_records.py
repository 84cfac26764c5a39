"""What is said about the operation: states of services, figures for Prometheus, and the Protocols of their keepers.

Times named ``*_at`` are Unix seconds (UTC).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ServiceState:
    """How a service around the API was at one moment."""

    name: str
    port: int  # 0 for what has none
    description: str
    status: str  # running | stopped | degraded | error
    response_ms: float | None
    checked_at: float
    error: str | None = None
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class EventCount:
    """How often something happened since counting began."""

    name: str
    label: str
    second_label: str
    n: int
    total: float  # sum of the values, where it has values


@dataclass(frozen=True, slots=True)
class ProductFigures:
    """What Prometheus is told of the products: what happened, and rows of each table by bucket."""

    events: tuple[EventCount, ...]
    counts: Mapping[str, Mapping[str, int]]


class ServiceHistoryProtocol(Protocol):
    """Remembers states of services; kept by ``AsyncServiceHistoryRepository(adapter)``."""

    async def keep(self, states: Sequence[ServiceState], minute_at: float, oldest_at: float) -> None:
        """Keep states that were seen in a minute, each once, and forget what is older than ``oldest_at``."""

    async def since(self, since_at: float) -> list[ServiceState]:
        """Return the states since a time, by service and time; ``checked_at`` is the begin of their minute."""


class FigureRepositoryProtocol(Protocol):
    """Figures for Prometheus; kept by ``AsyncFigureRepository(adapter)``."""

    async def get_figures(self) -> ProductFigures:
        """Return how often things happened and how much there is."""
