"""Schedules: tasks at set times."""

from datetime import UTC, datetime
from typing import Annotated, NoReturn
from zoneinfo import ZoneInfo

import typer

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.console import values
from dsa110_contimg.absurd.console.layout import Column
from dsa110_contimg.absurd.console.session import (
    AsJson,
    NotFoundError,
    Queue,
    WrongUsageError,
    Yes,
    answer,
    confirm,
    guarded,
    list_rows,
    run,
    stop,
    write_json,
)
from dsa110_contimg.absurd.console.texts import age, clock
from dsa110_contimg.absurd.cron import Cron
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.absurd.schedules import Policy
from dsa110_contimg.terminal import open_console

app = typer.Typer(name="schedules", help="Schedules: tasks at set times.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]

COLUMNS = (
    Column("name", lambda row: row["name"], least=12),
    Column("when", lambda row: row["cron_expression"], least=9),
    Column("zone", lambda row: row["timezone"], least=6, spare=2),
    Column("task", lambda row: row["task_name"], least=10),
    Column("state", lambda row: row["state"]),
    Column("last", lambda row: age(row["last_run_at"]), right=True, spare=1),
    Column("next", lambda row: age(row["next_run_at"]), right=True),
    Column("queue", lambda row: row["queue_name"], least=8, spare=4),
    Column("missed", lambda row: row["policy"], spare=5),
    Column("error", lambda row: row["last_error"] or "", least=8, spare=3),
)


@app.command("list", epilog="Example:\n\n`dsa110 absurd schedules list`")
def list_schedules(context: typer.Context, queue: Queue = None, as_json: AsJson = False) -> None:
    """List schedules by name."""
    rows = run(context, lambda client: client.schedules.list(queue))
    list_rows(COLUMNS, rows, "no schedule", as_json)


@app.command(
    epilog="Example:\n\n`dsa110 absurd schedules create nightly-mosaic '0 3 * * *' create-mosaic tier=deep "
    "--timezone America/Los_Angeles`"
)
def create(
    context: typer.Context,
    name: Name,
    when: Annotated[str, typer.Argument(help="Minute, hour, day of month, month, weekday.")],
    task: Annotated[str, typer.Argument(help="Name of the task.")],
    params: Annotated[list[str] | None, typer.Argument(help="JSON object, @file.json, or key=value.")] = None,
    timezone: Annotated[str, typer.Option("--timezone", "-z", help="In whose time.")] = "UTC",
    queue: Queue = None,
    priority: Annotated[int, typer.Option("--priority", "-p", help="Larger runs first.")] = 0,
    timeout: Annotated[str | None, typer.Option(help="Limit of one attempt, as in 15m.")] = None,
    max_retries: Annotated[int | None, typer.Option(min=0, help="Further attempts after a failed one.")] = None,
    missed: Annotated[Policy, typer.Option(help="Times that passed while no scheduler ran.")] = "coalesce",
    catch_up_limit: Annotated[int | None, typer.Option(min=1, help="With catch_up: at most the last so many.")] = None,
    overlap: Annotated[bool, typer.Option("--overlap", help="Also while a task of it has not ended.")] = False,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a schedule."""

    async def work(client: AbsurdClient) -> Row:
        return await client.schedules.create(
            name, task_name=task, cron_expression=when, params=values.params(params or []), queue_name=queue,
            timezone=timezone, description=description, priority=priority, max_retries=max_retries, policy=missed,
            timeout_sec=values.span_s(timeout) if timeout else None, catch_up_limit=catch_up_limit, overlap=overlap,
        )  # fmt: skip

    row = run(context, work)
    answer(row, f"{row['name']} fires first at {clock(row['next_run_at'])}", as_json)


def _said(context: typer.Context, name: str, paused: bool, as_json: bool) -> None:
    if not run(context, lambda client: client.schedules.pause(name, paused)):
        _unknown(name)
    answer(
        {"name": name, "state": "paused" if paused else "active"},
        f"{name} {'paused' if paused else 'goes on'}",
        as_json,
    )


def _unknown(name: str) -> NoReturn:
    stop(NotFoundError(f"there is no schedule {name!r}; `dsa110 absurd schedules list` lists what there is"))


@app.command(epilog="Example:\n\n`dsa110 absurd schedules pause nightly-mosaic`")
def pause(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Let a schedule rest; what it would have fired is not made up for."""
    _said(context, name, True, as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd schedules resume nightly-mosaic`")
def resume(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Let a paused schedule go on."""
    _said(context, name, False, as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd schedules trigger nightly-mosaic`")
def trigger(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Spawn the task of a schedule now; its times stay as they are."""
    task_id = run(context, lambda client: client.schedules.trigger(name))
    if task_id is None:
        _unknown(name)
    answer({"name": name, "task_id": str(task_id)}, str(task_id), as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd schedules delete nightly-mosaic -y`")
def delete(context: typer.Context, name: Name, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a schedule; the tasks that it spawned stay."""
    confirm(f"Delete the schedule {name}?", yes)
    if not run(context, lambda client: client.schedules.delete(name)):
        _unknown(name)
    answer({"name": name, "deleted": True}, f"{name} deleted", as_json)


@app.command(
    "next",
    epilog="Examples:\n\n`dsa110 absurd schedules next nightly-mosaic`\n\n"
    "`dsa110 absurd schedules next '30 2 * * *' --timezone Europe/Berlin --count 3`",
)
def next_times(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME|WHEN", help="A schedule, or the five fields of one.")],
    timezone: Annotated[str, typer.Option("--timezone", "-z", help="With five fields: in whose time.")] = "UTC",
    count: Annotated[int, typer.Option("--count", "-c", min=1, max=1000, help="How many.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show when a schedule fires next, or would."""
    moments = guarded(lambda: _times(context, name, timezone, count))
    if as_json:
        write_json([moment.isoformat() for moment in moments])
        return
    console = open_console()
    for moment in moments:
        console.print(f"{clock(moment.isoformat())}   {moment.isoformat(timespec='minutes')}", highlight=False)


def _times(context: typer.Context, name: str, timezone: str, count: int) -> list[datetime]:
    """Return the next times in the schedule's own zone."""
    if len(name.split()) > 1:
        cron = Cron(name, timezone)
    else:
        row = run(context, lambda client: client.schedules.get(name))
        if row is None:
            _unknown(name)
        if row["state"] != "active":
            raise WrongUsageError(f"the schedule {name!r} is {row['state']} and does not fire; resume it first")
        cron = Cron(row["cron_expression"], row["timezone"])
        timezone = row["timezone"]
    moments, moment = [], datetime.now(UTC)
    for _ in range(count):
        moment = cron.next(moment)
        moments.append(moment.astimezone(ZoneInfo(timezone)))
    return moments
