"""Batches, as clients ask for them: accepted with their items in the database, worked on by RQ workers."""

import time
from collections.abc import Sequence
from typing import Any

from dsa110_contimg.api.batch_interfaces import BatchItemRecord, BatchRecord, BatchRepositoryProtocol
from dsa110_contimg.api.exceptions import InvalidStateError, RecordAlreadyExistsError, required
from dsa110_contimg.api.pages import Page, Wish
from dsa110_contimg.api.replies import iso_time
from dsa110_contimg.api.services import views
from dsa110_contimg.api.services.work_service import WorkService
from dsa110_contimg.api.work_orders import BATCH, WorkOrder, order_id

View = dict[str, Any]


class BatchService:
    """Orders work on many things and tells how far it is."""

    def __init__(self, batches: BatchRepositoryProtocol, work: WorkService) -> None:
        self.batches = batches
        self.work = work

    async def create(self, kind: str, names: Sequence[str], seed: str) -> View:
        """Keep a batch and order its work; both are durable when this returns.

        Parameters
        ----------
        kind : str
            ``thumbnail``, ``image-qa`` or ``calibration-qa``.
        names : sequence of str
            Images or Measurement Sets, by id or path; each once.
        seed : str
            The same seed orders the same batch.
        """
        order = WorkOrder(order_id(seed, f"batch {kind}"), BATCH, "rq", {}, created_at=time.time())
        try:
            number = await self.work.accept_batch(order, kind, list(dict.fromkeys(names)))
        except RecordAlreadyExistsError:  # the same request, whose reply was lost
            kept = await self.work.orders.find(order.id)
            if kept is None:
                raise
            number = kept.arguments["batch_id"]
        return await self.get(str(number))

    async def list_batches(self, wish: Wish) -> Page:
        """Return a page of batches, newest first unless asked for otherwise."""
        page = views.with_times(await self.batches.list_page(wish), "created_at")
        for row in page.rows:
            if "id" in row:
                row["id"] = str(row["id"])
            if "params" in row:
                row["params"] = row["params"] or {}
        return page

    async def find(self, batch_id: str) -> BatchRecord:
        """Return the record of a batch.

        Raises
        ------
        RecordNotFoundError
            There is none of this number.
        """
        return required(await self.batches.get(batch_id), "BatchJob", batch_id)

    async def get(self, batch_id: str) -> View:
        """Return one batch."""
        return _batch(await self.find(batch_id))

    async def list_items(self, batch_id: str, limit: int, offset: int) -> tuple[list[View], int]:
        """Return a part of the items of a batch, and the number of all."""
        batch = await self.find(batch_id)
        return [_item(item) for item in await self.batches.list_items(batch.id, limit, offset)], batch.total_items

    async def cancel(self, batch_id: str) -> View:
        """Cancel a batch: items that have not begun never will.

        Raises
        ------
        InvalidStateError
            It has ended.
        """
        batch = await self.find(batch_id)
        if not await self.batches.cancel(batch.id):
            raise InvalidStateError(f"Batch {batch_id} has ended and cannot be cancelled", {"status": batch.status})
        return await self.get(batch_id)


def _batch(batch: BatchRecord) -> View:
    return {
        "id": str(batch.id),
        "type": batch.type,
        "created_at": iso_time(batch.created_at),
        "status": batch.status,
        "total_items": batch.total_items,
        "completed_items": batch.completed_items,
        "failed_items": batch.failed_items,
        "params": dict(batch.params),
    }


def _item(item: BatchItemRecord) -> View:
    return {
        "id": str(item.id),
        "name": item.name,
        "status": item.status,
        "error": item.error,
        "started_at": iso_time(item.started_at),
        "completed_at": iso_time(item.completed_at),
    }
