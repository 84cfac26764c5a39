"""Dead letters: tasks that failed for good."""

from typing import Annotated
from uuid import UUID

import typer

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.console import values
from dsa110_contimg.absurd.console.layout import Column, id_column, print_facts
from dsa110_contimg.absurd.console.session import (
    AsJson,
    NotFoundError,
    Queue,
    RefusedError,
    WrongUsageError,
    Yes,
    answer,
    confirm,
    list_rows,
    only,
    run,
    stop,
    tell,
    write_json,
)
from dsa110_contimg.absurd.console.texts import age, clock, duration, plain
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.terminal import open_console, printable

app = typer.Typer(name="dlq", help="Dead letters: tasks that failed for good.", no_args_is_help=True)

Letter = Annotated[str, typer.Argument(metavar="TASK", help="Id, or a unique beginning of it.")]
Name = Annotated[str | None, typer.Option("--name", "-n", help="Name of the task.")]
Reason = Annotated[str | None, typer.Option("--reason", "-r", help="error, timeout or crashed.")]

COLUMNS = (
    id_column("task_id"),
    Column("name", lambda row: row["task_name"], least=12),
    Column("reason", lambda row: row["reason"]),
    Column("tries", lambda row: str(row["attempts"]), right=True, spare=1),
    Column("died", lambda row: age(row["died_at"]), right=True),
    Column("queue", lambda row: row["queue_name"], least=8, spare=2),
    Column("error", lambda row: row["error"], least=24),
)


async def _letter_of(client: AbsurdClient, text: str) -> UUID:
    return only(await client.monitor.find_dead(text), "dead letter", text, "dsa110 absurd dlq list")


@app.command("list", epilog="Example:\n\n`dsa110 absurd dlq list --reason crashed`")
def list_letters(
    context: typer.Context,
    queue: Queue = None,
    name: Name = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=10_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the latest first."""
    rows = run(context, lambda client: client.dead_letters.list(queue, name, reason, limit=limit))
    list_rows(COLUMNS, rows, "no dead letter", as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd dlq show 0199ab34`")
def show(context: typer.Context, task: Letter, as_json: AsJson = False) -> None:
    """Show a dead letter with its parameters and the last error."""

    async def work(client: AbsurdClient) -> Row:
        task_id = await _letter_of(client, task)
        row = await client.dead_letters.get(task_id)
        if row is None:
            raise NotFoundError(f"there is no dead letter {task_id}")
        return row

    row = run(context, work)
    if as_json:
        write_json(row)
        return
    console = open_console()
    facts = [
        ("task", row["task_id"]), ("name", row["task_name"]), ("queue", row["queue_name"]), ("reason", row["reason"]),
        ("attempts", row["attempts"]), ("spawned", clock(row["created_at"])), ("died", clock(row["died_at"])),
        ("limit", row.get("timeout_sec") and duration(row["timeout_sec"])), ("workflow", row["workflow_id"]),
        ("params", plain(row["params"])), ("error", row["error"]),
    ]  # fmt: skip
    print_facts(console, facts)
    for line in (row["error_detail"].get("traceback") or "").splitlines():
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example:\n\n`dsa110 absurd dlq edit 0199ab34 night=2026-01-26`")
def edit(
    context: typer.Context,
    task: Letter,
    params: Annotated[list[str], typer.Argument(help="JSON object, @file.json, or key=value; added to what is there.")],
    whole: Annotated[bool, typer.Option("--whole", help="They replace all parameters.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change the parameters with which a dead letter will be replayed."""
    given = values.params(params)

    async def work(client: AbsurdClient) -> Row:
        task_id = await _letter_of(client, task)
        row = await client.dead_letters.get(task_id) or {"params": {}}
        changed = given if whole else {**row["params"], **given}
        if not await client.dead_letters.edit(task_id, changed):
            raise RefusedError(f"the dead letter {task_id} has just gone")
        return {"task_id": str(task_id), "params": changed}

    row = run(context, work)
    answer(row, f"{row['task_id']} {plain(row['params'])}", as_json)


@app.command(
    epilog="Examples:\n\n`dsa110 absurd dlq replay 0199ab34`\n\n`dsa110 absurd dlq replay --all --name imaging`"
)
def replay(
    context: typer.Context,
    tasks: Annotated[list[str] | None, typer.Argument(metavar="[TASK...]", help="Ids, or beginnings of them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that fit the filters.")] = False,
    queue: Queue = None,
    name: Name = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Run dead letters again, with all their attempts."""
    if bool(tasks) == everything:
        stop(WrongUsageError("give the dead letters by their ids, or --all with filters"))

    async def some(client: AbsurdClient) -> list[Row]:
        return [{"task_id": str(task), "replayed": await client.dead_letters.replay(task)}
                for task in [await _letter_of(client, text) for text in tasks or []]]  # fmt: skip

    if not everything:
        tell(run(context, some), "task_id", "replayed", "could not be replayed", as_json)
        return
    number = run(context, lambda client: client.dead_letters.replay_many(queue, name, reason, limit=limit))
    answer({"replayed": number}, f"{number} dead letters run again", as_json)


@app.command(epilog="Examples:\n\n`dsa110 absurd dlq purge 0199ab34`\n\n`dsa110 absurd dlq purge --older 90 -y`")
def purge(
    context: typer.Context,
    tasks: Annotated[list[str] | None, typer.Argument(metavar="[TASK...]", help="Ids, or beginnings of them.")] = None,
    older: Annotated[float | None, typer.Option("--older", min=0.0, help="All that died more days ago.")] = None,
    queue: Queue = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters for good."""
    if bool(tasks) == (older is not None):
        stop(WrongUsageError("give the dead letters by their ids, or --older DAYS"))
    confirm("Delete these dead letters?", yes)

    async def work(client: AbsurdClient) -> int:
        if older is not None:
            return int(await client.dead_letters.purge_many(queue, older_s=older * 86400.0))
        found = [await _letter_of(client, text) for text in tasks or []]
        return sum([bool(await client.dead_letters.purge(task)) for task in found])

    number = run(context, work)
    answer({"purged": number}, f"{number} dead letters deleted", as_json)
