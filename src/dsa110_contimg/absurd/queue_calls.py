"""Queues and their controls."""

from collections.abc import Mapping
from typing import Any

from dsa110_contimg.absurd.caller import Caller
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.absurd.statements import queues


class QueueCalls(Caller):
    """The calls about queues."""

    async def get_queue_stats(self, queue: str) -> Row:
        """Return how many tasks of a queue are in each state; zeros for a queue without tasks."""
        return _counted((await self._database.fetch(queues.QUEUE_STATS, queue))[0])

    async def list_queue_stats(self) -> list[Row]:
        """Return the counts of every queue that has or had tasks."""
        return [_counted(row) for row in await self._database.fetch(queues.LIST_QUEUE_STATS)]

    async def pause_queue(self, queue: str) -> None:
        """Have workers take nothing more from a queue; what runs goes on."""
        await self._database.fetch(queues.PAUSE_QUEUE, queue, True)

    async def resume_queue(self, queue: str) -> None:
        """Have workers take tasks from a paused queue again."""
        await self._database.fetch(queues.PAUSE_QUEUE, queue, False)

    async def set_queue_limits(
        self, queue: str, rate_per_s: float | None = None, burst: float | None = None, ageing_s: float | None = None
    ) -> None:
        """Limit how many tasks of a queue start, and have waiting ones rise.

        Parameters
        ----------
        queue : str
            Name of the queue.
        rate_per_s : float, optional
            Starts per second on average; None: no limit.
        burst : float, optional
            Starts at once after a pause; needs a rate.
        ageing_s : float, optional
            Seconds of waiting after which a task's priority has risen by one; None: it does not.
        """
        await self._database.fetch(queues.SET_QUEUE_LIMITS, queue, rate_per_s, burst, ageing_s)

    async def set_concurrency(self, queue: str, key: str, limit: int) -> None:
        """Let ``limit`` tasks of a concurrency key run at once, over all workers."""
        await self._database.fetch(queues.SET_CONCURRENCY, queue, key, limit)

    async def drain_worker(self, worker_id: str) -> bool:
        """Have a worker finish what it runs and stop, as SIGTERM does; False when there is no such worker."""
        return bool(await self._database.fetchval(queues.DRAIN_WORKER, worker_id))

    async def beat(self, worker_id: str) -> bool:
        """Keep the beat of a worker that another program speaks for; False when there is no such worker."""
        return bool(await self._database.fetchval(queues.BEAT, worker_id))


def _counted(row: Mapping[str, Any]) -> Row:
    counts = {key: value if key == "queue_name" else int(value) for key, value in row.items()}
    return {**counts, "total": sum(value for value in counts.values() if isinstance(value, int))}
