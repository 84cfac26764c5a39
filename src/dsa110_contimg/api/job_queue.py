"""Work whose loss costs a click: the RQ queue in Redis (pictures, commands of the installation, batches).

What costs science is in the durable ABSURD queue in PostgreSQL, a different store that by default has the same name.
Jobs are data (JSON), never pickled objects: a worker calls functions of :mod:`dsa110_contimg.api.batch.jobs` by name.
When Redis is down that is said; nothing is "queued" in a process's memory. Work that was promised to somebody has a row
in the products database (:mod:`dsa110_contimg.api.work_orders`), and comes here as the name of that row only.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from rq import Queue, SimpleWorker
from rq.exceptions import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.registry import BaseRegistry
from rq.results import Result
from rq.serializers import JSONSerializer

from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.exceptions import RecordNotFoundError, ServiceUnavailableError
from dsa110_contimg.api.replies import iso_time
from dsa110_contimg.secret_files import masked

JOBS_MODULE = "dsa110_contimg.api.batch.jobs"
ORDERS_FUNCTION = "dsa110_contimg.api.batch.orders.carry_out"
_JOB_ID = re.compile(r"[A-Za-z0-9_-]+")  # what RQ takes
_JOB_TIMEOUT_S = 3600
_RESULT_KEPT_S = 86400
_ORDER_GRACE_S = 300  # the work ends by itself before RQ ends it


class JobQueue:
    """One RQ queue. All methods block; call them from a thread, a script or a worker.

    Parameters
    ----------
    redis_url : str
        Address of Redis.
    queue_name : str
        Name of the queue.
    timeout_s : float
        How long an answer of Redis is waited for.
    """

    def __init__(self, redis_url: str, queue_name: str, timeout_s: float = 2.0) -> None:
        self.redis_url = redis_url
        self.queue_name = queue_name
        self.connection = redis.Redis.from_url(
            redis_url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s, health_check_interval=30
        )
        self._queue = Queue(
            queue_name, connection=self.connection, serializer=JSONSerializer, default_timeout=_JOB_TIMEOUT_S
        )

    @classmethod
    def from_config(cls, config: APIConfig) -> "JobQueue":
        """Return the queue of the settings."""
        return cls(config.redis.url, config.queue.name, config.timeouts.redis_socket)

    @property
    def is_connected(self) -> bool:
        """Whether Redis answers now."""
        try:
            return bool(self.connection.ping())
        except redis.RedisError:
            return False

    def enqueue(self, function: str, *arguments: Any, job_id: str | None = None) -> str:
        """Put a job into the queue and return its id.

        Parameters
        ----------
        function : str
            Name of a function of :mod:`dsa110_contimg.api.batch.jobs`.
        arguments
            JSON-able values.
        job_id : str, optional
            A job that is known under this id is not put there a second time.

        Raises
        ------
        ServiceUnavailableError
            Redis is down: the job is *not* queued.
        """
        with self._redis_said():
            try:
                job = self._queue.enqueue_call(
                    f"{JOBS_MODULE}.{function}", args=list(arguments), job_id=job_id, unique=job_id is not None,
                    result_ttl=_RESULT_KEPT_S, failure_ttl=_RESULT_KEPT_S,
                )  # fmt: skip
            except DuplicateJobError:
                return str(job_id)
            return str(job.id)

    def enqueue_thumbnail(self, image_path: str) -> str:
        """Have the picture of an image made before anybody asks for it; return the job's id."""
        return self.enqueue("make_thumbnail", image_path)

    def put_order(self, order_id: str, limit_s: float) -> None:
        """Put an accepted piece of work into the queue; what is left of an earlier time goes.

        Raises
        ------
        ServiceUnavailableError
            Redis is down.
        """
        with self._redis_said():
            self._delete(order_id)
            with contextlib.suppress(DuplicateJobError):  # somebody else has just put it there
                self._queue.enqueue_call(
                    ORDERS_FUNCTION, args=[order_id], job_id=order_id, unique=True,
                    timeout=int(limit_s) + _ORDER_GRACE_S, result_ttl=_RESULT_KEPT_S, failure_ttl=_RESULT_KEPT_S,
                )  # fmt: skip

    def states(self, job_ids: Sequence[str]) -> dict[str, str | None]:
        """Return the state of each job, None for one that is not there.

        Raises
        ------
        ServiceUnavailableError
            Redis is down.
        """
        with self._redis_said():
            found = Job.fetch_many(job_ids, connection=self.connection, serializer=JSONSerializer)
            return {
                name: str(job.get_status(refresh=False).value) if job else None
                for name, job in zip(job_ids, found, strict=True)
            }

    def forget(self, job_id: str) -> bool:
        """Take a job out of the queue, and all that is kept of it; False when there is none.

        Raises
        ------
        ServiceUnavailableError
            Redis is down.
        """
        with self._redis_said():
            return self._delete(job_id)

    def _delete(self, job_id: str) -> bool:
        job = self._fetch(job_id)
        if job is not None:
            with contextlib.suppress(InvalidJobOperation):  # somebody else has just taken it out
                job.delete()
        return job is not None

    def _fetch(self, job_id: str) -> Job | None:
        """Return a job; None for an id that no job has, and for one that RQ would give to none."""
        if not _JOB_ID.fullmatch(job_id):
            return None
        try:
            return Job.fetch(job_id, connection=self.connection, serializer=JSONSerializer)
        except NoSuchJobError:
            return None

    def list_jobs(self, status: str | None, limit: int) -> list[dict[str, Any]]:
        """Return jobs, all or those in a state, as :meth:`get_job` does.

        Raises
        ------
        ServiceUnavailableError
            Redis is down.
        """
        with self._redis_said():
            ids: list[str] = []
            for name, source in self._sources().items():
                if status in (None, name) and len(ids) < limit:
                    ids += source.get_job_ids(0, limit - len(ids) - 1)
            found = Job.fetch_many(ids[:limit], connection=self.connection, serializer=JSONSerializer)
            return self._views([job for job in found if job])

    def _sources(self) -> dict[str, Queue | BaseRegistry]:
        """Return what holds the jobs of each state."""
        queue = self._queue
        return {
            "queued": queue, "started": queue.started_job_registry, "finished": queue.finished_job_registry,
            "failed": queue.failed_job_registry, "deferred": queue.deferred_job_registry,
            "scheduled": queue.scheduled_job_registry, "canceled": queue.canceled_job_registry,
        }  # fmt: skip

    def get_job(self, job_id: str) -> dict[str, Any]:
        """Return a job: ``job_id, status, created_at, started_at, ended_at, result, error, meta``.

        Raises
        ------
        RecordNotFoundError
            No job has this id.
        ServiceUnavailableError
            Redis is down.
        """
        with self._redis_said():
            job = self._fetch(job_id)
            if job is None:
                raise RecordNotFoundError("QueueJob", job_id)
            return self._views([job])[0]

    def _views(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Return jobs as clients read them; the results of all are asked for at once."""
        with self.connection.pipeline(transaction=False) as asked:
            for job in jobs:
                key: str = Result.get_key(job.id)  # type: ignore[no-untyped-call]
                asked.xrevrange(key, "+", "-", count=1)
            answers = asked.execute()
        return [_view(job, _result(job, answer)) for job, answer in zip(jobs, answers, strict=True)]

    def stats(self) -> dict[str, Any]:
        """Return connection, name, address (without password) and how many jobs are in which state."""
        told = {"queue_name": self.queue_name, "redis_url": masked(self.redis_url)}
        try:
            with self._redis_said():
                return told | {
                    "connected": True,
                    "queued_count": self._queue.count,
                    "started_count": self._queue.started_job_registry.count,
                    "finished_count": self._queue.finished_job_registry.count,
                    "failed_count": self._queue.failed_job_registry.count,
                }
        except ServiceUnavailableError as error:
            return told | {"connected": False, "error": str(error)}

    def work(self, *, burst: bool = False) -> None:
        """Run jobs until told to stop (SIGTERM lets the current job end); with ``burst`` until there is none left.

        Jobs run in this very process: what may hang or grow is a child process of the job with limits of its own, and
        a worker that forks would leave its child behind when it is killed.
        """
        worker = SimpleWorker([self._queue], connection=self._worker_connection(), serializer=JSONSerializer)
        worker.work(burst=burst, with_scheduler=False, logging_level=None)

    def _worker_connection(self) -> "redis.Redis":
        """Return a connection that may wait for a job as long as it takes."""
        return redis.Redis.from_url(self.redis_url, socket_connect_timeout=5, health_check_interval=30)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    @contextmanager
    def _redis_said(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise ServiceUnavailableError(
                "Redis", f"the job queue {self.queue_name!r} does not answer: {error}"
            ) from error


def _result(job: Job, answer: Sequence[Any]) -> Result | None:
    """Return the latest result of a job from Redis's answer."""
    if not answer:
        return None
    [(result_id, payload)] = answer
    return Result.restore(job.id, result_id.decode(), payload, job.connection, JSONSerializer)


def _view(job: Job, latest: Result | None) -> dict[str, Any]:
    return {
        "job_id": str(job.id),
        "status": str(job.get_status(refresh=False).value),
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "ended_at": _time(job.ended_at),
        "result": latest.return_value if latest else None,
        "error": latest.exc_string if latest else None,
        "meta": job.meta or None,
    }


def _time(moment: Any) -> str | None:
    return iso_time(moment.timestamp()) if moment else None
