"""Queues: their counts, their limits, pausing them, pruning what has ended."""

from dsa110_contimg.api.queue_schemas.requests import ConcurrencyLimit, PruneRequest, QueueLimits
from dsa110_contimg.api.services.absurd.gateway import QueueGateway, Row


class QueueService:
    """Everything that is done to queues."""

    def __init__(self, gateway: QueueGateway) -> None:
        self._gateway = gateway

    async def names(self) -> list[str]:
        """Return the names of the queues that have or had tasks."""
        return [row["queue_name"] for row in await self.list_stats()]

    async def list_stats(self) -> list[Row]:
        """Return how many tasks of each queue are in which state."""
        return await self._gateway.ask(lambda client: client.list_queue_stats())

    async def get_stats(self, name: str) -> Row:
        """Return the same for one queue; zeros for a name that no task has."""
        return await self._gateway.ask(lambda client: client.get_queue_stats(name))

    async def pause(self, name: str) -> Row:
        """Have workers take nothing more from a queue; what runs goes on."""
        await self._gateway.ask(lambda client: client.pause_queue(name))
        return {"message": f"Queue {name} is paused; what runs goes on"}

    async def resume(self, name: str) -> Row:
        """Have workers take tasks from a queue again."""
        await self._gateway.ask(lambda client: client.resume_queue(name))
        return {"message": f"Queue {name} goes on"}

    async def set_limits(self, name: str, limits: QueueLimits) -> Row:
        """Limit how fast tasks of a queue start."""
        await self._gateway.ask(
            lambda client: client.set_queue_limits(name, limits.rate_per_s, limits.burst, limits.ageing_s)
        )
        return {"message": f"Queue {name} has new limits"}

    async def set_concurrency(self, name: str, limit: ConcurrencyLimit) -> Row:
        """Let so many tasks of a concurrency key run at once."""
        await self._gateway.ask(lambda client: client.set_concurrency(name, limit.key, limit.limit))
        return {"message": f"At most {limit.limit} tasks of the key {limit.key} run at once"}

    async def prune(self, wanted: PruneRequest) -> Row:
        """Delete tasks that ended long ago; dead letters stay."""
        pruned = await self._gateway.ask(
            lambda client: client.prune_tasks(wanted.retention_days, wanted.queue_name, wanted.statuses)
        )
        return {"pruned": pruned}
