"""What `dsa110 up` shows and keeps of its processes' logs.

Every line of every process goes to ``<logs>/<name>.jsonl`` (a file that grows beyond 10 MB is moved to ``.1``, the one
before it goes) and, when it is of interest to a person (requests are not), to the screen with the process's name in its
own colour.
"""

import contextlib
import json
import logging
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dsa110_contimg.logs import JsonFormatter
from dsa110_contimg.terminal import open_console, printable

ROTATE_BYTES = 10_000_000
_SHOWN = ("INFO", "WARNING", "ERROR", "CRITICAL")
#: One line for each request, of which an open page sends one a second: that is for the file.
_REQUESTS = "dsa110_contimg.api.access"
_LEVEL_STYLE = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}
#: Colours that differ for people who see red and green alike.
_COLOURS = ("cyan", "yellow", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_magenta", "bright_blue")
_KNOWN_FIELDS = ("time", "level", "component", "logger", "message", "error")


def open_screen(logs: Path | None = None) -> "Screen":
    """Return the screen of this process, with what its libraries log."""
    screen = Screen(open_console(), logs)
    logging.getLogger().handlers = [ScreenHandler(screen)]
    return screen


def now() -> str:
    """Return the time (UTC) as it stands in logs."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_event(line: str, name: str) -> dict[str, Any]:
    """Return a line of a process's output as an event; a line that is not JSON becomes the message of one."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if isinstance(event, dict) and isinstance(event.get("message"), str):
        return event
    return {"time": now(), "level": "INFO", "component": name, "message": line}


class LogFile:
    """One process's log, raw JSON lines, with a bound on its size."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._file = path.open("ab", buffering=0)  # what a full disk refuses is not tried again later

    def write(self, event: dict[str, Any]) -> None:
        """Append one event.

        Raises
        ------
        OSError
            It cannot be kept.
        """
        self._file.write(json.dumps(event, default=str).encode() + b"\n")
        if self._file.tell() > ROTATE_BYTES:
            self.path.replace(self.path.with_suffix(".jsonl.1"))
            following = self.path.open("ab", buffering=0)
            self._file.close()
            self._file = following

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Screen:
    """The one log stream that a person reads.

    What can neither be kept nor shown is lost: a process whose lines nobody takes stands still with one of them, and
    would do so long after the disk has space again.

    Parameters
    ----------
    console : Console
        Where it is shown.
    logs : Path, optional
        Directory of the logs; nothing is kept without it.
    """

    def __init__(self, console: Console, logs: Path | None = None) -> None:
        self.console = console
        self.logs = logs
        self._files: dict[str, LogFile] = {}
        self._styles: dict[str, str] = {}
        self._recent: dict[str, deque[str]] = {}
        self._not_kept: set[str] = set()

    def take(self, name: str, line: str, shown: bool = True) -> None:
        """Keep one line of a process and show it."""
        event = read_event(line, name)
        self._keep(name, event)
        if shown and event.get("level") in _SHOWN and event.get("logger") != _REQUESTS:
            self._print(name, event)

    def say(self, message: str, level: str = "INFO", name: str = "dsa110") -> None:
        """Show and keep an event of the command itself."""
        event = {"time": now(), "level": level, "component": name, "message": message}
        self._keep(name, event)
        self._print(name, event)

    def last_words(self, name: str) -> str:
        """Return the last lines of a process in one line, and where all of them are."""
        words = " | ".join(self._recent.get(name, ())) or "(it said nothing)"
        return f"{words} (all of it: {self.logs / name}.jsonl)" if self.logs else words

    def close(self) -> None:
        """Close the log files."""
        logging.getLogger().handlers = []
        for file in self._files.values():
            file.close()

    def _keep(self, name: str, event: dict[str, Any]) -> None:
        if name not in self._styles:
            self._styles[name] = _COLOURS[len(self._styles) % len(_COLOURS)]
            self._recent[name] = deque(maxlen=5)
            if self.logs:
                self._files[name] = LogFile(self.logs / f"{name}.jsonl")
        self._recent[name].append(str(event["message"]))
        if name in self._files:
            self._store(self._files[name], event)

    def _store(self, file: LogFile, event: dict[str, Any]) -> None:
        try:
            file.write(event)
        except OSError as error:
            if file.path.name not in self._not_kept:
                self._not_kept.add(file.path.name)
                words = f"{file.path}: {error.strerror}; lines are left out until they can be kept again"
                self._print("dsa110", {"time": now(), "level": "ERROR", "message": words})
        else:
            self._not_kept.discard(file.path.name)

    def _print(self, name: str, event: dict[str, Any]) -> None:
        level = str(event.get("level"))
        style = _LEVEL_STYLE.get(level, "")
        more = {key: value for key, value in event.items() if key not in _KNOWN_FIELDS}
        text = Text()
        text.append(f"{str(event.get('time'))[11:19]}Z ", style="dim")
        text.append(f"{name:<10}", style=self._styles.get(name, ""))
        text.append("" if level == "INFO" else f" {level}", style=style)
        text.append(f" {printable(str(event['message']))}", style=style)
        text.append("".join(f" {key}={printable(str(value))}" for key, value in more.items()), style="dim")
        error = str(event.get("error", "")).strip().rpartition("\n")[2]
        if (error.partition(": ")[2] or error) not in str(event["message"]):
            text.append(f": {printable(error)}", style="dim")
        try:
            self.console.print(text, soft_wrap=True, highlight=False)
        except OSError:  # a full disk, a terminal that is gone: there is nobody to be told of it
            with contextlib.suppress(OSError), self.console.capture():
                pass  # what rich could not write it would keep, and try again with every line


class ScreenHandler(logging.Handler):
    """Sends what the libraries of this process log to the screen, from warnings on."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(JsonFormatter("dsa110"))
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Show and keep one record."""
        self._screen.take("dsa110", self.format(record))
