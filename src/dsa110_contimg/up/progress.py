"""How far the work is: a live line for each running stage on a terminal, plain lines elsewhere."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from dsa110_contimg.absurd.workflows import FINISH
from dsa110_contimg.up.console import Screen

_QUARTERS = 4
#: States in which a task is worth a line, and what the line says.
_WORDS = {
    "claimed": "started",
    "completed": "completed",
    "failed": "failed",
    "retrying": "will be tried again",
    "skipped": "skipped",
    "cancelled": "cancelled",
}
_LEVELS = {"failed": "ERROR", "retrying": "WARNING", "cancelled": "WARNING"}


class Board:
    """Bars of what runs now, below the log stream; without a terminal a line at each quarter.

    Parameters
    ----------
    screen : Screen
        Whose console is drawn on.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._bars = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(), TextColumn("{task.fields[words]}", style="dim"), console=screen.console,
        )  # fmt: skip
        self._live = Live(self._bars, console=screen.console, refresh_per_second=4, transient=True)
        self._ids: dict[str, TaskID] = {}
        self._quarters: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, name: str, fraction: float, words: str) -> None:
        """Show how far something is (0 to 1)."""
        if not self._screen.console.is_terminal:
            self._say_quarter(name, fraction, words)
            return
        if name not in self._ids:
            self._ids[name] = self._bars.add_task(name, total=1.0, words="")
            self._live.start()  # does nothing when it runs
        self._bars.update(self._ids[name], completed=fraction, words=words)

    def end(self, name: str) -> None:
        """Take a bar away."""
        if name in self._ids:
            self._bars.remove_task(self._ids.pop(name))
            if not self._ids:
                self._live.stop()  # an empty board would leave an empty line
        self._quarters.pop(name, None)

    def _say_quarter(self, name: str, fraction: float, words: str) -> None:
        quarter = int(fraction * _QUARTERS)
        if self._quarters.get(name, 0) < quarter < _QUARTERS:  # the end has a line of its own
            self._quarters[name] = quarter
            self._screen.say(f"{name} {fraction:.0%} {words}")


class Follower:
    """Tells each change of an observation's tasks once.

    Parameters
    ----------
    screen, board
        Where lines and bars go.
    """

    def __init__(self, screen: Screen, board: Board) -> None:
        self._screen = screen
        self._board = board
        self._seen: dict[str, tuple[str, int]] = {}

    def know(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Take what has ended already for told."""
        self._seen |= {task["task_id"]: _state(task) for task in tasks if task["finished_at"]}

    def tell(self, stamp: str, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Tell what is new in the tasks of the observation ``stamp``."""
        for task in tasks:
            if task["task_name"] == FINISH:
                continue  # book-keeping
            name = f"{stamp} {task['task_name']}"
            if self._seen.get(task["task_id"]) != _state(task):
                self._seen[task["task_id"]] = _state(task)
                self._tell_change(name, task)
            if task["status"] == "claimed":
                self._board.show(name, task["progress"] or 0.0, task["progress_message"] or "")

    def _tell_change(self, name: str, task: Mapping[str, Any]) -> None:
        status = task["status"]
        if status not in _WORDS:
            return
        if status != "claimed":
            self._board.end(name)
        words = f"{name} {_WORDS[status]}"
        if status == "completed":
            words += f" in {_seconds(task):.1f} s"
        if status in ("failed", "retrying") and task["error"]:
            words += f": {task['error']}"
        self._screen.say(words, _LEVELS.get(status, "INFO"))


def _state(task: Mapping[str, Any]) -> tuple[str, int]:
    return task["status"], task["attempt"]


def _seconds(task: Mapping[str, Any]) -> float:
    """Return how long the task's last attempt took."""
    if not task["started_at"] or not task["finished_at"]:
        return 0.0
    return (datetime.fromisoformat(task["finished_at"]) - datetime.fromisoformat(task["started_at"])).total_seconds()
