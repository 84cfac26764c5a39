"""Workflows: list them, show one as a tree, cancel, retry, draw."""

import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import typer
from rich.text import Text

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.console.layout import STATUS_STYLES, Column, ended, id_column, print_facts
from dsa110_contimg.absurd.console.session import (
    AsJson,
    NotFoundError,
    RefusedError,
    answer,
    list_rows,
    run,
    workflow_of,
    write_json,
)
from dsa110_contimg.absurd.console.texts import age, clock, plain, progress, ran
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.terminal import open_console, printable

app = typer.Typer(name="workflows", help="Workflows: tasks that wait for each other.", no_args_is_help=True)

Status = Literal["pending", "running", "completed", "failed", "cancelled"]
Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Id, or a unique beginning of it.")]

COLUMNS = (
    id_column("workflow_id"),
    Column("name", lambda row: row["name"], least=12),
    Column("status", lambda row: row["status"]),
    Column("done", lambda row: f"{row['completed_tasks']}/{row['total_tasks']}", right=True),
    Column("failed", lambda row: str(row["failed_tasks"]), right=True, spare=1),
    Column("age", lambda row: age(row["created_at"]), right=True),
)
_MARKS = {"completed": "✓", "failed": "✗", "cancelled": "✗", "skipped": "–", "claimed": "▶", "retrying": "↻"}
_COLOURS = {
    "completed": "palegreen", "failed": "salmon", "cancelled": "plum", "skipped": "lightgrey", "claimed": "lightblue",
    "retrying": "khaki",
}  # fmt: skip


@app.command("list", epilog="Example:\n\n`dsa110 absurd workflows list --status failed`")
def list_workflows(
    context: typer.Context,
    status: Annotated[Status | None, typer.Option("--status", "-s", help="Only workflows in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=1000, help="At most so many.")] = 50,
    after: Annotated[str | None, typer.Option(help="The next page: those older than this workflow.")] = None,
    as_json: AsJson = False,
) -> None:
    """List workflows, the newest first."""

    async def work(client: AbsurdClient) -> list[Row]:
        return await client.list_workflows(status, limit, await workflow_of(client, after) if after else None)

    rows = run(context, work)
    list_rows(COLUMNS, rows, "no workflow", as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd workflows show 0199ab34`")
def show(context: typer.Context, workflow: Workflow, as_json: AsJson = False) -> None:
    """Show a workflow as a tree: a task stands below the parent that it waits for longest."""
    found, edges = run(context, lambda client: _read(client, workflow))
    if as_json:
        write_json({**found, "dag_edges": [[edge["parent"], edge["child"]] for edge in edges], "edges": edges})
        return
    console = open_console()
    style = STATUS_STYLES.get(found["status"], "")
    facts = [
        ("workflow", found["workflow_id"]), ("name", found["name"]), ("status", Text(found["status"], style=style)),
        ("spawned", clock(found["created_at"])), ("metadata", found.get("metadata") and plain(found["metadata"])),
    ]  # fmt: skip
    print_facts(console, facts)
    console.print()
    for line in tree(found["tasks"], console.width):
        console.print(line, soft_wrap=True)


async def _read(client: AbsurdClient, text: str) -> tuple[Row, list[Row]]:
    workflow_id = await workflow_of(client, text)
    found = await client.get_workflow(workflow_id)
    if found is None:
        raise NotFoundError(f"the queue has no workflow {workflow_id}")
    return found, await client.monitor.edges(workflow_id)


def tree(tasks: list[Row], width: int) -> Iterator[Text]:
    """Give the lines of a DAG as a tree.

    A task that waits for several stands below the last of them in the order of the DAG; ``+n`` says that it waits for
    n more. ``tasks`` are in the order of the DAG.
    """
    place = {task["task_id"]: number for number, task in enumerate(tasks)}
    below: dict[str | None, list[Row]] = {}
    for task in tasks:
        inside = [parent for parent in task["depends_on"] if parent in place]
        below.setdefault(max(inside, key=place.__getitem__, default=None), []).append(task)
    stack = [(task, "", "") for task in reversed(below.get(None, []))]
    while stack:
        task, lead, indent = stack.pop()
        yield _branch(task, lead, width)
        children = below.get(task["task_id"], [])
        for number, child in reversed(list(enumerate(children))):
            last = number == len(children) - 1
            stack.append((child, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  ")))


def _branch(task: Row, lead: str, width: int) -> Text:
    """Return the line of one task."""
    status = task["status"]
    more = f" +{len(task['depends_on']) - 1}" if len(task["depends_on"]) > 1 else ""
    took = ran(task) if status in ("completed", "claimed") else ""
    remark = " ".join(filter(None, (status, progress(task) if status == "claimed" else "", took)))
    tail = f"  {task['task_id'][:8]}…{task['task_id'][-6:]}  {remark}"
    room = max(width - len(lead) - 2 - len(more) - len(tail), 8)
    line = Text(lead, style="dim")
    line.append(f"{_MARKS.get(status, '·')} ", style=STATUS_STYLES.get(status, ""))
    line.append(ended(printable(task["task_name"]), room), style="default")
    line.append(more, style="dim")
    line.append(tail, style="dim")
    if task["error"]:
        line.append(f"  {printable(task['error'])}", style="red")
    line.truncate(width, overflow="ellipsis")
    return line


@app.command(epilog="Example:\n\n`dsa110 absurd workflows cancel 0199ab34`")
def cancel(context: typer.Context, workflow: Workflow, as_json: AsJson = False) -> None:
    """Cancel every task of a workflow that has not ended."""
    _change(context, workflow, "cancelled", as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd workflows retry 0199ab34`")
def retry(context: typer.Context, workflow: Workflow, as_json: AsJson = False) -> None:
    """Run every failed or cancelled task of a workflow again, with what their end had skipped."""
    _change(context, workflow, "retried", as_json)


def _change(context: typer.Context, text: str, done: str, as_json: bool) -> None:
    async def work(client: AbsurdClient) -> Row:
        workflow_id = await workflow_of(client, text)
        call = client.cancel_workflow if done == "cancelled" else client.retry_workflow
        number = await call(workflow_id)
        if not number:
            raise RefusedError(f"workflow {workflow_id} has no task that could be {done}")
        return {"workflow_id": str(workflow_id), done: number}

    row = run(context, work)
    answer(row, f"{row['workflow_id']}: {row[done]} tasks {done}", as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd workflows dot 0199ab34 > workflow.dot`")
def dot(context: typer.Context, workflow: Workflow) -> None:
    """Write the DAG of a workflow as Graphviz text."""
    found, edges = run(context, lambda client: _read(client, workflow))
    sys.stdout.write(graphviz(found, edges))


def graphviz(workflow: Mapping[str, object], edges: list[Row]) -> str:
    """Return a DAG in the language of Graphviz: colours tell states, dashed edges other policies than success."""
    tasks: list[Row] = workflow["tasks"]  # type: ignore[assignment]
    lines = [f"digraph {_quoted(str(workflow['name']))} {{", "  rankdir=LR; node [shape=box, style=filled];"]
    for task in tasks:
        label = f"{printable(task['task_name'])}\\n{task['status']}"
        lines.append(
            f'  "{task["task_id"]}" [label={_quoted(label)}, fillcolor={_COLOURS.get(task["status"], "white")}];'
        )
    for edge in edges:
        more = "" if edge["policy"] == "success" else f" [style=dashed, label={edge['policy']}]"
        lines.append(f'  "{edge["parent"]}" -> "{edge["child"]}"{more};')
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'
