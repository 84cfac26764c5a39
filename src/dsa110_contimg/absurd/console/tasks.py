"""Tasks: spawn, list, show, cancel, retry."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from dsa110_contimg.absurd.client import AbsurdClient, Dependency
from dsa110_contimg.absurd.console import values
from dsa110_contimg.absurd.console.layout import STATUS_STYLES, Column, id_column, print_facts, print_table
from dsa110_contimg.absurd.console.session import (
    AsJson,
    NotFoundError,
    Queue,
    RefusedError,
    answer,
    run,
    task_of,
    tell,
    workflow_of,
    write_json,
)
from dsa110_contimg.absurd.console.texts import age, clock, duration, plain, progress, ran
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.exit_codes import ExitCode
from dsa110_contimg.terminal import open_console, printable

app = typer.Typer()

ENDED = frozenset({"completed", "failed", "cancelled", "skipped"})
State = Literal[
    "blocked", "scheduled", "parked", "pending", "claimed", "retrying", "completed", "failed", "cancelled", "skipped"
]  # fmt: skip
TaskIds = Annotated[list[str], typer.Argument(metavar="TASK...", help="Ids, or unique beginnings of them.")]

COLUMNS = (
    id_column("task_id"),
    Column("name", lambda row: row["task_name"], least=12),
    Column("status", lambda row: row["status"]),
    Column("try", lambda row: f"{row['attempt']}/{row['max_retries'] + 1}", right=True, spare=1),
    Column("age", lambda row: age(row["created_at"]), right=True),
    Column("ran", ran, right=True, spare=2),
    Column("queue", lambda row: row["queue_name"], least=12, spare=4),
    Column("prio", lambda row: str(row["priority"]), right=True, spare=5),
    Column("what", lambda row: _remark(row), least=24, spare=3),
)


def _remark(row: Mapping[str, Any]) -> str:
    """Return what is worth knowing beside the status: progress, the error, or who runs it."""
    if row["status"] == "claimed":
        parts = (progress(row), row.get("progress_message"), row.get("worker_id"))
        return " ".join(str(part) for part in parts if part)
    if row.get("retry_at"):
        return f"again {age(row['retry_at'])}: {row.get('error') or ''}".rstrip(": ")
    return row.get("error") or ""


@app.command(
    epilog="Examples:\n\n`dsa110 absurd spawn report night=2026-01-25 --queue reports --priority 5`\n\n"
    "`dsa110 absurd spawn report '{\"pages\": [1, 2]}' --depends-on 0199ab34:done --wait`"
)
def spawn(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the task.")],
    params: Annotated[list[str] | None, typer.Argument(help="JSON object, @file.json, or key=value.")] = None,
    queue: Queue = None,
    priority: Annotated[int, typer.Option("--priority", "-p", help="Larger runs first.")] = 0,
    timeout: Annotated[str | None, typer.Option(help="Limit of one attempt, as in 15m.")] = None,
    max_retries: Annotated[int | None, typer.Option(min=0, help="Further attempts after a failed one.")] = None,
    depends_on: Annotated[list[str] | None, typer.Option(help="TASK or TASK:success|done|failure; repeatable.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Workflow that it belongs to.")] = None,
    run_at: Annotated[str | None, typer.Option(help="Not before: 2026-11-22T03:00 (UTC), or +15m.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="A second spawn with it gives the first task.")] = None,
    concurrency_key: Annotated[
        str | None, typer.Option(help="Tasks of one key run one at a time (see limits).")
    ] = None,
    fair_key: Annotated[str | None, typer.Option(help="Tasks of different keys take turns.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="key=value carried along; repeatable.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for its end; exit code 1 unless it completes.")
    ] = False,
    wait_timeout: Annotated[str | None, typer.Option(help="Wait no longer than this.")] = None,
    as_json: AsJson = False,
) -> None:
    """Spawn a task; it is durable when this returns."""

    async def work(client: AbsurdClient) -> Row | None:
        parents = [Dependency(await task_of(client, task), policy)
                   for task, policy in map(values.dependency, depends_on or [])]  # fmt: skip
        task_id = await client.spawn(
            name, values.params(params or []), queue=queue, priority=priority,
            timeout_sec=values.span_s(timeout) if timeout else None, max_retries=max_retries, depends_on=parents,
            workflow_id=await workflow_of(client, workflow) if workflow else None,
            run_at=values.moment(run_at) if run_at else None, idempotency_key=idempotency_key,
            concurrency_key=concurrency_key, fair_key=fair_key, headers=values.params(header or []) or None,
        )  # fmt: skip
        if wait:
            return await _waited(client, task_id, values.span_s(wait_timeout) if wait_timeout else None)
        return await client.get_task(task_id)

    task = run(context, work) or {}
    answer(task, task["task_id"] if not wait else _sentence(task), as_json)
    if wait and task["status"] != "completed":
        raise typer.Exit(ExitCode.WORK_FAILED)


async def _waited(client: AbsurdClient, task_id: UUID, timeout_s: float | None) -> Row:
    try:
        return await client.wait(task_id, timeout_s)
    except TimeoutError:
        raise RefusedError(f"task {task_id} has not ended after {timeout_s:g} s; it goes on") from None


def _sentence(task: Row) -> str:
    """Return how a task ended in one line."""
    more = f": {task['error']}" if task["error"] else ""
    result = f" {plain(task['result'])}" if task["result"] is not None else ""
    return printable(f"{task['task_id']} {task['status']}{more}{result}")


@app.command(
    "tasks",
    epilog="Examples:\n\n`dsa110 absurd tasks --status failed`\n\n`dsa110 absurd tasks --name imaging --json`",
)
def list_tasks(
    context: typer.Context,
    queue: Queue = None,
    status: Annotated[State | None, typer.Option("--status", "-s", help="Only tasks in this state.")] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Name of the task.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Tasks of this workflow.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=10_000, help="At most so many.")] = 50,
    after: Annotated[str | None, typer.Option(help="The next page: those older than this task.")] = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, the newest first."""

    async def work(client: AbsurdClient) -> list[Row]:
        return await client.list_tasks(
            queue, status, limit=limit, name=name, after=await task_of(client, after) if after else None,
            workflow_id=await workflow_of(client, workflow) if workflow else None,
        )  # fmt: skip

    rows = run(context, work)
    if as_json:
        write_json(rows)
        return
    console = open_console()
    print_table(console, COLUMNS, rows, "no task")
    if len(rows) == limit:
        console.print(f"older ones: --after {rows[-1]['task_id']}", style="dim", highlight=False, soft_wrap=True)


@app.command(epilog="Example:\n\n`dsa110 absurd show 0199ab34`")
def show(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="Id, or a unique beginning of it.")],
    trace: Annotated[bool, typer.Option("--trace", "-t", help="With the tracebacks.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one task with its attempts, errors, parents and children."""

    async def work(client: AbsurdClient) -> tuple[Row, list[Row], list[Row]]:
        task_id = await task_of(client, task)
        found = await client.get_task(task_id)
        if found is None:
            raise NotFoundError(f"the queue has no task {task_id}")
        return found, await client.monitor.attempts(task_id), await client.monitor.relatives(task_id)

    found, attempts, relatives = run(context, work)
    if as_json:
        write_json({**found, "attempts": attempts, "relatives": relatives})
        return
    console = open_console()
    _print_task(console, found)
    _print_attempts(console, attempts, trace)
    for kind, title in (("parent", "waits for"), ("child", "is waited for by")):
        _print_relatives(console, title, [row for row in relatives if row["kind"] == kind])


def _print_task(console: Console, row: Row) -> None:
    state = Text(row["status"], style=STATUS_STYLES.get(row["status"], ""))
    for part in (progress(row) if row["status"] == "claimed" else "", row.get("progress_message") or ""):
        state.append(f"  {printable(part)}" if part else "", style="default")
    facts: list[tuple[str, Any]] = [
        ("task", row["task_id"]), ("name", row["task_name"]), ("queue", row["queue_name"]), ("status", state),
        ("attempt", f"{row['attempt']} of {row['max_retries'] + 1}"),
        ("priority", row["priority"]), ("limit", duration(row["timeout_sec"])), ("worker", row["worker_id"]),
        ("workflow", row["workflow_id"]), ("spawned", clock(row["created_at"])),
        ("not before", row.get("retry_at") and clock(row["retry_at"])),
        ("started", row["claimed_at"] and clock(row["claimed_at"])),
        ("ended", row["completed_at"] and clock(row["completed_at"])),
        ("ran", ran(row)),
        *((key.replace("_", " "), row.get(key)) for key in ("idempotency_key", "concurrency_key", "fair_key")),
        ("headers", row.get("headers") and plain(row["headers"])), ("params", plain(row["params"])),
        ("result", None if row["result"] is None else plain(row["result"])), ("error", row["error"]),
    ]  # fmt: skip
    print_facts(console, facts)


def _print_attempts(console: Console, attempts: list[Row], trace: bool) -> None:
    columns = (
        Column("attempt", lambda row: str(row["attempt"]), right=True),
        Column("reason", lambda row: row["reason"]),
        Column("ran", lambda row: duration(row["run_s"]), right=True),
        Column("ended", lambda row: clock(row["finished_at"]), spare=2),
        Column("worker", lambda row: row["worker_id"], least=8, spare=1),
        Column("error", lambda row: f"{row['error'].get('type')}: {row['error'].get('message')}", least=20),
    )
    print_table(console, columns, attempts, title="attempts that did not succeed")
    for row in attempts if trace else ():
        if text := row["error"].get("traceback"):
            console.print(f"\nattempt {row['attempt']}", style="bold")
            console.print("\n".join(printable(line) for line in text.splitlines()), markup=False, highlight=False)


def _print_relatives(console: Console, title: str, rows: list[Row]) -> None:
    columns = (
        id_column("task_id", "task"),
        Column("name", lambda row: row["task_name"], least=12),
        Column("status", lambda row: row["status"]),
        Column("policy", lambda row: row["policy"]),
        Column("error", lambda row: row["error"] or "", least=20, spare=1),
    )
    print_table(console, columns, rows, title=title)


@app.command(epilog="Example:\n\n`dsa110 absurd cancel 0199ab34`")
def cancel(context: typer.Context, tasks: TaskIds, as_json: AsJson = False) -> None:
    """Cancel tasks; one that runs is killed by its worker."""

    async def work(client: AbsurdClient) -> list[Row]:
        return [{"task_id": str(task), "cancelled": await client.cancel_task(task)}
                for task in [await task_of(client, text) for text in tasks]]  # fmt: skip

    tell(run(context, work), "task_id", "cancelled", "has ended already", as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd retry 0199ab34 0199ab35`")
def retry(context: typer.Context, tasks: TaskIds, as_json: AsJson = False) -> None:
    """Run failed or cancelled tasks again, with the tasks that their end had skipped."""

    async def work(client: AbsurdClient) -> list[Row]:
        return [{"task_id": str(task), "retried": await client.retry_task(task)}
                for task in [await task_of(client, text) for text in tasks]]  # fmt: skip

    tell(run(context, work), "task_id", "retried", "has neither failed nor been cancelled", as_json)
