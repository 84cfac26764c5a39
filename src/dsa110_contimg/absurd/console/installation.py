"""The queue as a whole: make it, show it, empty it."""

import asyncio
from typing import Annotated, get_args

import typer
from rich.text import Text

from dsa110_contimg.absurd import setup
from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.console.layout import STATUS_STYLES, Column, print_facts, print_table
from dsa110_contimg.absurd.console.session import (
    AsJson,
    Queue,
    Yes,
    answer,
    configuration,
    confirm,
    guarded,
    run,
    write_json,
)
from dsa110_contimg.absurd.console.tasks import State
from dsa110_contimg.absurd.console.texts import clock, duration
from dsa110_contimg.absurd.release import SCHEMA_VERSION
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.exit_codes import ExitCode
from dsa110_contimg.secret_files import masked
from dsa110_contimg.terminal import open_console

app = typer.Typer()

STATES = get_args(State)


@app.command(epilog="Examples:\n\n`dsa110 absurd init`\n\n`dsa110 absurd init --roles`")
def init(
    context: typer.Context,
    roles: Annotated[
        bool, typer.Option("--roles", help="Also make the roles of owner, API, worker and reader.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create the queue, or bring it up to date; harmless to repeat, also beside running workers."""
    config = guarded(lambda: configuration(context))
    guarded(lambda: asyncio.run(setup.init(config.database_url, roles=roles)))
    text = f"the queue of {masked(config.database_url)} is ready (schema version {SCHEMA_VERSION})"
    answer({"database": masked(config.database_url), "schema_version": SCHEMA_VERSION}, text, as_json)


@app.command(epilog="Examples:\n\n`dsa110 absurd status`\n\n`dsa110 absurd status --json`")
def status(context: typer.Context, queue: Queue = None, as_json: AsJson = False) -> None:
    """Show the queue's health, its workers, and how many tasks are in which state.

    Exit code 1: the health is critical.
    """

    async def work(client: AbsurdClient) -> tuple[Row, list[Row], Row]:
        stats = await (client.list_queue_stats() if queue is None else _one(client, queue))
        return await client.monitor.health(queue), stats, await client.monitor.installed()

    health, stats, installed = run(context, work)
    database = masked(configuration(context).database_url)
    if as_json:
        write_json({"database": database, **installed, **health, "queues": stats})
    else:
        _print_status(database, health, stats, installed)
    if health["status"] in ("critical", "down"):
        raise typer.Exit(ExitCode.WORK_FAILED)


async def _one(client: AbsurdClient, queue: str) -> list[Row]:
    return [await client.get_queue_stats(queue)]


def _print_status(database: str, health: Row, stats: list[Row], installed: Row) -> None:
    console = open_console()
    facts = [
        ("health", Text(health["status"], style=STATUS_STYLES.get(health["status"], ""))),
        *(("alert", Text(alert["message"], style="bold red")) for alert in health["alerts"]),
        *(("warning", Text(warning["message"], style="yellow")) for warning in health["warnings"]),
        ("workers", health["worker_pool_message"]),
        ("oldest pending", health["age_oldest_pending_sec"] and duration(health["age_oldest_pending_sec"])),
        ("last completed", _ago(health["last_task_completed_sec_ago"])),
        ("dead letters", health["dead"]),
        (
            "database",
            f"{database} ({health['database_latency_ms']:g} ms)" if health["database_available"] else database,
        ),
        ("schema", f"version {installed['schema_version']}, installed {clock(installed['installed_at'])}"),
    ]
    print_facts(console, facts)
    columns = [Column("queue", lambda row: row["queue_name"], least=10)]
    for number, state in enumerate(STATES):
        kept = state in ("pending", "claimed", "completed", "failed")
        spare = 0 if kept else number + 1
        columns.append(Column(state, lambda row, state=state: str(row[state]), right=True, spare=spare))  # type: ignore[misc]
    print_table(console, columns, stats, title="tasks by state")


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "not in the last week"
    return f"{duration(seconds)} ago" if seconds else "within the last minute"


@app.command(epilog="Examples:\n\n`dsa110 absurd reset`\n\n`dsa110 absurd reset -y`")
def reset(context: typer.Context, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete every task, schedule, template and dead letter, and make the queue anew."""
    url = guarded(lambda: configuration(context)).database_url
    confirm(f"Delete the queue of {masked(url)} with everything in it?", yes)
    guarded(lambda: asyncio.run(setup.reset(url)))
    answer({"database": masked(url), "reset": True}, f"the queue of {masked(url)} is empty", as_json)
