"""Logs of every process: one event is one line of JSON on standard error.

A line has ``time`` (UTC), ``level``, ``component``, ``logger`` and ``message``, then whatever was given as ``extra=``,
then ``error`` when an exception is logged. JSON escapes control characters, so that no text from outside can begin a
line of its own or move a terminal's cursor.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO
from urllib.parse import quote

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

#: What every record carries anyway, and uvicorn's second text for terminals; the rest came with ``extra=``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
#: Libraries whose usual events say nothing to a person.
_TALKATIVE = ("uvicorn.error", "rq.worker", "alembic", "numba", "matplotlib")
#: Libraries that write down every header and query with its key, or every value of every row, when they may say all.
_INDISCREET = ("uvicorn.error", "websockets", "aiosqlite", "asyncpg")


#: Forms of secrets, each with what is kept of it: keys of ours, passwords in addresses, what follows a telling word.
_FORMS = (
    ("dsa110_", re.compile(r"(dsa110_[0-9a-f]{12}\.)[A-Za-z0-9_-]{20,}()")),
    ("ticket_", re.compile(r"(ticket_)[A-Za-z0-9_-]{43}()")),
    ("://", re.compile(r"(://[^/\s:@\"]*:)[^/\s@\"]+(@)")),
    ("earer", re.compile(r"([Bb]earer\s+)[A-Za-z0-9._~+/=-]{8,}()")),
    ("assword", re.compile(r"([Pp]assword(?:\\?[\"'])?\s*[=:]\s*(?:\\?[\"'])?)[^\s\"'\\&,;)}]+()")),
)
_HIDDEN = "***"
_SHORTEST_SECRET = 6  # shorter ones would blank out ordinary words


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text in which secrets are hidden: those given, and whatever has the form of one."""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    for mark, form in _FORMS:
        if mark in text:
            text = form.sub(rf"\1{_HIDDEN}\2", text)
    return text


class JsonFormatter(logging.Formatter):
    """Write a log record as one line of JSON.

    Parameters
    ----------
    component : str
        Which process speaks: ``api``, ``worker``, ``scheduler``, ...
    secrets
        Texts that no line may hold, in whatever a library or an exception writes.
    """

    def __init__(self, component: str, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self.component = component
        known = {form for secret in secrets for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
        self._secrets = sorted((form for form in known if len(form) >= _SHORTEST_SECRET), key=len, reverse=True)

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
        return without_secrets(json.dumps(event, default=str), self._secrets)


def setup(component: str, level: str = "INFO", stream: TextIO | None = None, secrets: Iterable[str] = ()) -> None:
    """Send every log record of this process to standard error as JSON lines; a second call replaces the first.

    Parameters
    ----------
    component : str
        Which process speaks.
    level : str
        One of ``LEVELS``, in either case.
    stream : TextIO, optional
        Where to write instead of standard error.
    secrets
        Texts that no line may hold.

    Raises
    ------
    ValueError
        The level is none.
    """
    if level.upper() not in LEVELS:
        raise ValueError(f"log level {level!r} is unknown; choose one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(component, secrets))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    if level.upper() == "DEBUG":
        for name in _INDISCREET:
            logging.getLogger(name).setLevel("WARNING")
    if level.upper() == "INFO":
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel("WARNING")
