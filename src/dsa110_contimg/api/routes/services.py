"""Services around the API: how they are now, and how they were in the last day."""

from typing import Annotated

from fastapi import Path, Query, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.dependencies import ServiceMonitor
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.services import service_views
from dsa110_contimg.api.validation import StrictRoute

router = router_of("/services", "services", StrictRoute)

Port = Annotated[int, Path(ge=0, le=65535)]


@router.get("/status", response_model=schemas.ServicesStatus)
async def get_services_status(monitor: ServiceMonitor) -> Response:
    """Return the state of every monitored service, at most five seconds old."""
    return json_reply(service_views.of_services(await monitor.states()))


@router.get("/status/{port}", response_model=schemas.ServiceStatus)
async def get_service_status(port: Port, monitor: ServiceMonitor) -> Response:
    """Return the state of the service at a port."""
    return json_reply(service_views.of_service(await monitor.state_at(port)))


@router.get("/history", response_model=schemas.ServicesHistory)
async def get_services_history(monitor: ServiceMonitor, hours: Annotated[int, Query(ge=1, le=24)] = 24) -> Response:
    """Return how long each service was in which state, to a minute, over at most a day."""
    return json_reply(await monitor.history(hours))
