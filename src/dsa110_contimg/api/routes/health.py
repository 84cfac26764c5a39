"""Health: does the process answer, can it serve, how are its parts."""

from fastapi import Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.dependencies import Monitor
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.services.health_service import can_serve
from dsa110_contimg.api.validation import StrictRoute

router = router_of("/health", "health", StrictRoute)


@router.get(
    "",
    response_model=schemas.HealthReply,
    response_model_exclude_unset=True,
    responses={503: {"model": schemas.HealthReply}},
)
async def get_health(monitor: Monitor, detailed: bool = False) -> Response:
    """Return the state of the service; ``detailed=true`` asks databases, Redis, disks and queue as well.

    Detailed, the status is 503 when the products database cannot be used, and 200 when something else is not well.
    """
    if not detailed:
        return json_reply(monitor.summary())
    told = await monitor.detailed()
    return json_reply(told, status=200 if can_serve(told) else 503)


@router.get("/live", response_model=schemas.Liveness)
async def get_liveness() -> Response:
    """Return that the process answers; nothing else is touched."""
    return json_reply({"status": "alive"})


@router.get("/ready", response_model=schemas.Readiness)
async def get_readiness(monitor: Monitor) -> Response:
    """Return that the database can be used; 503 when it cannot, also when it was never migrated."""
    return json_reply(await monitor.ready())
