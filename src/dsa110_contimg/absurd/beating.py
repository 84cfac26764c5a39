"""The process beside each worker that says that the worker lives: ``python -m dsa110_contimg.absurd.beating``.

A process and not a thread, because code that holds the interpreter's lock (a long call into C) stops every thread of
the worker, and a worker that is merely busy must not lose its tasks. It

* holds the worker's session advisory lock and beats on the same connection, as long as the worker's process exists and
  is not stopped (SIGSTOP, a debugger);
* tells the worker what the beat's answer asks for: tasks to cancel, tasks that belong to somebody else by now, drain;
* kills the process groups of the worker's children when the worker dies, when the lease ran out without an answered
  beat, and when a cancelled child is still there after its grace;
* says that the worker has crashed, if it has, so that its tasks run again at once;
* does the queue's housekeeping on a second connection (one worker at a time wins that).

Standard input: one line of JSON with the settings, then lines ``+PGID CLAIM``, ``-PGID``, ``held CLAIM ...`` (all that
the worker holds now) and ``bye``. Standard output: lines ``cancel CLAIM``, ``lost CLAIM``, ``drain``, and
``alive`` when a beat was answered after a time without.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg

from dsa110_contimg import logs
from dsa110_contimg.absurd.connection import PASSING, REFUSED, delays, open_connection
from dsa110_contimg.absurd.processes import kill_group
from dsa110_contimg.absurd.pulse import Pulse
from dsa110_contimg.absurd.statements import work

logger = logging.getLogger(__name__)

_REAP_INTERVAL_S = 0.5
_REPAIR_INTERVAL_S = 10.0
_WATCH_INTERVAL_S = 0.1
_LOCK_INTERVAL_S = 0.3
_LONGEST_WAIT_S = 0.4
_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Beat:
    """What the process has to know, as the worker tells it."""

    database_url: str
    worker_id: str
    host: str
    pid: int
    queues: tuple[str, ...]
    slots: int
    lease_sec: float
    interval_sec: float
    kill_grace_sec: float
    max_crashes: int

    def registration(self) -> tuple[Any, ...]:
        """Return what the queue knows of the worker."""
        return self.worker_id, self.host, self.pid, list(self.queues), self.slots


class Beating:
    """Beats for one worker until it leaves or dies.

    Parameters
    ----------
    beat : Beat
    pulse : Pulse
        Is told when a beat was answered.
    say : callable
        Passes a line on to the worker.
    """

    def __init__(self, beat: Beat, pulse: Pulse, say: Callable[[str], None]) -> None:
        self._beat = beat
        self._pulse = pulse
        self._say = say
        self._groups: dict[int, int] = {}  # process group → claim
        self._held: list[int] | None = None
        self._held_at_s = 0.0
        self._cancelled_at_s: dict[int, float] = {}
        self._leaving = False
        self._over = asyncio.Event()
        self._locked = False
        self._was_cut = False

    async def run(self) -> None:
        """Work until the worker says goodbye or is gone."""
        jobs = [
            asyncio.create_task(self._keep("beat", self._live)),
            asyncio.create_task(self._keep("housekeeping", self._keep_house)),
            asyncio.create_task(self._watch()),
        ]
        await self._over.wait()
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        self._kill(self._groups)
        if not self._leaving:
            await self._report_the_crash()

    # ----------------------------------------------------------------------------------------------- the worker's words
    def follow(self, line: str) -> None:
        """Take in one line of the worker."""
        word, *numbers = line.split()
        if word == "held":
            self._held, self._held_at_s = [int(number) for number in numbers], time.monotonic()
        elif word == "bye":
            self._leaving = True
        elif word.startswith("+"):
            self._groups[int(word)] = int(numbers[0])
        else:
            self._groups.pop(-int(word), None)

    def end(self) -> None:
        """The worker says nothing any more: it has left, or it is dead."""
        self._over.set()

    # -------------------------------------------------------------------------------------------------------- the watch
    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            if os.getppid() != self._beat.pid:
                self._over.set()
            if self._groups and self._pulse.age_s() > self._beat.lease_sec:
                logger.error("no beat was answered for %.1f s: killing the children", self._pulse.age_s())
                self._kill(self._groups)
            self._kill_cancelled()

    def _kill_cancelled(self) -> None:
        """Kill cancelled children that the worker has not ended in its time: its own loop may be blocked."""
        late_s = time.monotonic() - self._beat.kill_grace_sec - 0.5
        late = {claim for claim, since_s in self._cancelled_at_s.items() if since_s < late_s}
        self._kill({group: claim for group, claim in self._groups.items() if claim in late})
        running = set(self._groups.values())
        self._cancelled_at_s = {c: at_s for c, at_s in self._cancelled_at_s.items() if c in running - late}

    def _kill(self, groups: dict[int, int]) -> None:
        for group in list(groups):
            kill_group(group)
            self._groups.pop(group, None)

    # -------------------------------------------------------------------------------------------------- the connections
    async def _keep(self, name: str, work_on: Callable[[Any], Awaitable[None]]) -> None:
        """Work on a connection, through broken ones.

        It never waits long: the first who is back after an outage gives up those whose locks are still free 0.7 s
        later.
        """
        waits = delays(longest_s=_LONGEST_WAIT_S)
        while True:
            connection = None
            try:
                title = f"absurd {name} {self._beat.worker_id}"
                connection = await open_connection(self._beat.database_url, title, self._beat.lease_sec / 2)
                waits = delays(longest_s=_LONGEST_WAIT_S)
                await work_on(connection)
            except (*PASSING, *REFUSED, asyncpg.PostgresError) as error:
                logger.warning("%s: %r from the queue's database; connecting again", name, error)
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(next(waits))

    async def _live(self, connection: Any) -> None:
        """Beat, and hold the lock; the lock may have to wait until the server drops an older session."""
        self._locked = False
        while True:
            if not self._is_stopped():
                await self._beat_once(connection)
            interval_s = self._beat.interval_sec
            await asyncio.sleep(interval_s if self._locked else min(_LOCK_INTERVAL_S, interval_s))

    def _is_stopped(self) -> bool:
        """Tell whether the worker's process is stopped: then nobody does its work, and it may lose it."""
        try:
            stat = Path(f"/proc/{self._beat.pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return False  # that it is gone is seen elsewhere
        return stat.rpartition(")")[2].split()[0] in "Tt"

    async def _beat_once(self, connection: Any) -> None:
        asked_s = time.monotonic()
        known = self._held if asked_s - self._held_at_s < self._beat.lease_sec / 2 else None
        rows = await connection.fetch(work.HEARTBEAT, self._beat.worker_id, known, self._beat.lease_sec)
        if any(row["verdict"] == "unknown" for row in rows):
            logger.info("registering worker %s", self._beat.worker_id)
            await connection.execute(work.REGISTER_WORKER, *self._beat.registration())
            self._locked = False
        silent_s = self._pulse.age_s()
        self._pulse.note(asked_s)
        if silent_s > 2.0 * self._beat.interval_sec:
            self._say("alive")
        for row in rows:
            self._pass_on(row["verdict"], row["claim"])
        if not self._locked:
            self._locked = await _lock(connection, self._beat.worker_id)

    def _pass_on(self, verdict: str, claim: int | None) -> None:
        if verdict == "drain":
            self._say("drain")
        elif verdict in ("cancel", "lost") and claim is not None:
            self._say(f"{verdict} {claim}")
            if verdict == "lost":
                self._kill({group: owner for group, owner in self._groups.items() if owner == claim})
            else:
                self._cancelled_at_s.setdefault(claim, time.monotonic())

    async def _keep_house(self, connection: Any) -> None:
        """Find lost workers twice a second, run the repair sweep every ten seconds.

        What cut this connection may have cut everybody, so that all beats look old: the others first get the time to
        be back.
        """
        repaired_s = -_REPAIR_INTERVAL_S
        if self._was_cut:
            await asyncio.sleep(_GRACE_S)
        self._was_cut = True
        while True:
            try:
                if count := await connection.fetchval(work.REAP, self._beat.lease_sec, self._beat.max_crashes):
                    logger.warning("took over %d tasks of lost workers", count)
                if time.monotonic() - repaired_s >= _REPAIR_INTERVAL_S:
                    repaired_s = time.monotonic()
                    if count := await connection.fetchval(work.REPAIR):
                        logger.error("repaired %d missed wake-ups; this should never happen, please report it", count)
            except asyncpg.LockNotAvailableError as error:
                logger.info("housekeeping gave way: %s", error)
            await asyncio.sleep(_REAP_INTERVAL_S)

    async def _report_the_crash(self) -> None:
        """Give the dead worker up at once; if this fails, its free lock tells the others within a second."""
        try:
            connection = await open_connection(self._beat.database_url, "absurd crash report", 5.0)
            try:
                await connection.execute(work.LEAVE, self._beat.worker_id, "crashed")
                await connection.execute(work.REAP, self._beat.lease_sec, self._beat.max_crashes)
            finally:
                connection.terminate()
        except (*PASSING, *REFUSED) as error:
            logger.warning("the crash of %s was not reported: %s", self._beat.worker_id, error)


async def _lock(connection: Any, worker_id: str) -> bool:
    """Take the worker's lock; False while the server still keeps an older session of the worker."""
    try:
        async with connection.transaction():
            await connection.execute(work.WAIT_SHORTLY)
            await connection.execute(work.HOLD_LOCK, worker_id)
    except asyncpg.LockNotAvailableError:
        return False
    return True


class _Words(asyncio.Protocol):
    """Cuts what comes from the worker into lines."""

    def __init__(self, beating: Beating) -> None:
        self._beating = beating
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._beating.follow(line.decode())

    def eof_received(self) -> None:
        self._beating.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._beating.end()


def _say(line: str) -> None:
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the worker is dead; the end of its words says so too
        logger.info("nobody hears %r", line)


async def _main(beat: Beat, pulse: Pulse, words: BinaryIO) -> None:
    beating = Beating(beat, pulse, _say)
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Words(beating), words)
    await beating.run()


def main() -> None:
    """Run the process; it ends when its worker does."""
    parser = argparse.ArgumentParser("python -m dsa110_contimg.absurd.beating", description=__doc__)
    parser.add_argument("--pulse", type=int, required=True, help="descriptor of the shared memory")
    arguments = parser.parse_args()
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.SIG_IGN)  # it goes when the worker goes, and must see the worker's stop through
    logs.setup("heartbeat", "WARNING")
    words = os.fdopen(sys.stdin.fileno(), "rb", buffering=0)
    beat = Beat(**json.loads(words.readline()))
    asyncio.run(_main(beat, Pulse(arguments.pulse), words))


if __name__ == "__main__":
    main()
