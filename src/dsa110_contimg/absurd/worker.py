"""The worker: claims tasks, runs their handlers, reports how they ended."""

import asyncio
import logging
import socket
import time
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Literal

from dsa110_contimg.absurd.claims import ClaimedTask, Claims, Run
from dsa110_contimg.absurd.config import AbsurdConfig, ConfigError
from dsa110_contimg.absurd.connection import QueueUnavailableError, delays
from dsa110_contimg.absurd.context import JudgingHandler, TaskContext, TaskHandler, Tools
from dsa110_contimg.absurd.endings import Retry, Snooze, describe, types_of
from dsa110_contimg.absurd.executor import ChildFailed, ChildResult, CommandResult, Executor
from dsa110_contimg.absurd.flusher import Flusher, Hooks
from dsa110_contimg.absurd.heartbeat import Heartbeat
from dsa110_contimg.absurd.payloads import encode
from dsa110_contimg.absurd.threads import Threads

__all__ = [
    "AbsurdWorker", "ChildFailed", "ChildResult", "ClaimedTask", "CommandResult", "Retry", "Snooze", "TaskContext",
    "TaskHandler",
]  # fmt: skip

logger = logging.getLogger(__name__)

_WATCH_INTERVAL_S = 0.1
_HOLD_INTERVAL_S = 1.0
_FINISH_INTERVAL_S = 0.02


class AbsurdWorker:
    """Runs tasks until it is asked to stop.

    Parameters
    ----------
    config : AbsurdConfig
        Queues, names of tasks, concurrency, lease, graces.
    handlers : mapping
        Task name → handler; tasks of other names are left to other workers.
    worker_id : str, optional
        Default: host name and eight hexadecimal digits.

    Raises
    ------
    ConfigError
        It is to take tasks that it has no handler for.
    """

    def __init__(self, config: AbsurdConfig, handlers: Mapping[str, TaskHandler], worker_id: str | None = None) -> None:
        self.config = config
        self.worker_id = worker_id or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._handlers = _chosen(handlers, config.worker_tasks)
        self._claims = Claims(config, self.worker_id)
        self._runs: dict[int, Run] = {}
        self._threads = Threads(config.kill_grace_sec)
        self._tools: Tools
        self._flusher: Flusher
        self._heartbeat: Heartbeat
        self._reports: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stop_asked_s = float("inf")  # monotonic; a drained worker waits without a limit

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
        config = self.config
        self._heartbeat = Heartbeat(config, self.worker_id, self._hear)
        executor = Executor(config.kill_grace_sec, config.child_memory_mb)
        self._tools = Tools(self._claims, self._heartbeat, executor, self._threads, config.worker_concurrency)
        hooks = Hooks(self._free, self._start, self._refuse, self._cancel)
        self._flusher = Flusher(config, self.worker_id, list(self._handlers), hooks)
        self._heartbeat.start()
        jobs = [asyncio.create_task(self._flusher.run()), asyncio.create_task(self._watch())]
        tasks, queues = ", ".join(sorted(self._handlers)), ", ".join(config.queues)
        logger.info("worker %s runs %s of %s", self.worker_id, tasks, queues)
        try:
            await _first(asyncio.ensure_future(self._stopping.wait()), *jobs)
            await self._finish()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            await self._heartbeat.stop()
            await self._claims.close()
            logger.info("worker %s has stopped", self.worker_id)

    def request_stop(self) -> None:
        """Stop claiming and finish; a second call ends the grace of what still runs."""
        if self._stop_asked_s < float("inf"):
            self._hurry.set()
        self._stop_asked_s = min(self._stop_asked_s, time.monotonic())
        self._stopping.set()

    def drain(self) -> None:
        """Stop claiming, let what runs finish however long it takes, and end."""
        if not self._stopping.is_set():
            logger.info("worker %s is drained", self.worker_id)
        self._stopping.set()

    async def _connect(self) -> bool:
        """Connect, waiting for a database that is not up yet; False when the worker is asked to stop before."""
        for delay_s in delays():
            try:
                await self._claims.connect()
                return True
            except QueueUnavailableError as error:
                logger.warning("%s", error)
            stopping = asyncio.ensure_future(self._stopping.wait())
            await _first(stopping, timeout_s=delay_s)
            if self._stopping.is_set():
                break
        return False

    async def _finish(self) -> None:
        """Let running tasks end within the grace; give back the rest without counting the attempt."""
        await self._tell("stopping")
        await self._quiet(self.config.stop_grace_sec, self._hurry)
        for run in list(self._runs.values()):
            run.stop("stop")
        self._stop_asked_s = time.monotonic()
        await self._quiet(self.config.kill_grace_sec + 5.0, asyncio.Event())
        for report in list(self._reports):
            report.cancel()
        await self._tell("stopped")

    async def _quiet(self, grace_s: float, hurry: asyncio.Event) -> None:
        """Wait until nothing runs and every end is recorded, or the grace since the request is over."""
        while self._reports or self._flusher.unrecorded():
            if hurry.is_set() or time.monotonic() - self._stop_asked_s > grace_s:
                return
            await asyncio.sleep(_FINISH_INTERVAL_S)

    async def _tell(self, state: Literal["stopping", "stopped"]) -> None:
        try:
            await self._claims.leave(state)
        except QueueUnavailableError as error:
            logger.warning("the queue was not told that this worker is %s: %s", state, error)

    # ----------------------------------------------------------------------------------------------------------- hooks
    def _free(self) -> int:
        """Return how many tasks could start now; none while the heartbeat is in doubt."""
        if self._stopping.is_set() or not self._heartbeat.fresh():
            return 0
        return self.config.worker_concurrency - len(self._runs) - len(self._threads.left_behind)

    def _start(self, task: ClaimedTask) -> None:
        run = self._runs[task.claim] = Run(task)
        run.process = self._track(self._process(run))

    def _refuse(self, task: ClaimedTask, error: Exception) -> None:
        """Fail a task whose result the database does not take, like any failed attempt."""
        self._track(self._fail(Run(task), error))

    def _cancel(self, claim: int) -> None:
        if run := self._runs.get(claim):
            run.stop("cancel")

    def _hear(self, verdict: str, claim: int) -> None:
        """Follow what the beating process says."""
        if verdict == "alive":
            self._flusher.wake()
        elif verdict == "drain":
            self.drain()
        elif verdict == "cancel":
            self._cancel(claim)
        elif run := self._runs.get(claim):
            run.stop("lost")

    def _track(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        report = asyncio.create_task(work)
        self._reports.add(report)
        report.add_done_callback(self._untrack)
        return report

    def _untrack(self, report: "asyncio.Task[None]") -> None:
        self._reports.discard(report)
        if not report.cancelled() and (error := report.exception()):
            logger.error("an end was not reported; the task goes back when its lease is over", exc_info=error)

    async def _watch(self) -> None:
        """Stop what has run out of time, and everything when no beat was answered for a whole lease."""
        held_s = 0.0
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            now_s = time.monotonic()
            for run in list(self._runs.values()):
                if now_s > run.deadline_s:
                    run.stop("timeout")
            if self._runs and self._heartbeat.age_s() > self.config.lease_sec:
                self._give_up()
            if now_s - held_s > min(_HOLD_INTERVAL_S, self.config.lease_sec / 4.0):
                held_s = now_s
                self._heartbeat.hold([*self._runs, *(task.claim for task in self._flusher.unrecorded())])

    def _give_up(self) -> None:
        """Kill what runs: the lease is over, the tasks may belong to others by now."""
        self._heartbeat.kill()
        for run in list(self._runs.values()):
            if run.reason != "lost":
                age_s = self._heartbeat.age_s()
                logger.error("no beat was answered for %.1f s: giving up task %s", age_s, run.task.task_id)
                run.stop("lost")

    # --------------------------------------------------------------------------------------------------------- running
    async def _process(self, run: Run) -> None:
        """Run a task's handler to its end and report."""
        task = run.task
        try:
            if run.reason is None:
                run.handling = True
                result = await self._handlers[task.name](task, TaskContext(run, self._tools))
                run.handling = False
                if run.reason != "lost":
                    self._flusher.complete(task, _json(task, result))
                    return
            await self._stopped(run)
        except asyncio.CancelledError:
            run.handling = False
            await self._stopped(run)
        except Exception as error:  # noqa: BLE001 - the boundary of the task: whatever it raises is a failed attempt
            run.handling = False
            await self._fail(run, error)
        finally:
            del self._runs[task.claim]
            self._flusher.wake()

    async def _stopped(self, run: Run) -> None:
        """Report a run that was stopped, by the reason."""
        if run.reason in ("timeout", "cancel"):
            await self._fail(run, None)
        elif run.reason == "lost":
            logger.error("task %s (%s) belongs to somebody else now", run.task.task_id, run.task.name)
        else:
            await self._claims.release(run.task)

    async def _fail(self, run: Run, error: Exception | None) -> None:
        task = run.task
        if run.reason == "lost":
            await self._stopped(run)
            return
        if run.reason is None and error is not None and "Snooze" in types_of(error):
            await self._claims.snooze(task, float(getattr(error, "after_s", 0.0)))
            return
        words = describe(run, error, self.worker_id)
        after_s = getattr(error, "after_s", None) if run.reason is None else None
        state = await self._claims.fail(task, words, self._retryable(run, error), after_s)
        level = logging.ERROR if state == "failed" else logging.WARNING
        logger.log(
            level, "task %s (%s) attempt %d: %s: %s -> %s", task.task_id, task.name, task.attempt, words["type"],
            words["message"], state or "belongs to somebody else now",
        )  # fmt: skip

    def _retryable(self, run: Run, error: Exception | None) -> bool | None:
        """Tell whether another attempt may succeed; None leaves it to the task's own policy."""
        if error is None or run.reason is not None:
            return None
        if not getattr(error, "retryable", True):
            return False
        if "Retry" in types_of(error):
            return True
        handler = self._handlers.get(run.task.name)
        return handler.retryable(types_of(error)) if isinstance(handler, JudgingHandler) else None


class ResultError(TypeError):
    """A result that cannot be kept; trying again cannot help."""

    retryable = False


class ReportedError(Exception):
    """A handler did not raise its failure but returned it: ``{"status": "error", "message", "errors"}``."""


def _json(task: ClaimedTask, result: Any) -> str | None:
    if isinstance(result, Mapping) and result.get("status") == "error":
        errors = [str(error) for error in result.get("errors") or ()]
        raise ReportedError("; ".join(errors) or str(result.get("message") or f"{task.name} returned an error"))
    try:
        return None if result is None else encode(result)
    except TypeError as error:
        raise ResultError(f"the result of {task.name} cannot be kept: {error}") from error


def _chosen(handlers: Mapping[str, TaskHandler], names: Sequence[str]) -> dict[str, TaskHandler]:
    """Return the handlers of the names given, or all."""
    if unknown := sorted(set(names) - set(handlers)):
        raise ConfigError(f"ABSURD_WORKER_TASKS names {unknown}; this worker knows {sorted(handlers)}")
    return {name: handler for name, handler in handlers.items() if not names or name in names}


async def _first(*futures: "asyncio.Future[Any]", timeout_s: float | None = None) -> None:
    """Wait until the first of the futures is done or the time is over; raise what it raised. The first one is ended."""
    done, _ = await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    futures[0].cancel()
    for future in done:
        future.result()
