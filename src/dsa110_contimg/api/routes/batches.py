"""Batches: work on many images or Measurement Sets, item by item."""

from typing import Annotated

from fastapi import Query, Request, Response

from dsa110_contimg.api import schemas
from dsa110_contimg.api.authorization import require_scope
from dsa110_contimg.api.dependencies import Batches
from dsa110_contimg.api.idempotency import WorkRoute, request_seed
from dsa110_contimg.api.listing import Exact, ListParameters, Moment, list_reply, wish_of
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.routers import router_of
from dsa110_contimg.api.schemas.batches import BatchRequest, BatchStatus
from dsa110_contimg.api.validation import Limit, Offset

router = router_of("/batches", "batches", WorkRoute)

_WRITES = [require_scope("write:jobs")]


class BatchParameters(ListParameters):
    """What the list of batches may be asked."""

    status: BatchStatus | None = None
    type: Exact | None = None
    min_created_at: Moment | None = None
    max_created_at: Moment | None = None


@router.get("", response_model=list[schemas.Batch])
async def list_batches(request: Request, asked: Annotated[BatchParameters, Query()], service: Batches) -> Response:
    """List batches, newest first."""
    return list_reply(request, await service.list_batches(wish_of(asked, schemas.Batch)))


@router.post("", response_model=schemas.Batch, status_code=202, dependencies=_WRITES)
async def create_batch(request: Request, wanted: BatchRequest, service: Batches) -> Response:
    """Order work on many things; batch and order are durable when this answers."""
    return json_reply(await service.create(wanted.type, wanted.items, await request_seed(request)), status=202)


@router.get("/{batch_id}", response_model=schemas.Batch)
async def get_batch(batch_id: str, service: Batches) -> Response:
    """Return one batch, with how many of its items are done and failed."""
    return json_reply(await service.get(batch_id))


@router.get("/{batch_id}/items", response_model=list[schemas.BatchItem])
async def list_batch_items(batch_id: str, service: Batches, limit: Limit = 100, offset: Offset = 0) -> Response:
    """List the items of a batch in their order; ``X-Total-Count`` has the number of all."""
    rows, total = await service.list_items(batch_id, limit, offset)
    return json_reply(rows, {"X-Total-Count": str(total)})


@router.post("/{batch_id}/cancel", response_model=schemas.Batch, dependencies=_WRITES)
async def cancel_batch(batch_id: str, service: Batches) -> Response:
    """Cancel a batch: items that have not begun never will."""
    return json_reply(await service.cancel(batch_id))
