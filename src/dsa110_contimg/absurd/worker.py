"""The worker: claims tasks, runs their handlers, reports how they ended."""

import asyncio
import logging
import os
import random
import socket
import time
import traceback
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import asyncpg

from dsa110_contimg.absurd import statements
from dsa110_contimg.absurd.claims import ClaimedTask, Claims, Run, StopReason
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import PASSING, QueueUnavailableError, delays, open_connection
from dsa110_contimg.absurd.executor import ChildFailed, ChildResult, Executor, Warden
from dsa110_contimg.absurd.heartbeat import Heartbeat
from dsa110_contimg.absurd.statements import work

__all__ = ["AbsurdWorker", "ChildFailed", "ChildResult", "ClaimedTask", "TaskContext", "TaskHandler"]

logger = logging.getLogger(__name__)

_PROGRESS_INTERVAL_S = 0.25
_LISTENER_CHECK_S = 30.0


class TaskContext:
    """What a handler can do besides computing."""

    def __init__(self, run: Run, claims: Claims, executor: Executor) -> None:
        self._run = run
        self._claims = claims
        self._executor = executor
        self._told_s = 0.0

    async def run_child(self, target: str, options: Mapping[str, Any], *, threads: int | None = None) -> ChildResult:
        """Run ``module:function`` in a child process; its progress becomes the task's.

        Parameters
        ----------
        target, options
            The function, and what its options dataclass is built from.
        threads : int, optional
            Threads of the numerical libraries; default: this task's share of the processors.

        Raises
        ------
        ChildFailed
            The function raised, or the child died.
        """
        share = max(1, len(os.sched_getaffinity(0)) // self._claims.config.worker_concurrency)
        return await self._executor.run(
            target, options, progress=self.progress, groups=self._run.groups, threads=threads or share
        )

    async def progress(self, fraction: float, message: str) -> None:
        """Say how far the task is (0 to 1); words that follow each other within 0.25 s are dropped."""
        now_s = time.monotonic()
        if now_s - self._told_s < _PROGRESS_INTERVAL_S and fraction < 1.0:
            return
        self._told_s = now_s
        try:
            if not await self._claims.progress(self._run.task, fraction, message):
                self._run.stop("lost")
        except QueueUnavailableError as error:
            logger.info("progress of task %s not told: %s", self._run.task.task_id, error)

    async def parent_results(self) -> dict[str, dict[str, Any]]:
        """Return name → ``{"status", "result", "error"}`` of the tasks that this one depends on."""
        return await self._claims.parent_results(self._run.task)


class TaskHandler(Protocol):
    """Runs the tasks of one name.

    What it raises fails the attempt; an exception whose attribute ``retryable`` is False fails the task for good.
    """

    async def __call__(self, task: ClaimedTask, context: TaskContext) -> Mapping[str, Any]:
        """Do the work and return the result, as JSON can carry it."""


class AbsurdWorker:
    """Runs tasks of one queue until it is asked to stop.

    Parameters
    ----------
    config : AbsurdConfig
        Queue, concurrency, lease, graces.
    handlers : mapping
        Task name → handler; tasks of other names are left to other workers.
    worker_id : str, optional
        Default: host name and eight hexadecimal digits.
    """

    def __init__(self, config: AbsurdConfig, handlers: Mapping[str, TaskHandler], worker_id: str | None = None) -> None:
        self.config = config
        self.worker_id = worker_id or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._handlers = handlers
        self._claims = Claims(config, self.worker_id)
        self._warden = Warden()
        self._executor = Executor(self._warden, config.kill_grace_sec, config.child_memory_mb)
        self._runs: dict[int, Run] = {}
        self._processes: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._listening = asyncio.Event()
        self._relock = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    # ------------------------------------------------------------------------------------------------------ whole life
    async def run(self) -> None:
        """Work until :meth:`request_stop`; then let running tasks finish within the grace, or give them back.

        Raises
        ------
        SchemaError
            The queue is not set up, or by another version.
        """
        if not await self._connect():
            return
        loop = asyncio.get_running_loop()
        self._warden.start()
        heartbeat = Heartbeat(
            self._claims, self._runs,
            lambda run, reason: _call(loop, run.stop, reason), lambda: _call(loop, self._relock.set),
        )  # fmt: skip
        heartbeat.start()
        listener = asyncio.create_task(self._listen())
        try:
            await _first(self._listening, self._stopping)  # subscribed before the first look that may find nothing
            logger.info("worker %s runs %s of %s", self.worker_id, sorted(self._handlers), self.config.queue_name)
            await self._claim_until_stopped(heartbeat)
            await self._finish()
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            heartbeat.end()
            await asyncio.to_thread(heartbeat.join)
            await self._claims.close()
            self._warden.stop()
            logger.info("worker %s has stopped", self.worker_id)

    def request_stop(self) -> None:
        """Stop claiming and finish; a second call ends the grace of what still runs."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()
        self._wake.set()

    async def _connect(self) -> bool:
        """Connect, waiting for a database that is not up yet; False when the worker is asked to stop before."""
        for delay_s in delays():
            try:
                await self._claims.connect()
                return True
            except QueueUnavailableError as error:
                logger.warning("%s", error)
            await _first(self._stopping, timeout_s=delay_s)
            if self._stopping.is_set():
                break
        return False

    async def _finish(self) -> None:
        """Let running tasks end within the grace; give back the rest without counting the attempt."""
        await self._tell("stopping")
        if self._processes:
            ended = asyncio.ensure_future(asyncio.wait(self._processes))
            hurry = asyncio.ensure_future(self._hurry.wait())
            await asyncio.wait({ended, hurry}, timeout=self.config.stop_grace_sec, return_when="FIRST_COMPLETED")
            for task in (ended, hurry):
                task.cancel()
        for run in self._runs.values():
            run.stop("stop")
        if self._processes:
            await asyncio.wait(self._processes, timeout=self.config.kill_grace_sec + 5.0)
        for process in self._processes:
            process.cancel()
        await self._tell("stopped")

    async def _tell(self, state: Any) -> None:
        try:
            await self._claims.leave(state)
        except QueueUnavailableError as error:
            logger.warning("the queue was not told that this worker is %s: %s", state, error)

    # -------------------------------------------------------------------------------------------------------- claiming
    async def _claim_until_stopped(self, heartbeat: Heartbeat) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            free = self.config.worker_concurrency - len(self._runs)
            if free > 0 and heartbeat.fresh():
                await self._claim(free)
            await _first(self._wake, timeout_s=self.config.worker_poll_interval_sec * random.uniform(0.8, 1.2))  # noqa: S311

    async def _claim(self, free: int) -> None:
        try:
            tasks = await self._claims.claim(free, list(self._handlers))
        except QueueUnavailableError as error:
            logger.warning("%s", error)
            return
        for task in tasks:
            run = self._runs[task.claim] = Run(task)
            process = asyncio.create_task(self._process(run), name=f"{task.name} {task.task_id}")
            self._processes.add(process)
            process.add_done_callback(self._ended)

    def _ended(self, process: "asyncio.Task[None]") -> None:
        self._processes.discard(process)
        if not process.cancelled() and (error := process.exception()):
            logger.error("%s was not reported; it goes back when its lease is over", process.get_name(), exc_info=error)

    async def _listen(self) -> None:
        """Hold the connection that wakes the worker up and carries its advisory lock; open it again when it breaks."""
        waits = delays()
        while True:
            connection = None
            try:
                connection = await open_connection(self.config.database_url, f"absurd listener {self.worker_id}")
                await self._subscribe(connection)
                waits = delays()
                while not self._relock.is_set():
                    await _first(self._relock, timeout_s=_LISTENER_CHECK_S)
                    await connection.fetchval(work.NOW, timeout=5.0)
            except PASSING as error:
                logger.warning("listener: %s: %s; connecting again", type(error).__name__, error)
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(next(waits))

    async def _subscribe(self, connection: Any) -> None:
        self._relock.clear()
        connection.add_termination_listener(lambda _: self._relock.set())
        await connection.add_listener(statements.READY_CHANNEL, self._on_ready)
        await connection.add_listener(statements.CANCEL_CHANNEL, self._on_cancel)
        self._listening.set()
        self._wake.set()
        await connection.execute(work.HOLD_LOCK, self.worker_id)

    def _on_ready(self, _connection: Any, _pid: int, _channel: str, queue: str) -> None:
        if queue == self.config.queue_name:
            self._wake.set()

    def _on_cancel(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        worker_id, _, claim = payload.rpartition(" ")
        if worker_id == self.worker_id and (run := self._runs.get(int(claim))):
            run.stop("cancel")

    # --------------------------------------------------------------------------------------------------------- running
    async def _process(self, run: Run) -> None:
        """Run a task's handler to its end, within its time, and report."""
        context = TaskContext(run, self._claims, self._executor)
        run.job = asyncio.ensure_future(self._handlers[run.task.name](run.task, context))
        try:
            await asyncio.wait({run.job}, timeout=run.task.timeout_sec)
            if not run.job.done():
                run.stop("timeout")
                await asyncio.wait({run.job})
            await self._report(run, run.job)
        finally:
            del self._runs[run.task.claim]
            self._wake.set()

    async def _report(self, run: Run, job: "asyncio.Future[Any]") -> None:
        task, error = run.task, None if job.cancelled() else job.exception()
        if run.reason == "lost":
            logger.error("task %s (%s) belongs to somebody else now; its result is dropped", task.task_id, task.name)
        elif not job.cancelled() and error is None:
            await self._complete(run, job.result())
        elif run.reason == "stop" or (job.cancelled() and run.reason is None):
            await self._claims.release(task)
        else:
            await self._fail(run, error)

    async def _complete(self, run: Run, result: Any) -> None:
        try:
            accepted = await self._claims.complete(run.task, result)
        except TypeError as error:
            await self._fail(run, TypeError(f"the result of {run.task.name} cannot be kept: {error}"), retryable=False)
            return
        except asyncpg.PostgresError as error:  # the database refused the write itself: an attempt like any failed one
            await self._fail(run, error)
            return
        if not accepted:
            logger.error("the result of task %s (%s) came too late", run.task.task_id, run.task.name)

    async def _fail(self, run: Run, error: BaseException | None, retryable: bool = True) -> None:
        task = run.task
        words = _describe(run, error, self.worker_id)
        retryable = retryable and (run.reason is not None or bool(getattr(error, "retryable", True)))
        state = await self._claims.fail(task, words, retryable)
        level = logging.ERROR if state == "failed" else logging.WARNING
        logger.log(
            level, "task %s (%s) attempt %d: %s: %s -> %s", task.task_id, task.name, task.attempt, words["type"],
            words["message"], state or "belongs to somebody else now",
        )  # fmt: skip


def _describe(run: Run, error: BaseException | None, worker_id: str) -> dict[str, Any]:
    """Return what is kept of a failed attempt."""
    where = {"worker_id": worker_id, "host": socket.gethostname()}
    if run.reason == "timeout":
        limit_s = run.task.timeout_sec or 0.0
        message = f"the attempt took longer than its {limit_s:g} s and was ended"
        return {"type": "TimeoutError", "message": message, "reason": "timeout", **where}
    if run.reason == "cancel":
        return {"type": "Cancelled", "message": "stopped on request", "reason": "cancelled", **where}
    if isinstance(error, ChildFailed):
        return {
            "type": error.type, "message": error.message, "traceback": error.traceback, "reason": "error",
            "signal": error.signal, "exit_code": error.exit_code, "stderr_tail": error.stderr_tail, **where,
        }  # fmt: skip
    return {
        "type": type(error).__qualname__, "message": str(error) or type(error).__qualname__, "reason": "error",
        "traceback": "".join(traceback.format_exception(error))[-8000:], **where,
    }  # fmt: skip


async def _first(*events: asyncio.Event, timeout_s: float | None = None) -> None:
    """Wait until one of the events is set or the time is over."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def _call(loop: asyncio.AbstractEventLoop, function: Any, *args: StopReason) -> None:
    """Call a function in another thread's loop; a loop that is closed has nothing left to stop."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)
