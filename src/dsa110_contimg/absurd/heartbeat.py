"""The worker's heartbeat: a thread with its own event loop and its own connections.

Nothing that blocks the worker's main loop stops it. It says every few seconds that the worker lives and learns which
claims to stop; it stops the worker from claiming at 60 % of the lease without an answer, and kills the children at
100 %, because then somebody else may run their tasks. It also does the queue's housekeeping (one worker at a time wins
that): finding lost workers twice a second, the repair sweep every ten seconds.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dsa110_contimg.absurd.claims import Claims, Run, StopReason
from dsa110_contimg.absurd.connection import PASSING, REFUSED, delays, open_connection
from dsa110_contimg.absurd.statements import work

logger = logging.getLogger(__name__)

REAP_INTERVAL_S = 0.5
REPAIR_INTERVAL_S = 10.0
_WATCH_INTERVAL_S = 0.2
_STOP_CLAIMING_AT = 0.6  # of the lease


class Heartbeat(threading.Thread):
    """Keeps the worker's leases alive.

    Parameters
    ----------
    claims : Claims
        The worker's calls; only settings and registration are used here.
    runs : mapping
        Claim number → what runs under it; owned by the worker's loop.
    stop_run : callable
        Called in this thread with a run and the reason to stop it.
    renew_lock : callable
        Called in this thread when the queue had given the worker up: the advisory lock is to be taken again.
    """

    def __init__(
        self, claims: Claims, runs: Mapping[int, Run], stop_run: Callable[[Run, StopReason], None],
        renew_lock: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(name="absurd-heartbeat", daemon=True)
        self._claims = claims
        self._config = claims.config
        self._runs = runs
        self._stop_run = stop_run
        self._renew_lock = renew_lock
        self._ending = threading.Event()
        self._answered_s = time.monotonic()

    def fresh(self) -> bool:
        """Tell whether the last answered beat is young enough to claim more work."""
        return self._age_s() < _STOP_CLAIMING_AT * self._config.lease_sec

    def end(self) -> None:
        """Let the thread end within a fraction of a second."""
        self._ending.set()

    def run(self) -> None:
        """Run the thread's event loop."""
        asyncio.run(self._main())

    def _age_s(self) -> float:
        return time.monotonic() - self._answered_s

    async def _main(self) -> None:
        tasks = [
            asyncio.create_task(self._keep("beat", self._beat, self._config.heartbeat_interval_sec)),
            asyncio.create_task(self._keep("reaper", self._reap, REAP_INTERVAL_S)),
            asyncio.create_task(self._keep("repair", self._repair, REPAIR_INTERVAL_S)),
        ]
        while not self._ending.is_set():
            self._watch()
            await asyncio.sleep(_WATCH_INTERVAL_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self) -> None:
        """Kill what runs when the lease is over: the tasks may belong to others by now."""
        if self._age_s() < self._config.lease_sec:
            return
        for run in tuple(self._runs.values()):
            if run.reason != "lost":
                logger.error("no beat was answered for %.1f s: giving up task %s", self._age_s(), run.task.task_id)
                self._lose(run)

    def _lose(self, run: Run) -> None:
        run.mark("lost")
        run.kill()
        self._stop_run(run, "lost")

    async def _keep(self, name: str, work: Callable[[Any], Awaitable[None]], interval_s: float) -> None:
        """Do ``work`` on a connection of its own at every interval, through broken connections."""
        waits = delays()
        while True:
            connection = None
            try:
                title = f"absurd {name} {self._claims.worker_id}"
                connection = await open_connection(self._config.database_url, title, self._config.lease_sec / 2)
                while True:
                    await work(connection)
                    waits = delays()
                    await asyncio.sleep(interval_s)
            except (*PASSING, *REFUSED) as error:
                logger.warning("%s: %s: %s; connecting again", name, type(error).__name__, error)
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(next(waits))

    async def _beat(self, connection: Any) -> None:
        asked_s = time.monotonic()
        held = list(self._runs)
        rows = await connection.fetch(work.HEARTBEAT, self._claims.worker_id, held, self._config.lease_sec)
        self._answered_s = asked_s
        for row in rows:
            if row["verdict"] == "unknown":
                logger.warning("the queue had given this worker up; registering again")
                await connection.execute(work.REGISTER_WORKER, *self._claims.registration())
                self._renew_lock()
            elif run := self._runs.get(row["claim"]):
                self._follow(run, row["verdict"])

    def _follow(self, run: Run, verdict: StopReason) -> None:
        if verdict == "lost":
            self._lose(run)
        elif run.reason is None:
            self._stop_run(run, verdict)
        elif time.monotonic() - run.stopped_at > self._config.kill_grace_sec + 1.0:
            run.kill()  # the main loop had its time; it may be blocked

    async def _reap(self, connection: Any) -> None:
        count = await connection.fetchval(work.REAP, self._config.lease_sec, self._config.max_crashes)
        if count:
            logger.warning("took over %d tasks of lost workers", count)

    async def _repair(self, connection: Any) -> None:
        count = await connection.fetchval(work.REPAIR)
        if count:
            logger.error("repaired %d missed wake-ups; this should never happen, please report it", count)
