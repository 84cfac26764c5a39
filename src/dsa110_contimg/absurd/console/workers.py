"""Workers: list them with what they run, and drain one."""

from typing import Annotated

import typer

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.console.layout import Column
from dsa110_contimg.absurd.console.session import (
    AsJson,
    NotFoundError,
    RefusedError,
    WrongUsageError,
    answer,
    list_rows,
    run,
)
from dsa110_contimg.absurd.console.texts import duration, progress
from dsa110_contimg.absurd.rows import Row

app = typer.Typer()

COLUMNS = (
    Column("worker", lambda row: row["worker_id"], least=14, middle=True),
    Column("state", lambda row: row["state"] if row["state"] in ("stopping", "stopped") else row["condition"]),
    Column("busy", lambda row: f"{len(row['tasks'])}/{row['slots']}", right=True),
    Column("beat", lambda row: duration(row["beat_age_s"]), right=True, spare=1),
    Column("up", lambda row: duration(row["uptime_s"]), right=True, spare=3),
    Column("pid", lambda row: str(row["pid"]), right=True, spare=5),
    Column("queues", lambda row: " ".join(row["queues"]), least=12, spare=4),
    Column("runs", lambda row: ", ".join(running(task) for task in row["tasks"]), least=20, spare=2),
)


def running(task: Row) -> str:
    """Return what a worker runs, how far it is and how long it has run."""
    return " ".join(filter(None, (task["task_name"], progress(task), duration(task["run_s"]))))


@app.command(epilog="Example:\n\n`dsa110 absurd workers --json`")
def workers(
    context: typer.Context,
    everyone: Annotated[bool, typer.Option("--all", "-a", help="Also those that have left.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the workers with what they run."""
    rows = run(context, lambda client: client.monitor.workers())
    rows = [row for row in rows if everyone or row["state"] != "stopped"]
    list_rows(COLUMNS, rows, "no worker; start one with `dsa110 worker`", as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd drain node1-5f2c`")
def drain(
    context: typer.Context,
    worker: Annotated[str, typer.Argument(help="Id, or a unique beginning of it.")],
    as_json: AsJson = False,
) -> None:
    """Ask a worker to take nothing more, to finish what it runs, and to stop."""

    async def work(client: AbsurdClient) -> str:
        found = [
            row["worker_id"] for row in await client.monitor.workers() if row["state"] not in ("stopped", "crashed")
        ]
        matching: list[str] = [name for name in found if name == worker] or [
            name for name in found if name.startswith(worker)
        ]
        if not matching:
            raise NotFoundError(f"no worker {worker!r} is at work; there is {', '.join(found) or 'none'}")
        if len(matching) > 1:
            raise WrongUsageError(f"worker {worker!r} may be {matching[0]} or {matching[1]}; give more of its id")
        if not await client.drain_worker(matching[0]):
            raise RefusedError(f"worker {matching[0]} has just left")
        return matching[0]

    name = run(context, work)
    answer({"worker_id": name, "draining": True}, f"{name} takes nothing more and stops when it has finished", as_json)
