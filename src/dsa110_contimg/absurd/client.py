"""What programs do with the queue: spawn tasks and workflows, look at them, cancel and retry them, watch them."""

from collections.abc import AsyncIterator

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.absurd.dead_letters import DeadLetters
from dsa110_contimg.absurd.monitoring import Monitor
from dsa110_contimg.absurd.queue_calls import QueueCalls
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.absurd.schedules import Schedules
from dsa110_contimg.absurd.spawning import Spawning
from dsa110_contimg.absurd.specs import Dependency, Policy, Registry, Spawned, SpecError, TaskSpec, UnknownTaskError
from dsa110_contimg.absurd.templates import Templates
from dsa110_contimg.absurd.workflow_calls import WorkflowCalls

__all__ = ["AbsurdClient", "Dependency", "Policy", "Spawned", "SpecError", "TaskSpec", "UnknownTaskError"]


class AbsurdClient(Spawning, WorkflowCalls, QueueCalls):
    """Client of the queue. Use it as an async context manager, or call :meth:`connect` and :meth:`close`.

    Parameters
    ----------
    config : AbsurdConfig
        Where the queue is, and the defaults of what is spawned.
    database : Database, optional
        Connections of the caller, instead of its own.
    registry : Tasks, optional
        The tasks that the program knows: what is spawned is checked against their parameters, and has their limits.

    Examples
    --------
    >>> async def spawn_one() -> None:
    ...     async with AbsurdClient.from_env() as client:
    ...         await client.spawn("imaging", {"ms_path": "/data/2025-10-05T12:30:00.ms"})
    """

    def __init__(
        self, config: AbsurdConfig, database: Database | None = None, registry: Registry | None = None
    ) -> None:
        super().__init__(config, database, registry)
        self.dead_letters = DeadLetters(self._database)
        self.schedules = Schedules(self._database, config)
        self.templates = Templates(self._database, config, self)
        self.monitor = Monitor(self._database)

    def listen(self, after: str | None = None) -> AsyncIterator[Row]:
        """Yield what happens to tasks, as it happens; see :meth:`EventLog.follow`."""
        return self.events.follow(after)

    async def list_workers(self) -> list[Row]:
        """Return the workers with what they run, the oldest first."""
        return await self.monitor.workers()

    async def get_worker(self, worker_id: str) -> Row | None:
        """Return a worker, or None."""
        return next((worker for worker in await self.list_workers() if worker["worker_id"] == worker_id), None)

    async def health(self) -> Row:
        """Return the state of the queue (``healthy``, ``degraded``, ``critical``, ``down``) with its reasons."""
        return await self.monitor.health()
