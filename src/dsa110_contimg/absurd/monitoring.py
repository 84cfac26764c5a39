"""What the queue says about itself: rows for people and programs, true and cheap.

Everything comes from the queue's own tables: the narrow ones for what is live, ``absurd.stats`` for what has ended. No
call reads the tasks that have ended, so that none becomes slower with them.
"""

import re
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from dsa110_contimg.absurd.connection import AbsurdError, Database, QueueUnavailableError
from dsa110_contimg.absurd.figures import Counts, by_queue, mean, metrics_of, point_of, stage_of, worker_counts
from dsa110_contimg.absurd.health import Figures, down, judge, present, worker_state
from dsa110_contimg.absurd.metrics import REPAIRS, Snapshot, exposition
from dsa110_contimg.absurd.release import is_outdated
from dsa110_contimg.absurd.rows import Row, as_row, as_task
from dsa110_contimg.absurd.statements import monitoring as statements

__all__ = ["HistoryError", "Monitor", "Row", "as_row", "as_task", "worker_state"]

RESOLUTIONS_S = {"5m": 300, "15m": 900, "1h": 3600, "6h": 21600}
MAX_HOURS = 168


class HistoryError(AbsurdError):
    """A history that is not kept: the message names what was asked for and what there is."""


class Monitor:
    """Answers questions about the queue's state; ``client.monitor`` is one.

    Parameters
    ----------
    database : Database
        The queue's database, connected.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # -------------------------------------------------------------------------------------------------------- metrics
    async def metrics(self, queue: str | None = None) -> Row:
        """Return the figures of a queue, or of all queues together; see :func:`metrics_of`."""
        return metrics_of(await self._by_task(queue))

    async def metrics_by_task(self, queue: str | None = None) -> list[Row]:
        """Return the figures of each task name in each queue: ``queue_name``, ``task_name`` and those of `metrics`."""
        rows = await self._by_task(queue)
        return [{"queue_name": key[0], "task_name": key[1], **metrics_of({key: rows[key]})} for key in sorted(rows)]

    async def metrics_by_queue(self) -> dict[str, Row]:
        """Return the figures of each queue."""
        return by_queue(await self._by_task(None))

    async def pipeline_status(self, queue: str | None = None) -> Row:
        """Return how far each stage (task name) is, with the workers: what a person looks at first."""
        by_task, workers, health = await self._by_task(queue), await self.workers(), await self.health(queue)
        stages: dict[str, Row] = {}
        for name in sorted({name for _, name in by_task}):
            stages[name] = stage_of(metrics_of({key: row for key, row in by_task.items() if key[1] == name}))
        sums = {
            state: sum(stage[state] for stage in stages.values())
            for state in ("pending", "running", "completed", "failed")
        }
        return {
            "stages": stages,
            "total": sums,
            "queue_depth": health["queue_depth"],
            **{f"worker_{key}": value for key, value in worker_counts(workers).items()},
            "is_healthy": health["status"] == "healthy",
            "last_updated": datetime.now(UTC).isoformat(),
        }

    async def history(self, queue: str | None = None, hours: int = 24, resolution: str = "1h") -> Row:
        """Return series of the past from the stored statistics.

        Parameters
        ----------
        queue : str, optional
            Default: all queues together.
        hours : int
            How far back, 1 to 168.
        resolution : str
            ``5m``, ``15m``, ``1h`` or ``6h``: the length of a step. Statistics older than an hour are kept by five
            minutes.

        Returns
        -------
        dict
            ``timestamps`` (begins of the steps, the last one being under way) and ``series``: ``throughput``
            (completed tasks per second), ``success_rate`` (%), ``completed``, ``failed``, ``avg_latency``,
            ``p95_latency`` (running time, s), ``avg_wait``, ``p95_wait`` (s). Where nothing ran, what would need a
            task to be known is None.

        Raises
        ------
        HistoryError
            There is no history of that length or resolution.
        """
        if resolution not in RESOLUTIONS_S or not 1 <= hours <= MAX_HOURS:
            raise HistoryError(
                f"there is no history of {hours} hours by {resolution}; give 1 to {MAX_HOURS} hours and one of "
                f"{', '.join(RESOLUTIONS_S)}"
            )
        step_s = RESOLUTIONS_S[resolution]
        now_s = (await self._database.fetchval(statements.NOW)).timestamp()
        first_s = int((now_s - hours * 3600.0) // step_s + 1) * step_s
        rows = {row["at"]: row for row in await self._fetch(statements.HISTORY, queue, float(step_s), float(first_s))}
        starts = range(first_s, int(now_s) + 1, step_s)
        points = [point_of(rows.get(start), min(now_s - start, step_s)) for start in starts]
        return {
            "queue_name": queue,
            "hours": hours,
            "resolution": resolution,
            "timestamps": [datetime.fromtimestamp(start, UTC).isoformat() for start in starts],
            "series": {name: [point[name] for point in points] for name in point_of(None, 1.0)},
        }

    # --------------------------------------------------------------------------------------------------------- health
    async def health(self, queue: str | None = None) -> Row:
        """Return the verdict on the queue (see :func:`health.judge`); ``down`` when its database does not answer."""
        started = time.monotonic()
        try:
            row = (await self._fetch(statements.HEALTH, queue))[0]
            latency_ms = (time.monotonic() - started) * 1000.0
            workers = [w for w in await self.workers() if queue is None or queue in w["queues"]]
        except QueueUnavailableError as error:
            return down(str(error))
        at, outdated = row.pop("at"), is_outdated({key: row.pop(key) for key in ("schema_version", "made_of")})
        return judge(Figures(**row, outdated=outdated), workers, latency_ms, at)

    async def alerts(self, queue: str | None = None) -> list[Row]:
        """Return what to be warned of, the worst first: ``level`` (critical or warning), ``message``, ``timestamp``."""
        verdict = await self.health(queue)
        return [*verdict["alerts"], *verdict["warnings"]]

    async def workers(self) -> list[Row]:
        """Return the workers, the oldest first, each with its ``tasks`` and its ``condition`` (see `worker_state`)."""
        rows = map(as_row, await self._database.fetch(statements.LIST_WORKERS))
        return [{**row, "condition": worker_state(row)} for row in rows]

    async def limits(self, queue: str | None = None) -> Row:
        """Return what is set: ``queues`` (paused, rate, ageing) and ``keys`` (concurrency, with how many run)."""
        return {
            "queues": [as_row(row) for row in await self._database.fetch(statements.QUEUES, queue)],
            "keys": [as_row(row) for row in await self._database.fetch(statements.KEYS, queue)],
        }

    async def installed(self) -> Row:
        """Return the version of the queue's schema and since when it is there."""
        return as_row((await self._database.fetch(statements.INSTALLED))[0])

    async def worker_metrics(self) -> Row:
        """Return how many workers are in which condition, what they carry, and how long they have been up."""
        workers = present(await self.workers())
        counts = worker_counts(workers)
        return {
            "total_workers": counts["count"],
            "active_workers": counts["active"],
            "idle_workers": counts["idle"],
            "timed_out_workers": counts["stale"],
            "crashed_workers": counts["crashed"],
            "avg_tasks_per_worker": mean([len(worker["tasks"]) for worker in workers]),
            "avg_worker_uptime_sec": mean([worker["uptime_s"] for worker in workers]),
        }

    # --------------------------------------------------------------------------------------------------------- one task
    async def find_tasks(self, abbreviation: str) -> list[UUID]:
        """Return the first two tasks whose id ``abbreviation`` may mean: its beginning, or ``beginning…end``."""
        return await self._find(statements.FIND_TASKS, abbreviation)

    async def find_workflows(self, abbreviation: str) -> list[UUID]:
        """Return the same of workflows."""
        return await self._find(statements.FIND_WORKFLOWS, abbreviation)

    async def find_dead(self, abbreviation: str) -> list[UUID]:
        """Return the same of dead letters."""
        return await self._find(statements.FIND_DEAD, abbreviation)

    async def attempts(self, task_id: UUID) -> list[Row]:
        """Return the attempts of a task that did not succeed, with their errors, the first one first."""
        return [as_row(row) for row in await self._database.fetch(statements.ATTEMPTS, task_id)]

    async def relatives(self, task_id: UUID) -> list[Row]:
        """Return the tasks that a task waits for, and those that wait for it, each with the policy of the edge."""
        return [as_row(row) for row in await self._database.fetch(statements.RELATIVES, task_id)]

    async def edges(self, workflow_id: UUID) -> list[Row]:
        """Return the edges between the tasks of a workflow."""
        return [as_row(row) for row in await self._database.fetch(statements.EDGES, workflow_id)]

    async def _find(self, statement: str, abbreviation: str) -> list[UUID]:
        head, _, tail = abbreviation.strip().lower().replace("...", "…").partition("…")
        digits = head.replace("-", "")
        if not re.fullmatch("[0-9a-f]{1,32}", digits) or not re.fullmatch("[0-9a-f-]*", tail):
            return []
        first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
        return [row["id"] for row in await self._database.fetch(statement, first, last, tail)]

    # ----------------------------------------------------------------------------------------------------- exposition
    async def prometheus(self) -> str:
        """Return all figures in the text form of Prometheus; with the database away, that and nothing invented."""
        return exposition(await self.snapshot())

    async def snapshot(self) -> Snapshot:
        """Return what Prometheus is told."""
        health = await self.health()
        if not health["database_available"]:
            return Snapshot(health)
        try:
            by_task = await self._by_task(None)
            return Snapshot(
                health=health,
                queues=by_queue(by_task),
                tasks={key: metrics_of({key: row}) for key, row in by_task.items()},
                workers=await self.worker_metrics(),
                dead={row["queue"]: row for row in await self._fetch(statements.DEAD)},
                repairs=dict.fromkeys(REPAIRS, 0)
                | {row["name"]: row["value"] for row in await self._fetch(statements.COUNTERS)},
                paused={row["queue_name"]: row["paused"] for row in await self._fetch(statements.QUEUES, None)},
            )
        except QueueUnavailableError as error:
            return Snapshot(down(str(error)))

    async def _by_task(self, queue: str | None) -> dict[tuple[str, str], Counts]:
        """Return what is known of each (queue, task name), in four statements."""
        found: dict[tuple[str, str], Counts] = {}
        for row in await self._fetch(statements.LIVE, queue):
            counts = found.setdefault((row["queue"], row["name"]), Counts())
            counts.live[row["state"]] = row
        for row in await self._fetch(statements.TOTALS, queue):
            found.setdefault((row["queue"], row["name"]), Counts()).ended = row
        for row in await self._fetch(statements.TIMES, queue):
            found.setdefault((row["queue"], row["name"]), Counts()).day = row
        for row in await self._fetch(statements.RATES, queue):
            found.setdefault((row["queue"], row["name"]), Counts()).windows[row["minutes"]] = row
        return found

    async def _fetch(self, statement: str, *args: Any) -> list[Row]:
        return [dict(row) for row in await self._database.fetch(statement, *args)]
