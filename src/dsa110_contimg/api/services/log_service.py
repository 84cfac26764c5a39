"""Logs of runs, as clients ask for them."""

import asyncio
from typing import Any

from dsa110_contimg.api.exceptions import required
from dsa110_contimg.api.run_logs import LogSight, NoRunLogError, RunLogs
from dsa110_contimg.api.services.async_services import AsyncJobService


class RunLogService:
    """Reads the logs of the runs that there are.

    Parameters
    ----------
    jobs : AsyncJobService
        Knows the runs.
    logs : RunLogs
    """

    def __init__(self, jobs: AsyncJobService, logs: RunLogs) -> None:
        self.jobs = jobs
        self.logs = logs

    async def tail(self, run_id: str, lines: int) -> tuple[dict[str, Any], LogSight | None]:
        """Return the last lines of a run's log, and by what to know later that they are the same.

        Of a run that has no log there is no line, and the reason.

        Raises
        ------
        RecordNotFoundError
            There is no such run: no name reaches the file system that the database does not hold.
        """
        status = required(await self.jobs.jobs.get_status(run_id), "Job", run_id)
        told: dict[str, Any] = {"run_id": run_id, "status": status, "logs": [], "total_lines": 0, "error": None}
        try:
            found = self.logs.short_tail(run_id, lines)
            if found is None:
                found = await asyncio.to_thread(self.logs.tail, run_id, lines)
        except NoRunLogError as error:
            return told | {"error": str(error)}, error.sight
        return told | {"logs": found.lines, "total_lines": found.total_lines}, found.sight
