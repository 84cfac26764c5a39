"""A live view of the queue, as htop is one of a machine."""

import asyncio
import contextlib
import os
import shutil
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.connection import QueueUnavailableError
from dsa110_contimg.absurd.console.layout import STATUS_STYLES, Column, ended, id_column, lines_of
from dsa110_contimg.absurd.console.session import Queue, run
from dsa110_contimg.absurd.console.texts import age, duration, rate, share
from dsa110_contimg.absurd.console.workers import running
from dsa110_contimg.absurd.health import down, present
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.terminal import open_console, printable

app = typer.Typer()

KEYS = {b"q": "quit", b"p": "pause", b" ": "pause", b"\x1b[A": "up", b"\x1b[B": "down", b"k": "up", b"j": "down"}
HELP = "q quit  p pause  ↑↓ scroll"
FAILURES_SHOWN = 10
#: Lines for a frame where no terminal says how high it is.
PLAIN_HEIGHT = 40


@dataclass(frozen=True, slots=True)
class View:
    """What is on the screen."""

    at: datetime
    health: Row
    queues: Sequence[Row] = ()
    workers: Sequence[Row] = ()
    failures: Sequence[Row] = ()
    paused: bool = False  # the view, not a queue
    first: int = 0  # running task at the top of its list

    @property
    def running(self) -> list[Row]:
        """Running tasks with their worker, the longest first."""
        tasks = [{**task, "worker_id": worker["worker_id"]} for worker in self.workers for task in worker["tasks"]]
        return sorted(tasks, key=lambda task: -task["run_s"])


@dataclass
class Section:
    """A table of the frame: its lines share the room with those of the others."""

    lines: list[Text]
    least: int
    shown: int = field(default=0)


QUEUE_COLUMNS = (
    Column("QUEUE", lambda row: row["queue_name"], least=8),
    Column("state", lambda row: "paused" if row["paused"] else "", spare=9),
    Column("wait", lambda row: str(row["current_pending"]), right=True),
    Column("run", lambda row: str(row["current_claimed"]), right=True),
    Column("block", lambda row: str(row["current_blocked"]), right=True, spare=8),
    Column("later", lambda row: str(row["current_scheduled"] + row["current_retrying"]), right=True, spare=6),
    Column("done", lambda row: str(row["total_completed"]), right=True),
    Column("fail", lambda row: str(row["total_failed"]), right=True),
    Column("1 min", lambda row: rate(row["throughput_1min"]), right=True),
    Column("15 min", lambda row: rate(row["throughput_15min"]), right=True, spare=3),
    Column("success", lambda row: share(row["success_rate_15min"]), right=True, spare=2),
    Column("run p50", lambda row: duration(row["p50_execution_time_sec"]), right=True, spare=5),
    Column("run p95", lambda row: duration(row["p95_execution_time_sec"]), right=True, spare=4),
    Column("oldest", lambda row: duration(row["oldest_pending_sec"]), right=True, spare=1),
)
WORKER_COLUMNS = (
    Column("WORKER", lambda row: row["worker_id"], least=14, middle=True),
    Column("state", lambda row: row["state"] if row["state"] == "stopping" else row["condition"]),
    Column("busy", lambda row: f"{len(row['tasks'])}/{row['slots']}", right=True),
    Column("beat", lambda row: duration(row["beat_age_s"]), right=True, spare=1),
    Column("up", lambda row: duration(row["uptime_s"]), right=True, spare=2),
    Column("runs", lambda row: ", ".join(running(task) for task in row["tasks"]), least=20),
)
RUNNING_COLUMNS = (
    id_column("task_id", "RUNNING"),
    Column("name", lambda row: row["task_name"], least=12),
    Column("try", lambda row: str(row["attempt"]), right=True, spare=1),
    Column("for", lambda row: duration(row["run_s"]), right=True),
    Column("progress", lambda row: bar(row["progress"])),
    Column("says", lambda row: row["message"] or "", least=10, spare=3),
    Column("worker", lambda row: row["worker_id"], least=14, middle=True, spare=2),
)
FAILURE_COLUMNS = (
    id_column("task_id", "FAILED"),
    Column("name", lambda row: row["task_name"], least=12),
    Column("ago", lambda row: age(row["died_at"]), right=True),
    Column("error", lambda row: row["error"], least=16),
)


def bar(progress: float | None) -> str:
    """Return a bar of progress with its percentage; nothing when the task does not tell."""
    if progress is None:
        return ""
    done = round(min(max(progress, 0.0), 1.0) * 10)
    return f"{'█' * done}{'░' * (10 - done)} {100.0 * progress:3.0f} %"


def frame(view: View, width: int, height: int) -> list[Text]:
    """Return the screen as exactly ``height`` lines of at most ``width`` cells."""
    head = _head(view, width)
    tables: list[tuple[Sequence[Column], Sequence[Row], int]] = [
        (QUEUE_COLUMNS, view.queues, 3), (WORKER_COLUMNS, present_rows(view.workers), 4),
        (RUNNING_COLUMNS, view.running[view.first :], 4), (FAILURE_COLUMNS, view.failures, 3),
    ]  # fmt: skip
    sections = [Section(lines_of(columns, rows, width), least) for columns, rows, least in tables if rows]
    _share_out(sections, height - len(head) - 1)
    lines = list(head)
    for section in sections:
        lines += section.lines[: section.shown]
        hidden = len(section.lines) - section.shown
        if hidden > 0 and section.shown > 1:
            lines[-1] = Text(f"… {hidden + 1} more", style="dim")
        lines.append(Text())
    lines = lines[: height - 1]
    lines += [Text()] * (height - 1 - len(lines))
    return [
        *lines,
        Text(ended(f"{HELP}{'   PAUSED' if view.paused else ''}", width), style="reverse" if view.paused else "dim"),
    ]


def present_rows(workers: Sequence[Row]) -> list[Row]:
    """Return the workers that are expected to work."""
    return [dict(worker) for worker in present(workers)]


def _share_out(sections: list[Section], room: int) -> None:
    """Give each section its least number of lines, and what is left to whoever needs it, from the top."""
    room -= len(sections)  # a blank line below each
    for section in sections:
        section.shown = min(section.least, len(section.lines))
    while sum(section.shown for section in sections) > max(room, 0) and sections:
        max(sections, key=lambda section: section.shown).shown -= 1
        if all(section.shown == 0 for section in sections):
            return
    spare = room - sum(section.shown for section in sections)
    for section in sections:
        more = min(len(section.lines) - section.shown, spare)
        section.shown += more
        spare -= more


def _head(view: View, width: int) -> list[Text]:
    """Return the lines above the tables: state, sums, and what to be warned of."""
    health, queues = view.health, view.queues
    first = Text("ABSURD ", style="bold")
    first.append(f"● {health['status']}", style=STATUS_STYLES.get(health["status"], ""))
    clock = view.at.strftime("%Y-%m-%d %H:%M:%S UTC")
    first.append(" " * max(width - len(first) - len(clock), 1) + clock, style="dim")

    def total(key: str) -> int:
        return sum(row[key] for row in queues)

    sums = [
        f"waiting {total('current_pending')}", f"running {total('current_claimed')}",
        f"blocked {total('current_blocked')}", rate(sum(row["throughput_1min"] for row in queues)),
        f"workers {health['active_workers']}/{health['total_workers']}", f"dead letters {health['dead']}",
    ]  # fmt: skip
    lines = [first, Text("  ".join(sums) if health["database_available"] else "the database does not answer")]
    troubles = [(alert["message"], "bold red") for alert in health["alerts"]]
    troubles += [(warning["message"], "yellow") for warning in health["warnings"]]
    lines += [Text(f"! {printable(text)}", style=style) for text, style in troubles[:3]]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return [*lines, Text()]


async def look(client: AbsurdClient, queue: str | None) -> View:
    """Return what there is to be seen now; with the database away, only that."""
    health = await client.monitor.health(queue)
    at = datetime.now(UTC)
    try:
        figures = await client.monitor.metrics_by_queue()
        known = {row["queue_name"]: row for row in (await client.monitor.limits())["queues"]}
        queues = [{"queue_name": name, "paused": known.get(name, {}).get("paused", False), **row}
                  for name, row in figures.items() if queue in (None, name)]  # fmt: skip
        workers = await client.monitor.workers()
        failures = await client.dead_letters.list(queue, limit=FAILURES_SHOWN)
    except QueueUnavailableError as error:
        return View(at, down(str(error)))
    return View(at, health, queues, workers, failures)


class Keyboard:
    """The keys that were pressed, without waiting for Enter; the terminal is as before when it is closed."""

    def __init__(self) -> None:
        self.pressed: asyncio.Queue[str] = asyncio.Queue()

    @contextlib.contextmanager
    def open(self) -> Iterator["Keyboard"]:
        """Listen to the keyboard, where there is one."""
        if not sys.stdin.isatty():
            yield self
            return
        descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
        before = termios.tcgetattr(descriptor)
        tty.setcbreak(descriptor)
        loop.add_reader(descriptor, self._read, descriptor)
        try:
            yield self
        finally:
            loop.remove_reader(descriptor)
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    def _read(self, descriptor: int) -> None:
        for action in actions(os.read(descriptor, 64)):
            self.pressed.put_nowait(action)

    async def next(self, patience_s: float) -> str | None:
        """Return the next key's meaning, or None when none was pressed in time."""
        try:
            async with asyncio.timeout(patience_s):
                return await self.pressed.get()
        except TimeoutError:
            return None


def actions(pressed: bytes) -> Iterator[str]:
    """Give what the keys in a terminal's bytes mean; others mean nothing."""
    while pressed:
        key = next((key for key in KEYS if pressed.startswith(key)), None)
        if key:
            yield KEYS[key]
        pressed = pressed[len(key or b"x") :]


def after(view: View, action: str) -> View:
    """Return the view after a key."""
    if action == "pause":
        return replace(view, paused=not view.paused)
    step = {"up": -1, "down": 1}.get(action, 0)
    return replace(view, first=min(max(view.first + step, 0), max(len(view.running) - 1, 0)))


@app.command(epilog="Examples:\n\n`dsa110 absurd top`\n\n`dsa110 absurd top --once`")
def top(
    context: typer.Context,
    queue: Queue = None,
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one frame and end, as where there is no terminal.")
    ] = False,
) -> None:
    """Show queues, rates, workers, running tasks and failures, live. Keys: q quit, p pause, ↑↓ scroll."""
    console = open_console()

    async def work(client: AbsurdClient) -> None:
        view = await look(client, queue)
        if once or not console.is_terminal:
            _print_once(console, view)
            return
        await _live(client, queue, interval, console, view)

    run(context, work)


def _print_once(console: Console, view: View) -> None:
    """Print the lines of one frame that hold something, without the line of the keys."""
    height = shutil.get_terminal_size((console.width, PLAIN_HEIGHT)).lines
    text = frame(view, console.width, height)[:-1]
    while text and not text[-1].plain:
        text.pop()
    for line in text:
        console.print(line, soft_wrap=True)


async def _live(client: AbsurdClient, queue: str | None, interval_s: float, console: Console, view: View) -> None:
    loop = asyncio.get_running_loop()
    with Keyboard().open() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        due_s = loop.time() + interval_s
        while True:
            live.update(Group(*frame(view, console.width, console.height)), refresh=True)
            action = await keyboard.next(max(due_s - loop.time(), 0.0))
            if action == "quit":
                return
            if action:
                view = after(view, action)
            elif not view.paused:
                seen = await look(client, queue)
                view = after(replace(seen, first=view.first), "stay")
            if not action:
                due_s = loop.time() + interval_s
