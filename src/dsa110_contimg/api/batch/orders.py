"""What an RQ worker does with accepted work: claim it, do it, say how it ended.

The row of the order is the truth and Redis only the bell: an order that comes twice is done once, one whose worker dies
is done again, one that is canceled is stopped. What fails is raised, so that Redis shows it as failed too.
"""

import asyncio
import dataclasses
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dsa110_contimg.absurd.processes import Warden
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.batch.batches import work_on_batch
from dsa110_contimg.api.batch.command import environment_of, run_command
from dsa110_contimg.api.config import APIConfig, get_config, process_environment
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.exceptions import DatabaseBusyError, DatabaseConnectionError, DatabaseError
from dsa110_contimg.api.interfaces import JobRecord
from dsa110_contimg.api.run_logs import RunLogs
from dsa110_contimg.api.work_orders import BATCH, RERUN_COMMAND, WorkOrder
from dsa110_contimg.api.work_repository import AsyncWorkRepository

log = logging.getLogger(__name__)

BEAT_S = 5.0
_AGAIN_AFTER_S = 1.0


class WorkFailedError(Exception):
    """Accepted work came to nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a piece of work is done with."""

    config: APIConfig
    logs: RunLogs
    groups: Warden


Work = Callable[[WorkOrder, Bench], Awaitable[Mapping[str, Any]]]


async def rerun_command(order: WorkOrder, bench: Bench) -> Mapping[str, Any]:
    """Do a run again with the command of this installation; what it writes goes into the run's log."""
    queue, run_id = bench.config.queue, str(order.run_id)
    if not queue.rerun_command:
        raise WorkFailedError("this worker has no PIPELINE_CMD_TEMPLATE; set it as for the API, and start it again")
    command = queue.rerun_command.fill({**order.arguments, "run_id": run_id})
    environment = environment_of(process_environment(), queue.command_variables)
    began = time.monotonic()

    def say(lines: str) -> None:
        bench.logs.append(run_id, "INFO", command[0], lines)

    await run_command(command, environment, say, queue.command_limit_sec, bench.groups)
    return {"exit_code": 0, "elapsed_s": round(time.monotonic() - began, 3), "command": command}


#: Kind of order → what does it. The one table to extend.
KINDS: Mapping[str, Work] = {
    RERUN_COMMAND: rerun_command,
    BATCH: lambda order, bench: work_on_batch(int(order.arguments["batch_id"]), bench.config),
}


def carry_out(order_id: str) -> Any:
    """Do an accepted piece of work, unless that has been done or somebody is at it; called by RQ.

    Raises
    ------
    WorkFailedError
        It came to nothing.
    """
    return asyncio.run(_carry_out(order_id, get_config()))


async def _carry_out(order_id: str, config: APIConfig) -> Any:
    async with open_database(config.database, config.timeouts) as adapter:
        orders, recorder = AsyncWorkRepository(adapter), AsyncProductRecorder(adapter)
        order = await orders.claim(order_id, uuid.uuid4().hex, time.time())
        if order is None:
            return {"skipped": "it has ended, or somebody works on it"}
        groups = Warden()
        groups.start()
        try:
            bench = Bench(config, RunLogs(config.log.run_directory), groups)
            return await Attempt(order, orders, recorder, bench).run()
        finally:
            groups.stop()


class Attempt:
    """One attempt at an order that is this worker's own."""

    def __init__(
        self, order: WorkOrder, orders: AsyncWorkRepository, recorder: AsyncProductRecorder, bench: Bench
    ) -> None:
        self._order = order
        self._orders = orders
        self._recorder = recorder
        self._bench = bench

    async def run(self) -> Any:
        """Work until the end, or until the order is not ours any more; say which."""
        job = await self._run()
        self._say("INFO", f"attempt {self._order.attempts} begins")
        work = asyncio.create_task(self._work())
        keeper = asyncio.create_task(self._keep())
        await asyncio.wait([work, keeper], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            self._say("WARNING", "canceled: the work is stopped")
            work.cancel()
            await asyncio.wait([work])
            return {"skipped": "canceled"}
        keeper.cancel()
        await asyncio.wait([keeper])
        return await self._conclude(job, work)

    async def _work(self) -> Mapping[str, Any]:
        work = KINDS.get(self._order.kind)
        if work is None:
            raise WorkFailedError(f"this worker does not know work of the kind {self._order.kind!r}; is it older?")
        return await work(self._order, self._bench)

    async def _run(self) -> JobRecord | None:
        """Return the run that this order makes; the claim has begun it."""
        return await self._recorder.get_job(self._order.run_id) if self._order.run_id else None

    async def _keep(self) -> None:
        """Give signs of life until the order is not ours any more."""
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                if not await self._orders.beat(self._order.id, str(self._order.claim)):
                    return
            except DatabaseError as error:
                log.warning("no sign of life of the work %s could be given: %s", self._order.id, error)

    async def _conclude(self, job: JobRecord | None, work: "asyncio.Task[Mapping[str, Any]]") -> Any:
        """Write down how the work ended; raise what it raised."""
        failure, now_s = work.exception(), time.time()
        error = f"{failure}" or type(failure).__name__ if failure else None
        result = None if failure else work.result()
        self._say("ERROR" if error else "INFO", error or "completed")
        status, run_status = ("failed", "failed") if error else ("finished", "completed")
        order = dataclasses.replace(self._order, status=status, result=result, error=error, ended_at=now_s)
        ended = job and dataclasses.replace(job, status=run_status, finished_at=now_s, error=error)
        if not await self._write_end(order, ended):
            return {"skipped": "it was canceled, or given to another worker"}
        if failure:
            raise WorkFailedError(error) from failure
        return result

    async def _write_end(self, order: WorkOrder, ended: JobRecord | None) -> bool:
        """Write the end of an order and its run; hours of work are not done again for a restart of the database.

        Raises
        ------
        DatabaseError
            It was away until this worker counts as silent, and somebody else may have the order.
        """
        until_s = time.monotonic() + self._orders.silent_s - BEAT_S
        while True:
            try:
                return await self._orders.end(order, ended)
            except (DatabaseConnectionError, DatabaseBusyError) as error:
                if time.monotonic() > until_s:
                    raise
                log.warning("the end of the work %s is not written yet: %s", order.id, error)
            await asyncio.sleep(_AGAIN_AFTER_S)

    def _say(self, level: str, words: str) -> None:
        if self._order.run_id:
            self._bench.logs.append(self._order.run_id, level, self._order.kind, words)
