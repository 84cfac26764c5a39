"""The history of a campaign: one JSON object a line, appended by every process that takes part.

A line is written with one ``write`` to a file opened for appending, so that lines of different processes never mix and
a process that is killed leaves whole lines behind.

Every line has ``t`` (seconds since 1970 by the clock of this machine), ``who`` (the process) and ``e`` (what it is):

=========== =========================================================================================================
``spawn``   a client's call: ``call`` (its number), ``op`` (``invoke``, ``ok``, ``unknown``, ``aborted``), ``tasks``,
            ``key`` when the spawn was idempotent; ``ok`` carries the ids that the queue answered
``cancel``  ``task``, ``op`` (``invoke``, ``ok``, ``unknown``), ``answer``
``retry``   the same
``boot``    a worker process begins: ``pid``, ``skew_s``
``start``   a handler begins: ``task``, ``claim``, ``attempt``
``end``     a handler ends: ``task``, ``claim``, ``how`` (``returned``, ``raised``, ``stopped``)
``exit``    a worker process ends by itself: ``asked`` (whether it had been told to stop)
``word``    a warning or an error that a process logged: ``level``, ``text``
``fault``   ``kind``, ``op`` (``begin``, ``end``), and what it hit
``ghost``   a write under a claim that is over: ``verb``, ``task``, ``claim``, ``answer``
``sample``  a look at the tables: ``misplaced``
``probe``   a measured cost: ``what``, ``value``
``wake``    a task for an idle queue: ``task``; its delay is that of its ``start``
=========== =========================================================================================================
"""

import json
import os
import time
from pathlib import Path
from typing import Any

#: One event, one journal row, one row of a table.
Row = dict[str, Any]


class History:
    """Appends events of one process to the common file."""

    def __init__(self, path: Path, who: str) -> None:
        self.path = path
        self.who = who
        self._now = time.time  # the true one, whatever clock the process is to believe in later
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, event: str, **fields: Any) -> None:
        """Append one event; ids become text."""
        line = json.dumps({"t": self._now(), "who": self.who, "e": event, **fields}, default=str, separators=(",", ":"))
        os.write(self._file, f"{line}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_history(path: Path) -> list[Row]:
    """Return all events in the order of their times."""
    with path.open(encoding="utf-8") as lines:
        return sorted((json.loads(line) for line in lines), key=lambda event: float(event["t"]))
