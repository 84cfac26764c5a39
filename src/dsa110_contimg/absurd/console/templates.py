"""Templates: workflows that are kept by name."""

from typing import Annotated

import typer

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.console import values
from dsa110_contimg.absurd.console.layout import Column, print_facts, print_table
from dsa110_contimg.absurd.console.session import AsJson, NotFoundError, answer, list_rows, run, write_json
from dsa110_contimg.absurd.console.texts import age, duration, plain
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.terminal import open_console

app = typer.Typer(name="templates", help="Templates: workflows that are kept by name.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the template.")]

COLUMNS = (
    Column("name", lambda row: row["name"], least=12),
    Column("queue", lambda row: row["queue_name"], least=8, spare=1),
    Column("steps", lambda row: " → ".join(step["task_name"] for step in row["steps"]), least=16),
    Column("changed", lambda row: age(row["updated_at"]), right=True),
)


@app.command("list", epilog="Example:\n\n`dsa110 absurd templates list`")
def list_templates(context: typer.Context, as_json: AsJson = False) -> None:
    """List templates by name."""
    rows = run(context, lambda client: client.templates.list())
    list_rows(COLUMNS, rows, "no template", as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd templates show quick-imaging`")
def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show the steps of a template with their parameters."""

    async def work(client: AbsurdClient) -> Row:
        row = await client.templates.get(name)
        if row is None:
            raise NotFoundError(f"there is no template {name!r}; `dsa110 absurd templates list` lists what there is")
        return row

    row = run(context, work)
    if as_json:
        write_json(row)
        return
    console = open_console()
    print_facts(console, [("name", row["name"]), ("queue", row["queue_name"]), ("what", row["description"])])
    columns = (
        Column("step", lambda step: step["task_name"], least=12),
        Column("prio", lambda step: str(step.get("priority") or 0), right=True),
        Column("limit", lambda step: duration(step.get("timeout_sec")), right=True),
        Column("params", lambda step: plain(step.get("params") or {}), least=16),
    )
    print_table(console, columns, row["steps"], title="steps")


@app.command("run", epilog="Example:\n\n`dsa110 absurd templates run quick-imaging ms_path=/data/a.ms`")
def run_template(
    context: typer.Context,
    name: Name,
    params: Annotated[
        list[str] | None, typer.Argument(help="JSON object, @file.json, or key=value; for all steps.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Spawn the tasks of a template, each of which waits for the one before."""

    async def work(client: AbsurdClient) -> Row:
        made = await client.templates.run(name, values.params(params or []))
        tasks = [str(task) for task in made.task_ids]
        return {"template_name": made.template_name, "workflow_id": str(made.workflow_id), "task_ids": tasks}

    row = run(context, work)
    answer(row, f"workflow {row['workflow_id']}, {len(row['task_ids'])} tasks", as_json)
