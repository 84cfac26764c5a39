"""Accepted work: kept in the database before the caller is told, put to its queue, put there again when that loses it.

What is accepted has a row (:mod:`dsa110_contimg.api.work_orders`). It goes to Redis for an RQ worker, or becomes a
workflow of the durable queue. Whether that happened is looked at again every few seconds, by every API process (doing
it twice is harmless: ids are fixed beforehand, and a worker claims the row before it works). So it does not matter
whether Redis is down at that moment, is restarted empty, or a worker is killed in the middle.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVarTuple
from uuid import UUID

from dsa110_contimg.absurd.workflows import spawn_reimage, spawn_rerun
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.exceptions import (
    DSA110APIError,
    InvalidStateError,
    ServiceUnavailableError,
    required,
)
from dsa110_contimg.api.interfaces import JobRecord, JobRepositoryProtocol
from dsa110_contimg.api.job_queue import JobQueue
from dsa110_contimg.api.services.absurd.gateway import QueueGateway
from dsa110_contimg.api.work_orders import MOST_ATTEMPTS, OPEN, REIMAGE_CHAIN, UNENDED, WorkOrder
from dsa110_contimg.api.work_repository import AsyncWorkRepository

log = logging.getLogger(__name__)
Given = TypeVarTuple("Given")

ROUND_S = 2.0
_SEND_PATIENCE_S = 0.5  # the caller waits no longer to hear whether the queue has it; it goes on in the background
_RESEND_AFTER_S = 5.0
_LOOK_AGAIN_S = 60.0
_REPLIES_KEPT_S = 86400.0
_LOOKED_BACK = 100
_RQ_WAITS = ("queued", "deferred", "scheduled")


@dataclass(frozen=True, slots=True)
class Means:
    """Where accepted work is kept and done."""

    orders: AsyncWorkRepository
    jobs: JobRepositoryProtocol
    queue: JobQueue
    gateway: QueueGateway


class WorkService:
    """Accepts work and sees to it that it is done.

    Parameters
    ----------
    means : Means
        Where it is kept and done.
    config : APIConfig
        Where products lie, and how long a command may take.
    """

    def __init__(self, means: Means, config: APIConfig) -> None:
        self.orders = means.orders
        self._jobs = means.jobs
        self._queue = means.queue
        self._gateway = means.gateway
        self._products = config.paths.products_dir
        self._limit_s = config.queue.command_limit_sec
        self._looked: dict[str, float] = {}
        self._swept_at = float("-inf")
        self._said = ""

    # ------------------------------------------------------------------------------------------------- what is asked
    async def accept(self, order: WorkOrder, job: JobRecord | None = None) -> bool:
        """Keep an order and the run that it makes, then put it to its queue; tell whether the queue has it already.

        When this returns the work is durable. An order of an id that is known already changes nothing.

        Raises
        ------
        DatabaseError
            It could not be kept: nothing is accepted.
        """
        await self.orders.accept(order, job)
        return await self._send_soon(order)

    async def accept_batch(self, order: WorkOrder, kind: str, names: Sequence[str]) -> int:
        """Keep a batch with the order to work on it, then put that to its queue; return the number of the batch.

        Raises
        ------
        RecordAlreadyExistsError
            The order is there already.
        DatabaseError
            It could not be kept: nothing is accepted.
        """
        number = await self.orders.accept_batch(order, kind, names)
        await self._send_soon(order)
        return number

    async def _send_soon(self, order: WorkOrder) -> bool:
        sending = asyncio.create_task(self._try(self._send, order))
        done, _ = await asyncio.wait([sending], timeout=_SEND_PATIENCE_S)
        return bool(done) and sending.result()

    async def cancel_order(self, order_id: str) -> WorkOrder:
        """Cancel an order that has not ended; a worker that is at it stops.

        Raises
        ------
        RecordNotFoundError
            There is none.
        InvalidStateError
            It has ended.
        """
        order = required(await self.orders.find(order_id), "QueueJob", order_id)
        if order.target == "absurd" and order.run_id:
            await self.cancel_run(order.run_id)
            return await self.orders.find(order_id) or order
        canceled = await self._cancel(order)
        if canceled is None:
            raise InvalidStateError(f"Job {order_id} has ended and cannot be canceled", {"status": order.status})
        if order.run_id:
            await self.orders.end_run(order.run_id, time.time(), "canceled")
        return canceled

    async def cancel_run(self, run_id: str) -> None:
        """Cancel a run: its tasks in the durable queue, its orders, and the record of it.

        Raises
        ------
        RecordNotFoundError
            There is no such run.
        InvalidStateError
            It has ended.
        ServiceUnavailableError
            Its tasks cannot be canceled now.
        """
        job = required(await self._jobs.get_by_run_id(run_id), "Job", run_id)
        if job.status not in UNENDED:
            raise InvalidStateError(f"Run {run_id} has ended and cannot be canceled", {"status": job.status})
        orders = [order for order in await self.orders.of_run(run_id) if order.status in OPEN]
        if job.workflow_id:
            workflow_id = UUID(job.workflow_id)
            await self._gateway.ask(lambda client: client.cancel_workflow(workflow_id))
        for order in orders:
            await self._cancel(order)
        await self.orders.end_run(run_id, time.time(), "canceled")

    async def _cancel(self, order: WorkOrder) -> WorkOrder | None:
        canceled = await self.orders.settle(order.id, "canceled", time.time(), error="canceled")
        if canceled and order.target == "rq" and order.status != "running":
            with contextlib.suppress(ServiceUnavailableError):  # a worker that gets it finds it canceled
                await asyncio.to_thread(self._queue.forget, order.id)
        return canceled

    # ------------------------------------------------------------------------------------------- what happens by itself
    async def run(self, every_s: float = ROUND_S) -> None:
        """See to it that accepted work is done, for ever."""
        while True:
            [outcome] = await asyncio.gather(self._try(self.look_after), return_exceptions=True)
            if isinstance(outcome, Exception):  # what nobody foresaw ends one round, not all
                log.error("accepted work was not looked after", exc_info=outcome)
            await asyncio.sleep(every_s)

    async def look_after(self) -> bool:
        """Go once through all work that has not ended and that nobody is seen to do."""
        due = await self.orders.due()
        self._looked = {order.id: self._looked[order.id] for order in due if order.id in self._looked}
        await self._look_after_rq([order for order in due if order.target == "rq"])
        for order in due:
            if order.target == "absurd":
                await self._try(self._look_after_chain, order)
        await self._sweep()
        return True

    async def _try(self, work: Callable[[*Given], Awaitable[object]], *given: *Given) -> bool:
        """Do something that may be impossible now; the next round tries again."""
        try:
            return bool(await work(*given))
        except DSA110APIError as error:
            if str(error) != self._said:  # once, not every two seconds
                log.warning("accepted work waits: %s", error)
            self._said = str(error)
            return False

    async def _send(self, order: WorkOrder) -> bool:
        """Put an order to its queue."""
        if order.target == "rq":
            await asyncio.to_thread(self._queue.put_order, order.id, self._limit_s)
        else:
            await self._spawn(order)
        if await self.orders.send(order.id, time.time()) is None:
            await self._undo(order)
        return True

    async def _undo(self, order: WorkOrder) -> None:
        """Take an order back that was canceled while it was sent; a worker that was quicker is left alone."""
        now = await self.orders.find(order.id)
        if now is None or now.status != "canceled":
            return
        if order.target == "rq":
            await asyncio.to_thread(self._queue.forget, order.id)
        elif job := await self._jobs.get_by_run_id(str(order.run_id)):
            workflow_id = UUID(job.workflow_id)
            await self._gateway.ask(lambda client: client.cancel_workflow(workflow_id))

    # ---------------------------------------------------------------------------------------------------------- RQ
    async def _look_after_rq(self, orders: list[WorkOrder]) -> None:
        if not orders:
            return
        try:
            states = await asyncio.to_thread(self._queue.states, [order.id for order in orders])
        except ServiceUnavailableError as error:
            log.warning("%d accepted jobs wait for Redis: %s", len(orders), error)
            return
        for order in orders:
            await self._try(self._look_after_job, order, states[order.id])

    async def _look_after_job(self, order: WorkOrder, state: str | None) -> None:
        """Send what was not sent, or is lost; give up what kills its workers."""
        if order.status == "running":  # and its worker is silent
            if await self.orders.put_back(order.id) is None:
                return
            if order.attempts >= MOST_ATTEMPTS:
                await self._give_up(order)
                return
            log.warning("the worker of job %s is silent; the job is put into the queue again", order.id)
            await self._send(order)
        elif order.status == "accepted" or (state not in _RQ_WAITS and self._is_lost(order, state, time.time())):
            await self._send(order)

    def _is_lost(self, order: WorkOrder, state: str | None, now_s: float) -> bool:
        """Tell whether Redis has lost a sent order: at once when it knows nothing of it, else after a while.

        A worker that has just taken it has not yet claimed it; one that was killed then never will.
        """
        since = self._looked.setdefault(order.id, now_s)
        patience_s = {None: 0.0, "started": self.orders.silent_s}.get(state, _RESEND_AFTER_S)
        if now_s - since < patience_s:
            return False
        self._looked.pop(order.id, None)
        return True

    async def _give_up(self, order: WorkOrder) -> None:
        error = f"given up: whoever worked on it died, {order.attempts} times"
        if await self.orders.settle(order.id, "failed", time.time(), error=error) and order.run_id:
            await self.orders.end_run(order.run_id, time.time(), error)

    # ------------------------------------------------------------------------------------------------------- ABSURD
    async def _spawn(self, order: WorkOrder) -> None:
        """Put the stages of a run into the durable queue; what is there already stays."""
        job = required(await self._jobs.get_by_run_id(str(order.run_id)), "Job", str(order.run_id))
        spawn = spawn_reimage if order.kind == REIMAGE_CHAIN else spawn_rerun
        await self._gateway.ask(lambda client: spawn(client, job, self._products))

    async def _look_after_chain(self, order: WorkOrder) -> None:
        """Send what was not sent, or is lost; end the order when its run has ended."""
        if order.status == "accepted":
            await self._send(order)
            return
        job = await self._jobs.get_by_run_id(str(order.run_id))
        now_s = time.time()
        if job is None or job.status not in UNENDED:
            status = "finished" if job and job.status == "completed" else "failed"
            await self.orders.settle(order.id, status, now_s, {"run_id": order.run_id}, job.error if job else None)
        elif job.workflow_id and now_s - self._looked.get(order.id, 0.0) > _LOOK_AGAIN_S:
            self._looked[order.id] = now_s
            workflow_id = UUID(job.workflow_id)
            if not await self._gateway.ask(lambda client: client.has_workflow(workflow_id)):
                await self._send(order)

    async def _sweep(self) -> None:
        """Now and then: end runs whose workflow was canceled as a whole, and forget old replies."""
        now_s = time.time()
        if now_s - self._swept_at < 5 * ROUND_S:
            return
        self._swept_at = now_s
        await self.orders.forget_replies(now_s - _REPLIES_KEPT_S)
        if self._gateway.client is None:
            return
        await self._make_sure_of_cancels(now_s)
        going = {UUID(job.workflow_id): job for job in await self.orders.lively_runs(now_s) if job.workflow_id}
        if going:
            stopped = await self._gateway.ask(lambda client: client.stopped_workflows(list(going)))
            await self._end_runs(going[workflow_id] for workflow_id in stopped)

    async def _make_sure_of_cancels(self, now_s: float) -> None:
        """Cancel again what was canceled while somebody sent it who died before taking it back."""
        for order in await self.orders.newest("canceled", _LOOKED_BACK):
            if order.target == "absurd" and now_s - (order.ended_at or 0.0) < _LOOK_AGAIN_S:
                await self._undo(order)

    async def _end_runs(self, jobs: Iterable[JobRecord]) -> None:
        """End the runs whose last task, which would have said so, was canceled or failed too."""
        for job in jobs:
            if await self.orders.end_run(job.run_id, time.time(), "canceled in the task queue"):
                log.info("run %s ends, because its tasks were canceled", job.run_id)
