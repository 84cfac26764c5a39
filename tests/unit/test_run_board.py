"""The board of runs: who pokes it has it look again."""

import asyncio
from contextlib import aclosing

from dsa110_contimg.api.interfaces import JobRecord
from dsa110_contimg.api.services.run_board import RunBoard


class Runs:
    """A run that is begun while the board reads the runs for the first time."""

    def __init__(self) -> None:
        self.board = RunBoard(self, clock=lambda: 0.0, every_s=3600.0)
        self.status = "pending"

    async def lively_runs(self, ended_since_s: float) -> list[JobRecord]:
        found = [JobRecord("run", "2026-02-11T03:04:05", self.status, "/p/x.ms", created_at=1.0)]
        if self.status == "pending":
            self.status = "running"
            self.board.poke()
        return found


async def test_what_happens_while_the_runs_are_read_is_shown_at_once() -> None:
    async with asyncio.timeout(30), aclosing(Runs().board.follow()) as shown:
        async for run in shown:
            if run.status == "running":
                break
