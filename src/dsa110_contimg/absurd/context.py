"""What a task's handler can do besides computing."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from dsa110_contimg.absurd.claims import ClaimedTask, Claims, Run
from dsa110_contimg.absurd.connection import QueueUnavailableError
from dsa110_contimg.absurd.executor import ChildResult, CommandResult, Executor
from dsa110_contimg.absurd.heartbeat import Heartbeat
from dsa110_contimg.absurd.payloads import encode
from dsa110_contimg.absurd.threads import Threads

logger = logging.getLogger(__name__)

_PROGRESS_INTERVAL_S = 0.25

Hearer = Callable[[float, str], None]


class TaskHandler(Protocol):
    """Runs the tasks of one name.

    What it raises fails the attempt; an exception whose attribute ``retryable`` is False fails the task for good.
    """

    async def __call__(self, task: ClaimedTask, context: "TaskContext", /) -> Any:
        """Do the work and return the result, as JSON can carry it."""


@runtime_checkable
class JudgingHandler(Protocol):
    """A handler that also knows which exceptions are worth another attempt."""

    def retryable(self, types: Sequence[str], /) -> bool | None:
        """Tell, by the names of an exception's classes; None: no opinion."""


class Tools:
    """What all tasks of a worker share.

    Attributes
    ----------
    claims : Claims
    heartbeat : Heartbeat
    executor : Executor
    threads : Threads
    threads_per_child : int
        A task's share of the processors.
    """

    def __init__(self, claims: Claims, heartbeat: Heartbeat, executor: Executor, threads: Threads, slots: int) -> None:
        self.claims = claims
        self.heartbeat = heartbeat
        self.executor = executor
        self.threads = threads
        self.threads_per_child = max(1, len(os.sched_getaffinity(0)) // slots)


class TaskContext:
    """One attempt of a task, as its handler sees it."""

    __slots__ = ("_run", "_told_s", "_tools", "task")

    def __init__(self, run: Run, tools: Tools) -> None:
        self.task = run.task
        self._run = run
        self._tools = tools
        self._told_s = 0.0

    async def run_child(self, target: str, options: Any, *, heard: Hearer | None = None) -> ChildResult:
        """Run ``module:function`` in a child process; its progress becomes the task's.

        Parameters
        ----------
        target, options
            The function, and what its options dataclass is built from.
        heard : callable, optional
            Called with every word of progress (fraction, message) as well; the task's own leaves out what comes fast.

        Raises
        ------
        ChildFailed
            The function raised, or the child died.
        """
        tools = self._tools

        async def progress(fraction: float, message: str) -> None:
            if heard is not None:
                heard(fraction, message)
            await self.progress(fraction, message)

        return await tools.executor.run(
            target, options, progress=progress, groups=tools.heartbeat.groups(self.task.claim),
            threads=tools.threads_per_child,
        )  # fmt: skip

    async def run_command(self, command: Sequence[str], params: Mapping[str, Any]) -> CommandResult:
        """Run a program without a shell.

        The parameters are its standard input, as JSON; those that are text, numbers or booleans are also variables
        ``TASK_PARAM_<NAME>`` of its environment, beside ``TASK_ID`` and ``TASK_ATTEMPT``.

        Raises
        ------
        ChildFailed
            It cannot be started, or ended with another exit code than 0.
        """
        variables = {"TASK_ID": str(self.task.task_id), "TASK_ATTEMPT": str(self.task.attempt)}
        for name, value in params.items():
            if isinstance(value, str | int | float):
                variables[f"TASK_PARAM_{name.upper()}"] = value if isinstance(value, str) else encode(value)
        groups = self._tools.heartbeat.groups(self.task.claim)
        return await self._tools.executor.run_command(command, encode(params), variables=variables, groups=groups)

    async def run_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function in a thread. It cannot be killed: let it look at :attr:`stopping` now and then."""
        return await self._tools.threads.run(f"{self.task.name} {self.task.task_id}", function, *args)

    @property
    def stopping(self) -> bool:
        """Whether the task is being stopped. May be read in any thread."""
        return self._run.reason is not None

    async def progress(self, fraction: float, message: str) -> None:
        """Say how far the task is (0 to 1); words that follow each other within 0.25 s are dropped."""
        now_s = time.monotonic()
        if now_s - self._told_s < _PROGRESS_INTERVAL_S and fraction < 1.0:
            return
        self._told_s = now_s
        try:
            if not await self._tools.claims.progress(self.task, fraction, message):
                self._run.stop("lost")
        except QueueUnavailableError as error:
            logger.info("progress of task %s not told: %s", self.task.task_id, error)

    def tell_progress(self, fraction: float, message: str) -> None:
        """Say how far the task is, from a thread."""
        if self._run.process:
            asyncio.run_coroutine_threadsafe(self.progress(fraction, message), self._run.process.get_loop())

    async def parent_results(self) -> dict[str, dict[str, Any]]:
        """Return name → ``{"status", "result", "error"}`` of the tasks that this one depends on."""
        return await self._tools.claims.parent_results(self.task)
