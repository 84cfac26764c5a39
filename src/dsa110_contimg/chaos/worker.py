"""A worker of a campaign: the queue's own worker, with handlers that sleep, fail or kill it, and tell the history."""

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from typing import Any

from dsa110_contimg.absurd.service import until_stopped
from dsa110_contimg.absurd.worker import AbsurdWorker, ClaimedTask, TaskContext
from dsa110_contimg.chaos.history import History
from dsa110_contimg.chaos.settings import PartySettings, set_clock

#: Names of the tasks; ``poison`` kills whoever runs it.
NAMES = ("plain", "node", "keyed", "flaky", "slow", "poison")


class PlannedError(Exception):
    """What a task raises that was told to fail."""


class Witness:
    """The one handler of all names: it does what the parameters say and writes down that it did.

    Parameters of a task: ``sleep_s``, ``fail`` (how many attempts fail), ``kill`` (whether it kills its worker).
    """

    def __init__(self, history: History) -> None:
        self._history = history

    async def __call__(self, task: ClaimedTask, context: TaskContext) -> Mapping[str, Any]:
        """Run one attempt. The result carries its claim, so that the checker can tell whose result was kept."""
        self._history.write("start", task=task.task_id, claim=task.claim, attempt=task.attempt)
        how = "stopped"
        try:
            await asyncio.sleep(task.params.get("sleep_s", 0.0))
            if task.params.get("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if task.attempt <= task.params.get("fail", 0):
                how = "raised"
                raise PlannedError(f"attempt {task.attempt}")
            how = "returned"
            return {"claim": task.claim}
        finally:
            self._history.write("end", task=task.task_id, claim=task.claim, how=how)


class WordsToHistory(logging.Handler):
    """Writes what a process logs into the history."""

    def __init__(self, history: History) -> None:
        super().__init__(logging.WARNING)
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._history.write("word", level=record.levelname, text=self.format(record)[:2000])


async def work(settings: PartySettings, history: History) -> None:
    """Run the worker until it is told to stop."""
    witness = Witness(history)
    history.write("boot", pid=os.getpid(), skew_s=settings.skew_s)
    await until_stopped(AbsurdWorker(settings.queue(), dict.fromkeys(NAMES, witness), settings.who))
    history.write("exit", asked=True)


def main() -> None:
    """Work as standard input says."""
    settings = PartySettings.from_stdin()
    history = History(settings.path, settings.who)
    set_clock(settings.skew_s)
    logging.basicConfig(handlers=[WordsToHistory(history)])
    asyncio.run(work(settings, history))


if __name__ == "__main__":
    main()
