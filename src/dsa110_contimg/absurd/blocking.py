"""The client for scripts that do not await: the same calls by the same names.

An asynchronous client works in an event loop on a thread of its own; every call waits for its answer.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from uuid import UUID

from dsa110_contimg.absurd import transactional
from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import AbsurdError
from dsa110_contimg.absurd.events import Update
from dsa110_contimg.absurd.ids import new_id
from dsa110_contimg.absurd.payloads import encode
from dsa110_contimg.absurd.specs import TaskSpec, in_order

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    call: Callable[Concatenate[AbsurdClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["BlockingClient", P], T]:
    """Return a call of the client as one that waits for its answer."""

    @functools.wraps(call)
    def wait(self: "BlockingClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(call(self.client, *args, **kwargs))

    return wait


class BlockingClient:
    """Client of the queue for scripts. Use it as a context manager, or call :meth:`connect` and :meth:`close`.

    Examples
    --------
    >>> def spawn_one() -> None:
    ...     with BlockingClient.from_env() as client:
    ...         print(client.wait(client.spawn("imaging", {"ms_path": "/data/2025-10-05T12:30:00.ms"})))
    """

    def __init__(self, config: AbsurdConfig) -> None:
        self.client = AbsurdClient(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Make a client from the ``ABSURD_*`` variables of ``environ`` (default: the process's environment)."""
        return cls(AbsurdConfig.from_env(environ))

    def connect(self) -> None:
        """Open the connections; raises as :meth:`AbsurdClient.connect` does."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="absurd client", daemon=True)
        self._thread.start()
        try:
            self.run(self.client.connect())
        except (AbsurdError, KeyboardInterrupt):
            self._stop()
            raise

    def close(self) -> None:
        """Close the connections."""
        if self._loop is not None:
            self.run(self.client.close())
            self._stop()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for any call of the asynchronous client, as in ``run(client.client.dead_letters.list())``."""
        if self._loop is None:
            call.close()
            raise ValueError("this client is not connected; call connect() first, or use `with`")
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:  # ends the call, too
            future.cancel()
            raise

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    spawn = _blocking(AbsurdClient.spawn)
    spawn_many = _blocking(AbsurdClient.spawn_many)
    spawn_graph = _blocking(AbsurdClient.spawn_graph)
    spawn_workflow = _blocking(AbsurdClient.spawn_workflow)
    spawn_chain = _blocking(AbsurdClient.spawn_chain)
    create_workflow = _blocking(AbsurdClient.create_workflow)
    get_task = _blocking(AbsurdClient.get_task)
    list_tasks = _blocking(AbsurdClient.list_tasks)
    wait = _blocking(AbsurdClient.wait)
    cancel_task = _blocking(AbsurdClient.cancel_task)
    retry_task = _blocking(AbsurdClient.retry_task)
    prune_tasks = _blocking(AbsurdClient.prune_tasks)
    get_workflow = _blocking(AbsurdClient.get_workflow)
    has_workflow = _blocking(AbsurdClient.has_workflow)
    list_workflows = _blocking(AbsurdClient.list_workflows)
    stopped_workflows = _blocking(AbsurdClient.stopped_workflows)
    workflow_dag = _blocking(AbsurdClient.workflow_dag)
    ready_tasks = _blocking(AbsurdClient.ready_tasks)
    wait_workflow = _blocking(AbsurdClient.wait_workflow)
    cancel_workflow = _blocking(AbsurdClient.cancel_workflow)
    retry_workflow = _blocking(AbsurdClient.retry_workflow)
    get_queue_stats = _blocking(AbsurdClient.get_queue_stats)
    list_queue_stats = _blocking(AbsurdClient.list_queue_stats)
    pause_queue = _blocking(AbsurdClient.pause_queue)
    resume_queue = _blocking(AbsurdClient.resume_queue)
    set_queue_limits = _blocking(AbsurdClient.set_queue_limits)
    set_concurrency = _blocking(AbsurdClient.set_concurrency)
    list_workers = _blocking(AbsurdClient.list_workers)
    get_worker = _blocking(AbsurdClient.get_worker)
    drain_worker = _blocking(AbsurdClient.drain_worker)
    beat = _blocking(AbsurdClient.beat)
    health = _blocking(AbsurdClient.health)

    def listen(self, after: str | None = None) -> Iterator[Update]:
        """Yield what happens to tasks, as :meth:`EventLog.follow` does; blocks between the updates."""
        updates = self.client.listen(after)
        while True:
            yield self.run(_next(updates))

    def spawn_on(
        self, connection: Any, name: str, params: Any = None, *, workflow_id: UUID | None = None,
        **options: Any,
    ) -> UUID:  # fmt: skip
        """Spawn one task in the transaction of a blocking connection; this client need not be connected."""
        node = self.client.node_of(TaskSpec(name, {} if params is None else params, **options), workflow_id)
        [spawned] = transactional.spawn_on_blocking(connection, encode([node]))
        return spawned.task_id

    def spawn_graph_on(
        self, connection: Any, name: str, nodes: Sequence[TaskSpec], *, workflow_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> UUID:  # fmt: skip
        """Spawn a workflow in the transaction of a blocking connection."""
        workflow_id = workflow_id or new_id()
        ordered = encode([self.client.node_of(spec, workflow_id) for spec in in_order(nodes)])
        transactional.spawn_on_blocking(connection, ordered, str(workflow_id), name, encode(metadata or {}))
        return workflow_id


async def _next(updates: AsyncIterator[Update]) -> Update:
    return await anext(updates)
