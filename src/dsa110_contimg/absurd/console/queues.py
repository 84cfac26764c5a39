"""Queues: pause, resume, limits; what they did: metrics, history; what they need no more: prune."""

import sys
from typing import Annotated, Any, Literal

import typer

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.console import values
from dsa110_contimg.absurd.console.layout import Column, print_table
from dsa110_contimg.absurd.console.session import (
    AsJson,
    Queue,
    WrongUsageError,
    Yes,
    answer,
    confirm,
    list_rows,
    run,
    stop,
    write_json,
)
from dsa110_contimg.absurd.console.texts import duration, rate, share
from dsa110_contimg.absurd.rows import Row
from dsa110_contimg.terminal import open_console

app = typer.Typer()

QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]

METRICS = (
    Column("queue", lambda row: row["queue_name"], least=8, spare=1),
    Column("task", lambda row: row.get("task_name") or "(all)", least=10),
    Column("wait", lambda row: str(row["current_pending"]), right=True),
    Column("run", lambda row: str(row["current_claimed"]), right=True),
    Column("done", lambda row: str(row["total_completed"]), right=True),
    Column("fail", lambda row: str(row["total_failed"]), right=True),
    Column("1 min", lambda row: rate(row["throughput_1min"]), right=True),
    Column("15 min", lambda row: rate(row["throughput_15min"]), right=True, spare=4),
    Column("success", lambda row: share(row["success_rate_15min"]), right=True, spare=6),
    Column("wait p50", lambda row: duration(row["p50_wait_time_sec"]), right=True, spare=5),
    Column("wait p95", lambda row: duration(row["p95_wait_time_sec"]), right=True, spare=3),
    Column("run p50", lambda row: duration(row["p50_execution_time_sec"]), right=True, spare=5),
    Column("run p95", lambda row: duration(row["p95_execution_time_sec"]), right=True, spare=2),
    Column("oldest", lambda row: duration(row["oldest_pending_sec"]), right=True, spare=7),
)


def _paused(context: typer.Context, queue: str, paused: bool, as_json: bool) -> None:
    async def work(client: AbsurdClient) -> None:
        await (client.pause_queue(queue) if paused else client.resume_queue(queue))

    run(context, work)
    text = "paused: what runs goes on, nothing more is started" if paused else "resumed"
    answer({"queue_name": queue, "paused": paused}, f"{queue} {text}", as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd pause dsa110-pipeline`")
def pause(context: typer.Context, queue: QueueName, as_json: AsJson = False) -> None:
    """Start no more tasks of a queue until it is resumed."""
    _paused(context, queue, True, as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd resume dsa110-pipeline`")
def resume(context: typer.Context, queue: QueueName, as_json: AsJson = False) -> None:
    """Let a paused queue go on."""
    _paused(context, queue, False, as_json)


@app.command(
    epilog="Examples:\n\n`dsa110 absurd limits`\n\n`dsa110 absurd limits archive --rate 2 --burst 10`\n\n"
    "`dsa110 absurd limits archive --key disk1 --most 3`\n\n`dsa110 absurd limits archive --clear`"
)
def limits(
    context: typer.Context,
    queue: Annotated[str | None, typer.Argument(help="Queue; without one all limits are listed.")] = None,
    rate_per_s: Annotated[float | None, typer.Option("--rate", min=0.0, help="Tasks started per second.")] = None,
    burst: Annotated[float | None, typer.Option(min=1.0, help="Tasks that may start at once after a pause.")] = None,
    ageing: Annotated[str | None, typer.Option(help="Waiting this long is worth one priority, as in 10m.")] = None,
    key: Annotated[str | None, typer.Option(help="Concurrency key.")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="Tasks of that key that may run at once.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take rate and ageing away.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show or set the rate, ageing and concurrency limits of queues; what is not given stays."""
    if (key is None) != (most is None):
        stop(WrongUsageError("give --key and --most together"))

    async def work(client: AbsurdClient) -> Row:
        known = await client.monitor.limits()
        if queue is not None and (clear or rate_per_s is not None or burst is not None or ageing is not None):
            now: Row = {} if clear else next((row for row in known["queues"] if row["queue_name"] == queue), {})
            await client.set_queue_limits(
                queue,
                rate_per_s=now.get("rate_per_s") if rate_per_s is None else rate_per_s,
                burst=now.get("burst") if burst is None else burst,
                ageing_s=now.get("ageing_s") if ageing is None else values.span_s(ageing),
            )
        if queue is not None and key is not None and most is not None:
            await client.set_concurrency(queue, key, most)
        return await client.monitor.limits(queue)

    found = run(context, work)
    if as_json:
        write_json(found)
    else:
        _print_limits(found)


def _print_limits(found: Row) -> None:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:g}"

    console = open_console()
    queues = (
        Column("queue", lambda row: row["queue_name"], least=8),
        Column("state", lambda row: "paused" if row["paused"] else "open"),
        Column("rate/s", lambda row: number(row["rate_per_s"]), right=True),
        Column("burst", lambda row: number(row["burst"]), right=True),
        Column("ageing", lambda row: duration(row["ageing_s"]), right=True),
    )
    keys = (
        Column("queue", lambda row: row["queue_name"], least=8),
        Column("key", lambda row: row["key"], least=8),
        Column("most", lambda row: str(row["max_running"]), right=True),
        Column("now", lambda row: str(row["running"]), right=True),
        Column("parked", lambda row: str(row["parked"]), right=True),
    )
    print_table(console, queues, found["queues"], "no queue has a limit")
    print_table(console, keys, found["keys"], title="concurrency keys")


@app.command(epilog="Examples:\n\n`dsa110 absurd metrics --by-task`\n\n`dsa110 absurd metrics --prometheus`")
def metrics(
    context: typer.Context,
    queue: Queue = None,
    by_task: Annotated[bool, typer.Option("--by-task", "-t", help="One line for each task name.")] = False,
    prometheus: Annotated[bool, typer.Option("--prometheus", help="In the text form of Prometheus.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what queues do: counts, rates, times (quantiles of the last 24 hours)."""
    if prometheus:
        sys.stdout.write(run(context, lambda client: client.monitor.prometheus()))
        return

    async def work(client: AbsurdClient) -> list[Row]:
        if by_task:
            return await client.monitor.metrics_by_task(queue)
        found = await client.monitor.metrics_by_queue()
        return [{"queue_name": name, **row} for name, row in found.items() if queue in (None, name)]

    rows = run(context, work)
    list_rows(METRICS, rows, "no task yet", as_json)


@app.command(epilog="Example:\n\n`dsa110 absurd history --hours 6 --resolution 15m`")
def history(
    context: typer.Context,
    queue: Queue = None,
    hours: Annotated[int, typer.Option(min=1, max=168, help="How far back.")] = 24,
    resolution: Annotated[Literal["5m", "15m", "1h", "6h"], typer.Option(help="Length of a step.")] = "1h",
    as_json: AsJson = False,
) -> None:
    """Show what queues did, step by step."""
    found = run(context, lambda client: client.monitor.history(queue, hours, resolution))
    if as_json:
        write_json(found)
        return
    series: dict[str, list[Any]] = found["series"]
    rows = [
        {"at": at, **{name: column[i] for name, column in series.items()}} for i, at in enumerate(found["timestamps"])
    ]
    columns = (
        Column("from (UTC)", lambda row: row["at"][:16].replace("T", " ")),
        Column("done", lambda row: str(row["completed"]), right=True),
        Column("fail", lambda row: str(row["failed"]), right=True),
        Column("rate", lambda row: rate(row["throughput"]), right=True),
        Column("success", lambda row: share(_hundredth(row["success_rate"])), right=True, spare=4),
        Column("wait mean", lambda row: duration(row["avg_wait"]), right=True, spare=3),
        Column("wait p95", lambda row: duration(row["p95_wait"]), right=True, spare=1),
        Column("run mean", lambda row: duration(row["avg_latency"]), right=True, spare=2),
        Column("run p95", lambda row: duration(row["p95_latency"]), right=True),
    )
    print_table(open_console(), columns, rows)


def _hundredth(percent: float | None) -> float | None:
    return None if percent is None else percent / 100.0


@app.command(epilog="Example:\n\n`dsa110 absurd prune --older 30 --status completed`")
def prune(
    context: typer.Context,
    older: Annotated[float, typer.Option("--older", min=0.0, help="Days since they ended.")] = 7.0,
    queue: Queue = None,
    status: Annotated[list[str] | None, typer.Option("--status", "-s", help="Only these ends; repeatable.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete tasks that ended long ago: whole workflows only, and none that a live task needs. Dead letters stay."""
    confirm(f"Delete tasks that ended more than {older:g} days ago?", yes)

    async def work(client: AbsurdClient) -> int:
        return await client.prune_tasks(retention_days=older, queue_name=queue, statuses=status)

    number = run(context, work)
    answer({"pruned": number}, f"{number} tasks deleted", as_json)
