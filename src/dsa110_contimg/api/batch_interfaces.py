"""What the wings say to each other about batches: records, and the Protocol of those who keep them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dsa110_contimg.api.pages import Page, Wish


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One piece of work on many things; ``status``: pending, running, done, failed or cancelled."""

    id: int
    type: str
    created_at: float
    status: str
    total_items: int
    completed_items: int = 0
    failed_items: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchItemRecord:
    """One thing of a batch; ``name`` is a path or an id."""

    id: int
    batch_id: int
    name: str
    status: str
    error: str | None = None
    started_at: float | None = None
    completed_at: float | None = None


class BatchRepositoryProtocol(Protocol):
    """Keeps batches; kept by ``AsyncBatchRepository(adapter)``."""

    async def get(self, batch_id: str) -> BatchRecord | None:
        """Return a batch."""

    async def list_page(self, wish: Wish) -> Page:
        """Return a page of batches as documents, by the order and the conditions of ``wish``."""

    async def list_items(self, batch_id: int, limit: int = 1000, offset: int = 0) -> list[BatchItemRecord]:
        """Return items of a batch in their order."""

    async def list_unended(self, batch_id: int, limit: int = 100) -> list[BatchItemRecord]:
        """Return items that are pending, or that somebody began and did not end, in their order."""

    async def begin_item(self, item_id: int) -> bool:
        """Write down that an item is worked on; False when it has ended, or its batch was cancelled."""

    async def end_item(self, item_id: int, error: str | None = None) -> bool:
        """Write down how an item ended (with ``error``: failed), and count it; False when it has ended already."""

    async def cancel(self, batch_id: int) -> bool:
        """Cancel a batch and what of it has not ended; False when it has ended."""
