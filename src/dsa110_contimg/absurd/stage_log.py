"""What a stage says into the log of its run."""

import time
from typing import Protocol

from dsa110_contimg.absurd.executor import ChildFailed, ChildResult

_PROGRESS_INTERVAL_S = 1.0


class Logbook(Protocol):
    """Where the events of a run are written."""

    def append(self, run_id: str, level: str, source: str, message: str) -> None:
        """Add an event; never raises because it cannot be written."""


class StageLog:
    """Writes the events of one stage of a run.

    Parameters
    ----------
    logbook : Logbook or None
        None: nothing is written.
    run_id, stage : str
    """

    def __init__(self, logbook: Logbook | None, run_id: str, stage: str) -> None:
        self._logbook = logbook
        self._run_id = run_id
        self._stage = stage
        self._told_s = 0.0
        self._told = ""

    def say(self, message: str, level: str = "INFO") -> None:
        """Write an event."""
        if self._logbook is not None:
            self._logbook.append(self._run_id, level, self._stage, message)

    def progress(self, fraction: float, message: str) -> None:
        """Write how far the stage is: what is new in words, once a second at most."""
        now_s = time.monotonic()
        if message != self._told and now_s - self._told_s >= _PROGRESS_INTERVAL_S:
            self._told, self._told_s = message, now_s
            self.say(f"{fraction:.0%} {message}")

    def done(self, ran: ChildResult) -> None:
        """Write what the stage cost, and what a person should know of it."""
        elapsed_s, peak_mb = ran.finished_at - ran.started_at, ran.peak_rss_bytes / 1e6
        self.say(f"done in {elapsed_s:.1f} s ({ran.cpu_s:.1f} s of CPU, {peak_mb:.0f} MB) on {ran.host}")
        for note in ran.value.get("notes") or ():
            self.say(str(note), "WARNING")

    def failed(self, error: ChildFailed) -> None:
        """Write why the stage failed, after the last words of its libraries."""
        if error.stderr_tail:
            self.say(error.stderr_tail, "WARNING")
        self.say(str(error), "ERROR")
