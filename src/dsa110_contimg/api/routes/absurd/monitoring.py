"""Health and figures."""

from typing import Annotated, Literal

from fastapi import Query, Response
from fastapi.responses import PlainTextResponse

from dsa110_contimg.api.authorization import ScopedRoute
from dsa110_contimg.api.dependencies import QueueMonitor
from dsa110_contimg.api.metrics import EXPOSITION
from dsa110_contimg.api.queue_schemas import monitoring as schemas
from dsa110_contimg.api.queue_schemas.requests import Name
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of

router = router_of("/absurd", "task queue", ScopedRoute)


@router.get("/health", response_model=schemas.QueueHealth)
async def get_queue_health(service: QueueMonitor) -> Response:
    """Return whether the queue is enabled and answers; this works while it is down."""
    return json_reply(await service.health())


@router.get("/health/detailed", response_model=schemas.DetailedHealth)
async def get_detailed_queue_health(service: QueueMonitor) -> Response:
    """Return the verdict on the queue with alerts and warnings; this works while it is down."""
    return json_reply(await service.detailed_health())


@router.get("/metrics", response_model=schemas.TaskMetrics)
async def get_metrics(service: QueueMonitor, queue_name: Name | None = None) -> Response:
    """Return counts, waiting and running times, throughput and success of a queue, or of all together."""
    return json_reply(await service.metrics(queue_name))


@router.get("/metrics/prometheus", response_class=PlainTextResponse)
async def get_prometheus(service: QueueMonitor) -> Response:
    """Return all figures in the text form of Prometheus."""
    return Response(await service.prometheus(), media_type=EXPOSITION)


@router.get("/metrics/history", response_model=schemas.History)
async def get_history(
    service: QueueMonitor, queue_name: Name | None = None, hours: Annotated[int, Query(ge=1, le=168)] = 24,
    resolution: Literal["5m", "15m", "1h", "6h"] = "1h",
) -> Response:  # fmt: skip
    """Return series of the past from stored statistics; null where nothing ran."""
    return json_reply(await service.history(queue_name, hours, resolution))


@router.get("/status", response_model=schemas.PipelineStatus)
async def get_status(service: QueueMonitor, queue_name: Name | None = None) -> Response:
    """Return how far each stage is, with the workers."""
    return json_reply(await service.status(queue_name))


@router.get("/pipeline/status", response_model=schemas.PipelineStatus)
async def get_pipeline_status(service: QueueMonitor, queue_name: Name | None = None) -> Response:
    """Return how far each stage is: the same as `GET /status`."""
    return json_reply(await service.status(queue_name))
