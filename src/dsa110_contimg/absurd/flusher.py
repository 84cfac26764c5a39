"""Completions and claims of a worker in one statement, at most one of them under way.

Adaptive group commit: a completion is sent at once when nothing is under way, else it gathers with others until the
answer is here; there is no timer. The same statement claims for the slots that are free. A flush that fails is kept
and repeated on the next connection: the fence of each claim makes repeats harmless.

The connection also listens. So LISTEN is in force before the first look that may find nothing, and a listener that is
lost shows itself at the next look, at the latest after the poll interval.
"""

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import asyncpg

from dsa110_contimg.absurd import statements
from dsa110_contimg.absurd.claims import ClaimedTask
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import PASSING, REFUSED, delays, open_connection
from dsa110_contimg.absurd.statements import work

logger = logging.getLogger(__name__)

#: What a result can be the reason of; anything else says nothing about the results, and they are sent again.
_REFUSALS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.exceptions.ProgramLimitExceededError,
)


def _encode(text: str) -> bytes:
    return b"\x01" + text.encode()


def _decode(data: bytes) -> Any:
    return json.loads(data[1:])


class Hooks(NamedTuple):
    """What the flusher asks of its worker, and tells it.

    Attributes
    ----------
    free : callable
        Returns how many tasks the worker could start now.
    start : callable
        Called with each claimed task.
    refuse : callable
        Called with a task whose result the database does not take, and its reason.
    cancel : callable
        Called with a claim that somebody wants cancelled.
    """

    free: Callable[[], int]
    start: Callable[[ClaimedTask], None]
    refuse: Callable[[ClaimedTask, Exception], None]
    cancel: Callable[[int], None]


class Flusher:
    """Completes and claims for one worker.

    Parameters
    ----------
    config : AbsurdConfig
    worker_id : str
    names : sequence of str
        Tasks that the worker takes.
    hooks : Hooks
    """

    def __init__(self, config: AbsurdConfig, worker_id: str, names: Sequence[str], hooks: Hooks) -> None:
        self._config = config
        self._worker_id = worker_id
        self._queues = list(config.queues)
        self._names = list(names)
        self._hooks = hooks
        self._ended: list[tuple[ClaimedTask, str | None]] = []
        self._news = asyncio.Event()

    def complete(self, task: ClaimedTask, result: str | None) -> None:
        """Have a result recorded, which is JSON already."""
        self._ended.append((task, result))
        self._news.set()

    def wake(self) -> None:
        """Look for work at once."""
        self._news.set()

    def unrecorded(self) -> list[ClaimedTask]:
        """Return the tasks whose results have not been recorded yet."""
        return [task for task, _ in self._ended]

    async def run(self) -> None:
        """Work until cancelled."""
        waits = delays()
        while True:
            try:
                async with self._session() as connection:
                    flush = await connection.prepare(work.FLUSH)
                    while True:
                        await self._round(flush)
                        waits = delays()
            except (*PASSING, *REFUSED, asyncpg.PostgresError) as error:
                logger.warning("claiming: %r from the queue's database; connecting again", error)
            await asyncio.sleep(next(waits))

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        connection = await open_connection(self._config.database_url, f"absurd claims {self._worker_id}")
        try:
            await connection.set_type_codec(
                "jsonb", schema="pg_catalog", format="binary", encoder=_encode, decoder=_decode
            )
            connection.add_termination_listener(lambda _: self._news.set())
            await connection.add_listener(statements.READY_CHANNEL, self._on_ready)
            await connection.add_listener(statements.CANCEL_CHANNEL, self._on_cancel)
            yield connection
        finally:
            connection.terminate()

    async def _round(self, flush: Any) -> None:
        """Flush once, and wait until there is a reason to do so again."""
        self._news.clear()
        try:
            await self._flush(flush, len(self._ended), max(0, self._hooks.free()))
        except _REFUSALS as error:
            if not self._ended:
                raise
            logger.warning("a flush of %d results was refused (%s); sending them one by one", len(self._ended), error)
            await self._flush_singly(flush)
            return
        if not self._ended and not self._news.is_set():
            seconds = self._config.worker_poll_interval_sec * random.uniform(0.7, 1.0)  # noqa: S311 - spreads workers
            timer = asyncio.get_running_loop().call_later(seconds, self._news.set)
            await self._news.wait()
            timer.cancel()

    async def _flush(self, flush: Any, n_ended: int, limit: int) -> None:
        """Send the oldest results and claim; they are forgotten when the answer is here."""
        if not n_ended and not limit:
            return
        ended = self._ended[:n_ended]
        rows = await flush.fetch(
            self._worker_id, [task.task_id for task, _ in ended], [task.claim for task, _ in ended],
            [result for _, result in ended], self._queues, limit, self._names,
        )  # fmt: skip
        del self._ended[:n_ended]
        start = self._hooks.start
        for verdict, task_id, claim, attempt, crashes, queue, name, params, headers, workflow_id, timeout_s in rows:
            if verdict == "claimed":
                start(
                    ClaimedTask(
                        task_id, name, params, attempt, claim, queue, workflow_id, timeout_s, crashes, headers or {}
                    )
                )
            elif verdict == "stale":
                logger.error("the result of task %s (claim %d) came too late", task_id, claim)

    async def _flush_singly(self, flush: Any) -> None:
        """Send results one by one, so that one that the database does not take harms no other."""
        while self._ended:
            task, _ = self._ended[0]
            try:
                await self._flush(flush, 1, 0)
            except _REFUSALS as error:
                del self._ended[:1]
                self._hooks.refuse(task, error)

    def _on_ready(self, _connection: Any, _pid: int, _channel: str, queue: str) -> None:
        if queue in self._queues:
            self._news.set()

    def _on_cancel(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        worker_id, _, claim = payload.rpartition(" ")
        if worker_id == self._worker_id:
            self._hooks.cancel(int(claim))
