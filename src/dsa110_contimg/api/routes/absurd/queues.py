"""Queues, and the deletion of what has ended."""

from typing import Annotated

from fastapi import Path, Response

from dsa110_contimg.api.authorization import ScopedRoute, require_scope
from dsa110_contimg.api.dependencies import EarlierClient, Queues
from dsa110_contimg.api.queue_schemas import monitoring as schemas
from dsa110_contimg.api.queue_schemas.requests import ConcurrencyLimit, Name, PruneRequest, QueueLimits
from dsa110_contimg.api.queue_schemas.tasks import Message, Pruned
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of

router = router_of("/absurd", "task queue", ScopedRoute)

_OPERATES = [require_scope("ops")]
QueueName = Annotated[Name, Path(examples=["dsa110-pipeline"])]


@router.get("/queues", response_model=list[str])
async def list_queues(service: Queues, earlier: EarlierClient) -> Response:
    """List the names of the queues."""
    names = await service.names()
    return json_reply({"queues": names} if earlier else names)


@router.get("/queues/stats", response_model=list[schemas.QueueStatsView])
async def list_queue_stats(service: Queues) -> Response:
    """Return how many tasks of each queue are in which state."""
    return json_reply(await service.list_stats())


@router.get("/queues/{name}/stats", response_model=schemas.QueueStatsView)
async def get_queue_stats(service: Queues, name: QueueName) -> Response:
    """Return how many tasks of a queue are in which state; zeros for a name that no task has."""
    return json_reply(await service.get_stats(name))


@router.post("/queues/{name}/pause", response_model=Message, dependencies=_OPERATES)
async def pause_queue(service: Queues, name: QueueName) -> Response:
    """Have workers take nothing more from a queue; what runs goes on."""
    return json_reply(await service.pause(name))


@router.post("/queues/{name}/resume", response_model=Message, dependencies=_OPERATES)
async def resume_queue(service: Queues, name: QueueName) -> Response:
    """Have workers take tasks from a paused queue again."""
    return json_reply(await service.resume(name))


@router.put("/queues/{name}/limits", response_model=Message, dependencies=_OPERATES)
async def set_queue_limits(service: Queues, name: QueueName, limits: QueueLimits) -> Response:
    """Limit how fast tasks of a queue start, and have waiting ones rise; null lifts a limit."""
    return json_reply(await service.set_limits(name, limits))


@router.put("/queues/{name}/concurrency", response_model=Message, dependencies=_OPERATES)
async def set_concurrency(service: Queues, name: QueueName, limit: ConcurrencyLimit) -> Response:
    """Let so many tasks of a concurrency key run at once."""
    return json_reply(await service.set_concurrency(name, limit))


@router.post("/prune", response_model=Pruned, dependencies=_OPERATES)
async def prune(service: Queues, wanted: PruneRequest) -> Response:
    """Delete tasks that ended long ago, workflows only as a whole; dead letters stay."""
    return json_reply(await service.prune(wanted))
