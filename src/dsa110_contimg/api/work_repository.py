"""Where accepted work is kept, with the replies to those who asked for it."""

from collections.abc import Sequence
from typing import Any

from dsa110_contimg.api import database
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.interfaces import JobRecord
from dsa110_contimg.api.queries import idempotency, work
from dsa110_contimg.api.queries.idempotency import KeptReply
from dsa110_contimg.api.work_orders import SILENT_S, WorkOrder


class AsyncWorkRepository:
    """Keeps orders of work; every change is one transaction, and says whether it was still allowed.

    Parameters
    ----------
    adapter : DatabaseAdapter
        The products database.

    Attributes
    ----------
    silent_s : float
        Seconds without a sign of life after which whoever works on an order counts as dead.
    """

    def __init__(self, adapter: DatabaseAdapter) -> None:
        self._adapter = adapter
        self.silent_s = SILENT_S

    async def accept(self, order: WorkOrder, job: JobRecord | None = None) -> bool:
        """Keep an order and the run that it makes; False when it is there already."""
        return await database.write(self._adapter, work.accept(order, job))

    async def accept_batch(self, order: WorkOrder, kind: str, names: Sequence[str]) -> int:
        """Keep a batch with the order to work on it and return its number.

        Raises
        ------
        RecordAlreadyExistsError
            The order is there already.
        """
        return await database.write(self._adapter, work.accept_batch(order, kind, names))

    async def find(self, order_id: str) -> WorkOrder | None:
        """Return an order."""
        return await database.read(self._adapter, work.find(order_id))

    async def of_run(self, run_id: str) -> list[WorkOrder]:
        """Return the orders of a run, the newest first."""
        return await database.read(self._adapter, work.of_run(run_id))

    async def newest(self, status: str | None, limit: int) -> list[WorkOrder]:
        """Return orders, the newest first; all, or those in a state of RQ."""
        return await database.read(self._adapter, work.newest(status, limit))

    async def due(self, limit: int = 1000) -> list[WorkOrder]:
        """Return orders that nobody is seen to work on: first those that were not sent, the oldest first."""
        return await database.read(self._adapter, work.due(limit, self.silent_s))

    async def counts(self) -> dict[str, int]:
        """Return how many orders are in which state, of those that have not ended."""
        return await database.read(self._adapter, work.counts())

    async def send(self, order_id: str, now_s: float) -> WorkOrder | None:
        """Write down that the queue has it; None when nobody waits for it any more."""
        return await database.write(self._adapter, work.send(order_id, now_s))

    async def claim(self, order_id: str, claim: str, now_s: float) -> WorkOrder | None:
        """Begin an order; None when it has ended, or somebody who lives works on it."""
        return await database.write(self._adapter, work.claim(order_id, claim, now_s, self.silent_s))

    async def beat(self, order_id: str, claim: str) -> bool:
        """Give a sign of life; False when the order is not one's own any more."""
        return await database.write(self._adapter, work.beat(order_id, claim)) is not None

    async def end(self, order: WorkOrder, job: JobRecord | None = None) -> bool:
        """Write down how an order and its run ended; False when it is not one's own any more."""
        return await database.write(self._adapter, work.end(order, job))

    async def settle(
        self, order_id: str, status: str, now_s: float, result: Any = None, error: str | None = None
    ) -> WorkOrder | None:
        """End an order from outside; None when it has ended."""
        return await database.write(self._adapter, work.settle(order_id, status, now_s, result, error))

    async def put_back(self, order_id: str) -> WorkOrder | None:
        """Have an order that was lost sent again; None when somebody who lives works on it."""
        return await database.write(self._adapter, work.put_back(order_id, self.silent_s))

    async def end_run(self, run_id: str, now_s: float, error: str) -> bool:
        """Write down that a run will not go on; False when it has ended."""
        return await database.write(self._adapter, work.end_run(run_id, now_s, error))

    async def lively_runs(self, ended_since_s: float, limit: int = 1000) -> list[JobRecord]:
        """Return the newest runs that have not ended, then those that ended since a time; of each at most a limit."""
        return await database.read(self._adapter, work.lively_runs(ended_since_s, limit))

    async def export_runs(self, run_ids: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return run, state, begin, end, Measurement Set and newest image of those runs that are known."""
        return await database.read(self._adapter, work.export(run_ids))

    async def reserve(self, request: KeptReply) -> tuple[bool, KeptReply]:
        """Take an idempotency key, and tell whether it was free and what is kept under it now."""
        return await database.write(self._adapter, idempotency.reserve(request))

    async def keep(self, actor: str, key: str, status: int, reply: str) -> KeptReply | None:
        """Keep the reply to a request that bore a key, unless another is kept by now; return that one."""
        return await database.write(self._adapter, idempotency.keep(actor, key, status, reply))

    async def release(self, actor: str, key: str) -> None:
        """Give a key free whose request came to nothing."""
        await database.write(self._adapter, idempotency.release(actor, key))

    async def forget_replies(self, before_s: float) -> None:
        """Drop the replies that are older."""
        await database.write(self._adapter, idempotency.forget(before_s))
