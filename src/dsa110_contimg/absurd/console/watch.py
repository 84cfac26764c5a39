"""What happens to tasks, as it happens."""

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.console.layout import STATUS_STYLES
from dsa110_contimg.absurd.console.session import AsJson, Queue, run, task_of, workflow_of, write_json
from dsa110_contimg.absurd.console.texts import progress
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.terminal import open_console, printable

app = typer.Typer()


@app.command(epilog="Examples:\n\n`dsa110 absurd watch`\n\n`dsa110 absurd watch --workflow 0199ab34 --json`")
def watch(
    context: typer.Context,
    queue: Queue = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only tasks of this workflow.")] = None,
    count: Annotated[int | None, typer.Option("--count", "-c", min=1, help="End after so many events.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what happens to tasks, as it happens, until Ctrl-C; with --json one JSON object a line."""

    async def work(client: AbsurdClient) -> None:
        wanted = {
            "queue": queue,
            "task_id": await _text(task_of(client, task)) if task else None,
            "workflow_id": await _text(workflow_of(client, workflow)) if workflow else None,
        }
        console, seen = open_console(), 0
        async for event in client.listen():
            if event["type"] == "task_update" and _fits(event, wanted):
                _show(console, event, as_json)
                seen += 1
                if seen == count:
                    return
            elif event["type"] != "task_update":
                _notice(console, event, as_json)

    run(context, work)


async def _text(found: Awaitable[UUID]) -> str:
    return str(await found)


def _fits(event: Row, wanted: Row) -> bool:
    return all(value is None or event.get(key) == value for key, value in wanted.items())


def _show(console: Console, event: Row, as_json: bool) -> None:
    if as_json:
        write_json(event, indent=None)
    else:
        console.print(line_of(event, console.width), soft_wrap=True)


def _notice(console: Console, event: Row, as_json: bool) -> None:
    """Say that the stream begins, or that something may have been missed."""
    if as_json:
        write_json(event, indent=None)
    else:
        console.print(f"{_clock()} {event['type']}", style="dim", highlight=False)


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S")


def line_of(event: Row, width: int) -> Text:
    """Return one event as a line."""
    task = str(event["task_id"])
    line = Text(f"{_clock()} ", style="dim")
    line.append(f"{event['status']:<9} ", style=STATUS_STYLES.get(event["status"], "default"))
    line.append(printable(str(event["name"])), style="bold default")
    line.append(f"  {task[:8]}…{task[-6:]}", style="default")
    attempt = event.get("attempt")
    parts = (
        f"attempt {attempt}" if attempt and attempt > 1 else "", progress(event), event.get("message"),
        event.get("error"), event.get("worker_id"),
    )  # fmt: skip
    for part in parts:
        line.append(f"  {printable(str(part))}" if part else "", style="dim")
    line.truncate(width, overflow="ellipsis")
    return line
