"""Retention: what has ended long ago leaves the queue's tables."""

from collections.abc import Sequence

from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.absurd.statements import retention as statements

#: Tasks that one statement deletes: few enough to be over soon.
BATCH = 5000
DAY_S = 86400.0


async def prune(
    database: Database, retention_days: float, queue_name: str | None = None, statuses: Sequence[str] | None = None
) -> int:
    """Delete tasks that ended long ago, with their attempts, edges and workflows; return how many.

    A workflow goes whole or not at all, and no task goes while one that depends on it, or that it depends on, has not
    ended. Dead letters are copies and stay. Without a choice of queue or status, months that hold nothing else are
    dropped whole, and the notes on fires of schedules and on workers that are gone go as well.

    Parameters
    ----------
    database : Database
        Where the queue is.
    retention_days : float
        Tasks that ended so many days ago or earlier.
    queue_name : str, optional
        Default: all queues.
    statuses : sequence of str, optional
        Some of completed, failed, cancelled, skipped; default: all.
    """
    if retention_days < 0:
        raise ValueError(f"retention_days is {retention_days:g}; give at least 0")
    older_s = retention_days * DAY_S
    pruned = 0
    if queue_name is None and statuses is None:
        await database.fetchval(statements.PRUNE_RECORDS, older_s)
        while count := await database.fetchval(statements.DROP_OLD_PARTITION, older_s):
            pruned += count
    chosen = None if statuses is None else list(statuses)
    while count := await database.fetchval(statements.PRUNE_TASKS, older_s, queue_name, chosen, BATCH):
        pruned += count
    return pruned
