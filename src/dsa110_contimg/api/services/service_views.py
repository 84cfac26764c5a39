"""How states of services are shown; the keys are those that clients of the earlier backend read."""

from collections.abc import Sequence
from typing import Any

from dsa110_contimg.api.operation_records import ServiceState
from dsa110_contimg.api.replies import iso_now, iso_time


def of_service(state: ServiceState) -> dict[str, Any]:
    """Return one service."""
    return {
        "name": state.name,
        "port": state.port,
        "description": state.description,
        "status": state.status,
        "responseTime": state.response_ms,
        "lastChecked": iso_time(state.checked_at),
        "error": state.error,
        "details": state.details,
    }


def of_services(states: Sequence[ServiceState]) -> dict[str, Any]:
    """Return all services and how many of them run."""
    running = sum(state.status == "running" for state in states)
    return {
        "services": [of_service(state) for state in states],
        "summary": {"total": len(states), "running": running, "stopped": len(states) - running},
        "timestamp": iso_now(),
    }
