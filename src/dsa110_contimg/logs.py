"""Logs of every process: one event is one line of JSON on standard error.

A line has ``time`` (UTC), ``level``, ``component``, ``logger`` and ``message``, then whatever was given as ``extra=``,
then ``error`` when an exception is logged. JSON escapes control characters, so that no text from outside can begin a
line of its own or move a terminal's cursor.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

#: What every record carries anyway, and uvicorn's second text for terminals; the rest came with ``extra=``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
#: Libraries whose usual events say nothing to a person.
_TALKATIVE = ("uvicorn.error", "rq.worker", "alembic", "numba", "matplotlib")


class JsonFormatter(logging.Formatter):
    """Write a log record as one line of JSON.

    Parameters
    ----------
    component : str
        Which process speaks: ``api``, ``worker``, ``scheduler``, ...
    """

    def __init__(self, component: str) -> None:
        super().__init__()
        self.component = component

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line end."""
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "component": self.component,
            "logger": record.name,
            "message": record.getMessage(),
        }
        event |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            event["error"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


def setup(component: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every log record of this process to standard error as JSON lines; a second call replaces the first.

    Parameters
    ----------
    component : str
        Which process speaks.
    level : str
        One of ``LEVELS``, in either case.
    stream : TextIO, optional
        Where to write instead of standard error.

    Raises
    ------
    ValueError
        The level is none.
    """
    if level.upper() not in LEVELS:
        raise ValueError(f"log level {level!r} is unknown; choose one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(component))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    if level.upper() == "INFO":
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel("WARNING")
