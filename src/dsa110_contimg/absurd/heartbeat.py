"""The worker's end of its beating process (see :mod:`~dsa110_contimg.absurd.beating`): keeps it running, tells it what
the worker holds, and hears from it what to stop."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable

from dsa110_contimg.absurd.beating import Beat
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import delays
from dsa110_contimg.absurd.processes import kill_group
from dsa110_contimg.absurd.pulse import Pulse

logger = logging.getLogger(__name__)

_STOP_CLAIMING_AT = 0.6  # of the lease
_GOODBYE_S = 5.0
_BACKLOG_BYTES = 1 << 16


class Heartbeat:
    """Keeps the worker's leases alive.

    Parameters
    ----------
    config : AbsurdConfig
    worker_id : str
    hear : callable
        Called with a verdict (``cancel``, ``lost``, ``drain``, ``alive``) and the claim that it is about, or 0.
    """

    def __init__(self, config: AbsurdConfig, worker_id: str, hear: Callable[[str, int], None]) -> None:
        self._config = config
        self._worker_id = worker_id
        self._hear = hear
        self._pulse = Pulse.make()
        self._groups: dict[int, int] = {}  # process group → claim
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the process; it is started again whenever it ends."""
        self._keeper = asyncio.create_task(self._keep(), name="absurd heartbeat")

    async def stop(self) -> None:
        """Let it end, in good order."""
        self._tell("bye")
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if process := self._process:
            if process.stdin:
                process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._pulse.close()

    def fresh(self) -> bool:
        """Tell whether the last answered beat is young enough to claim more work."""
        return self._pulse.age_s() < _STOP_CLAIMING_AT * self._config.lease_sec

    def age_s(self) -> float:
        """Return the seconds since the last beat that was answered."""
        return self._pulse.age_s()

    def hold(self, claims: Iterable[int]) -> None:
        """Say what the worker holds; leases that it does not know of go back into the queue some time later."""
        self._tell(" ".join(["held", *map(str, claims)]))

    def groups(self, claim: int) -> "ClaimGroups":
        """Return where the process groups of a claim's children are noted."""
        return ClaimGroups(self, claim)

    def add(self, group: int, claim: int) -> None:
        """Note a process group that runs under a claim."""
        self._groups[group] = claim
        self._tell(f"+{group} {claim}")

    def discard(self, group: int) -> None:
        """Forget a process group that is over."""
        self._groups.pop(group, None)
        self._tell(f"-{group}")

    def kill(self) -> None:
        """Kill every child at once."""
        for group in self._groups:
            kill_group(group)

    async def _keep(self) -> None:
        waits = delays()
        while True:
            try:
                process = await self._begin()
            except OSError as error:
                logger.error("the beating process cannot be started: %s; trying again", error)
                await asyncio.sleep(next(waits))
                continue
            if process.stdout is None:
                raise ValueError("the beating process has no standard output")
            while line := await process.stdout.readline():
                verdict, _, claim = line.decode().strip().partition(" ")
                self._hear(verdict, int(claim or 0))
                waits = delays()
            logger.error("the beating process ended with code %s; starting another", await process.wait())
            await asyncio.sleep(next(waits))

    async def _begin(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dsa110_contimg.absurd.beating", "--pulse", str(self._pulse.descriptor),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, pass_fds=(self._pulse.descriptor,),
            start_new_session=True,
        )  # fmt: skip
        self._process = process
        self._tell(json.dumps(dataclasses.asdict(self._beat())))
        for group, claim in self._groups.items():
            self._tell(f"+{group} {claim}")
        return process

    def _beat(self) -> Beat:
        config = self._config
        return Beat(
            database_url=config.database_url, worker_id=self._worker_id, host=socket.gethostname(), pid=os.getpid(),
            queues=config.queues, slots=config.worker_concurrency, lease_sec=config.lease_sec,
            interval_sec=config.heartbeat_interval_sec, kill_grace_sec=config.kill_grace_sec,
            max_crashes=config.max_crashes,
        )  # fmt: skip

    def _tell(self, line: str) -> None:
        stream = self._process.stdin if self._process else None
        if stream is None or stream.is_closing():
            return
        if stream.transport.get_write_buffer_size() > _BACKLOG_BYTES:
            return  # it hangs; when it does not beat, the lease says so
        with contextlib.suppress(ConnectionError):
            stream.write(f"{line}\n".encode())


class ClaimGroups:
    """Where the process groups of one claim's children are noted."""

    def __init__(self, heartbeat: Heartbeat, claim: int) -> None:
        self._heartbeat = heartbeat
        self._claim = claim

    def add(self, group: int, /) -> None:
        """Note a group that has been started."""
        self._heartbeat.add(group, self._claim)

    def discard(self, group: int, /) -> None:
        """Forget one that is over."""
        self._heartbeat.discard(group)
