"""The RQ queue as the API shows it: accepted work from the database, other jobs from Redis."""

import asyncio
from typing import Any

from dsa110_contimg.api.exceptions import RecordNotFoundError, ServiceUnavailableError, ValidationError
from dsa110_contimg.api.job_queue import JobQueue
from dsa110_contimg.api.replies import iso_time
from dsa110_contimg.api.services.work_service import WorkService
from dsa110_contimg.api.work_orders import WorkOrder

View = dict[str, Any]

STATUSES = ("queued", "started", "finished", "failed", "deferred", "scheduled", "canceled", "not_found")
#: State of an order → the name that clients of RQ know.
_IN_RQ = {"accepted": "queued", "sent": "queued", "running": "started"}
_NO_COUNTS = dict.fromkeys(("queued_count", "started_count", "finished_count", "failed_count", "error"))


class RqService:
    """Shows and cancels jobs."""

    def __init__(self, work: WorkService, queue: JobQueue) -> None:
        self._work = work
        self._queue = queue

    async def close(self) -> None:
        """Close the connection to Redis."""
        await asyncio.to_thread(self._queue.close)

    async def stats(self) -> View:
        """Return what Redis holds, and how much accepted work has not ended."""
        told, accepted = await asyncio.gather(asyncio.to_thread(self._queue.stats), self._work.orders.counts())
        return {**_NO_COUNTS, **told, "in_memory_count": 0, "accepted": accepted}

    async def list_jobs(self, status: str | None, limit: int) -> list[View]:
        """Return jobs: accepted work, the newest first, then what else is in Redis, while that answers.

        Raises
        ------
        ValidationError
            There is no such state.
        """
        wanted = status.lower() if status else None
        if wanted is not None and wanted not in STATUSES:
            raise ValidationError(f"status={status!r} is none; write one of {', '.join(STATUSES)}", "status", status)
        views = [order_view(order) for order in await self._work.orders.newest(wanted, limit)]
        try:
            others = await asyncio.to_thread(self._queue.list_jobs, wanted, limit)
        except ServiceUnavailableError:
            others = []
        known = {view["job_id"] for view in views}
        views += [_other(job) for job in others if job["job_id"] not in known and not _is_order(job)]
        return views[:limit]

    async def get_job(self, job_id: str) -> View:
        """Return a job.

        Raises
        ------
        RecordNotFoundError
            There is none.
        ServiceUnavailableError
            It is no accepted work, and Redis, which may know it, does not answer.
        """
        order = await self._work.orders.find(job_id)
        return order_view(order) if order else _other(await asyncio.to_thread(self._queue.get_job, job_id))

    async def cancel(self, job_id: str) -> View:
        """Cancel a job that has not ended.

        Raises
        ------
        RecordNotFoundError
            There is none.
        InvalidStateError
            It has ended.
        ServiceUnavailableError
            Redis does not answer, and the job is nowhere else.
        """
        if await self._work.orders.find(job_id):
            await self._work.cancel_order(job_id)
        elif not await asyncio.to_thread(self._queue.forget, job_id):
            raise RecordNotFoundError("QueueJob", job_id)
        return {"status": "canceled", "job_id": job_id}


def _is_order(job: View) -> bool:
    """Tell whether a job of Redis is the bell of an order, which is listed as such or belongs to another page."""
    return str(job["job_id"]).startswith("job_")


def _other(job: View) -> View:
    return {**job, "kind": None, "run_id": None, "attempts": None}


def order_view(order: WorkOrder) -> View:
    """Return accepted work as clients of RQ read jobs."""
    return {
        "job_id": order.id,
        "status": _IN_RQ.get(order.status, order.status),
        "created_at": iso_time(order.created_at),
        "started_at": iso_time(order.started_at),
        "ended_at": iso_time(order.ended_at),
        "result": order.result,
        "error": order.error,
        "meta": dict(order.meta) or None,
        "kind": order.kind,
        "run_id": order.run_id,
        "attempts": order.attempts if order.target == "rq" else None,  # each task of the durable queue has its own
    }
