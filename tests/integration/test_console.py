"""The queue at the terminal, command by command, on a real queue."""

import asyncio
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import Result
from rich.cells import cell_len
from typer.testing import CliRunner

from dsa110_contimg.absurd.client import Dependency, TaskSpec
from dsa110_contimg.absurd.console.app import app
from dsa110_contimg.absurd.release import SCHEMA_VERSION
from dsa110_contimg.absurd.templates import Step
from dsa110_contimg.exit_codes import ExitCode
from fixtures.queue_bench import QUEUE, Bench

pytest_plugins = ["fixtures.queue_database"]

Answer = TypeVar("Answer")
UNKNOWN = "01a20000-0000-7000-8000-000000000000"
DSA110 = Path(sys.executable).with_name("dsa110")


class Terminal:
    """Runs commands in this process, in a thread, as somebody at a terminal would."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def run(self, *words: str, code: int = 0, width: int = 120, answer: str | None = None) -> Result:
        """Run a command and check its exit code."""

        def call() -> Result:
            environment = {"ABSURD_DATABASE_URL": self.bench.url}
            return CliRunner().invoke(
                app, list(words), obj=lambda: environment, input=answer, env={"COLUMNS": str(width), "LINES": "24"}
            )

        result = await asyncio.to_thread(call)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    async def json(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json and return what it says."""
        return json.loads((await self.run(*words, "--json", code=code)).stdout)

    async def lines(self, *words: str, code: int = 0, width: int = 120) -> list[str]:
        """Run a command and return its lines; none is wider than the terminal."""
        lines = (await self.run(*words, code=code, width=width)).stdout.splitlines()
        assert max(map(cell_len, lines), default=0) <= width
        return lines


@pytest.fixture
async def terminal(queue: Bench) -> Terminal:
    return Terminal(queue)


async def fail_one(queue: Bench, name: str = "imaging") -> str:
    """Leave a task that failed for good; return its id."""
    task = await queue.client.spawn(name, {"ms_path": "/a.ms"}, max_retries=0)
    claimed = (await queue.claim())[0]
    error = {"type": "ValueError", "message": "no sources", "traceback": "Traceback\n  line 7", "reason": "error"}
    await queue.sql("select absurd.fail_task($1, $2, $3)", claimed["task_id"], claimed["claim"], error)
    return str(task)


# -------------------------------------------------------------------------------------------------------------- spawn
async def test_spawn_takes_parameters_in_every_form(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"c": {"d": 1}}')
    task = await terminal.json("spawn", "imaging", '{"a": 1}', "b=2", "e=text", "f=[1, 2]", f"@{tmp_path / 'p.json'}")
    assert task["params"] == {"a": 1, "b": 2, "e": "text", "f": [1, 2], "c": {"d": 1}}
    assert (task["task_name"], task["queue_name"], task["status"]) == ("imaging", QUEUE, "pending")


async def test_spawn_takes_every_option(terminal: Terminal, queue: Bench) -> None:
    parent = await queue.client.spawn("flagging")
    task = await terminal.json(
        "spawn", "imaging", "--queue", "other", "--priority", "5", "--timeout", "15m", "--max-retries", "1",
        "--depends-on", f"{parent}:done", "--run-at", "2099-01-02T03:04", "--idempotency-key", "k",
        "--concurrency-key", "disk", "--fair-key", "me", "--header", "who=me",
    )  # fmt: skip
    expected = {
        "queue_name": "other", "priority": 5, "timeout_sec": 900.0, "max_retries": 1, "status": "blocked",
        "depends_on": [str(parent)], "run_at": "2099-01-02T03:04:00+00:00", "idempotency_key": "k",
        "concurrency_key": "disk", "fair_key": "me", "headers": {"who": "me"},
    }  # fmt: skip
    assert {key: task[key] for key in expected} == expected
    assert (await queue.client.monitor.relatives(parent))[0]["policy"] == "done"


async def test_a_second_spawn_of_an_idempotency_key_gives_the_first_task(terminal: Terminal) -> None:
    first = await terminal.json("spawn", "imaging", "--idempotency-key", "k")
    assert (await terminal.json("spawn", "imaging", "--idempotency-key", "k"))["task_id"] == first["task_id"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("x",), "parameter 'x': give"),
        (('{"a"',), "is no JSON"),
        (("@/nowhere.json",), "the file /nowhere.json cannot be read"),
        (("--timeout", "soon"), "time span 'soon'"),
        (("--run-at", "tomorrow"), "time 'tomorrow'"),
        (("--depends-on", f"{UNKNOWN}:maybe"), "the policy is success or done or failure"),
    ],
)
async def test_what_cannot_be_understood_is_a_wrong_usage(terminal: Terminal, words: Sequence[str], text: str) -> None:
    told = await terminal.run("spawn", "imaging", *words, code=ExitCode.USAGE)
    assert text in told.stderr
    assert told.stdout == ""


async def test_spawn_waits_for_the_end_and_tells_it_by_the_exit_code(terminal: Terminal, queue: Bench) -> None:
    async with queue.worker():
        told = await terminal.run("spawn", "small", "a=1", "--wait")
        assert re.fullmatch(r'[0-9a-f-]{36} completed \{"params": \{"a": 1\}, "attempt": 1\}\n', told.stdout)
        told = await terminal.run("spawn", "fail", "permanent=true", "--wait", code=ExitCode.WORK_FAILED)
        assert told.stdout.endswith(" failed: Permanent: never again\n")
        row = await terminal.json("spawn", "fail", "permanent=true", "--wait", code=ExitCode.WORK_FAILED)
        assert row["status"] == "failed"


async def test_spawn_waits_no_longer_than_it_is_told(terminal: Terminal) -> None:
    told = await terminal.run("spawn", "small", "--wait", "--wait-timeout", "0.2", code=ExitCode.WORK_FAILED)
    assert "has not ended after 0.2 s; it goes on" in told.stderr


# -------------------------------------------------------------------------------------------------------------- tasks
async def test_tasks_are_listed_by_their_filters(terminal: Terminal, queue: Bench) -> None:
    failed = await fail_one(queue)
    waiting = str(await queue.client.spawn("flagging", queue="other"))

    async def ids(*words: str) -> list[str]:
        return [row["task_id"] for row in await terminal.json("tasks", *words)]

    assert await ids() == [waiting, failed]
    assert await ids("--status", "failed") == [failed]
    assert await ids("--name", "flagging") == [waiting]
    assert await ids("--queue", "other") == [waiting]
    assert await ids("--limit", "1") == [waiting]
    assert await ids("--after", waiting) == [failed]


async def test_a_state_that_is_none_is_a_wrong_usage(terminal: Terminal) -> None:
    told = await terminal.run("tasks", "--status", "lost", code=ExitCode.USAGE)
    assert "'lost' is not one of 'blocked'" in told.stderr


async def test_a_full_page_says_how_to_get_the_next(terminal: Terminal, queue: Bench) -> None:
    for _ in range(2):
        last = await queue.client.spawn("imaging")
    assert (await terminal.lines("tasks", "--limit", "1"))[-1] == f"older ones: --after {last}"


@pytest.mark.parametrize("width", [60, 80, 120, 200])
async def test_a_row_is_one_line_at_every_width(terminal: Terminal, queue: Bench, width: int) -> None:
    task = await fail_one(queue, "a-task-with-a-name-that-is-longer-than-others")
    await queue.client.spawn("imaging", priority=123456)
    lines = await terminal.lines("tasks", width=width)
    assert len(lines) == 3
    row = lines[2]
    assert row.startswith(task[:8])
    assert "failed" in row
    shown = row.split()[0]
    assert (await terminal.json("show", shown))["task_id"] == task  # what a table shows of an id means that task


async def test_control_characters_of_names_cannot_break_a_table(terminal: Terminal, queue: Bench) -> None:
    await queue.client.spawn("evil\n\x1b[2Jname")
    assert r"evil\n\x1b[2Jname" in (await terminal.lines("tasks"))[1]


async def test_a_task_is_shown_with_its_attempts_and_relatives(terminal: Terminal, queue: Bench) -> None:
    task = await fail_one(queue)
    child = await queue.client.spawn("report", depends_on=[Dependency(task, "done")])  # type: ignore[arg-type]
    shown = "\n".join(await terminal.lines("show", task))
    for text in ("imaging", "failed", '{"ms_path": "/a.ms"}', "ValueError: no sources", "attempts that did not succeed",
                 "is waited for by", str(child)):  # fmt: skip
        assert text in shown
    assert "line 7" not in shown
    assert "  line 7" in await terminal.lines("show", task, "--trace")
    row = await terminal.json("show", task[:23])
    assert [attempt["reason"] for attempt in row["attempts"]] == ["error"]
    assert [relative["task_id"] for relative in row["relatives"]] == [str(child)]


async def test_an_id_that_is_not_there_or_means_two_is_told_apart(terminal: Terminal, queue: Bench) -> None:
    first, second = [await queue.client.spawn("imaging") for _ in range(2)]
    told = await terminal.run("show", UNKNOWN, code=ExitCode.NOT_FOUND)
    assert told.stderr == f"dsa110: the queue has no task '{UNKNOWN}'; `dsa110 absurd tasks` lists what there is\n"
    told = await terminal.run("show", str(first)[:4], code=ExitCode.USAGE)
    assert f"may be {first} or {second}; give more of its id" in told.stderr


async def test_cancel_and_retry_say_what_was_done(terminal: Terminal, queue: Bench) -> None:
    task = str(await queue.client.spawn("imaging"))
    assert await terminal.json("cancel", task) == [{"task_id": task, "cancelled": True}]
    assert await terminal.lines("cancel", task, code=1) == [f"{task} has ended already"]
    assert await terminal.lines("retry", task) == [f"{task} retried"]
    assert await terminal.json("retry", task, code=1) == [{"task_id": task, "retried": False}]


# ------------------------------------------------------------------------------------------------------- dead letters
async def test_dead_letters_are_listed_shown_edited_and_replayed(terminal: Terminal, queue: Bench) -> None:
    task = await fail_one(queue)
    rows = await terminal.json("dlq", "list", "--reason", "error")
    assert [row["task_id"] for row in rows] == [task]
    assert await terminal.json("dlq", "list", "--name", "other") == []
    assert any("no sources" in line for line in await terminal.lines("dlq", "list", width=80))
    assert "  line 7" in await terminal.lines("dlq", "show", task)
    assert (await terminal.json("dlq", "show", task))["reason"] == "error"
    edited = await terminal.json("dlq", "edit", task, "n=3")
    assert edited["params"] == {"ms_path": "/a.ms", "n": 3}
    assert (await terminal.json("dlq", "edit", task, "n=4", "--whole"))["params"] == {"n": 4}
    assert await terminal.json("dlq", "replay", task) == [{"task_id": task, "replayed": True}]
    row = await terminal.json("show", task)
    assert (row["status"], row["params"]) == ("pending", {"n": 4})
    assert "has no dead letter" in (await terminal.run("dlq", "show", task, code=ExitCode.NOT_FOUND)).stderr


async def test_dead_letters_are_replayed_by_filters_and_purged(terminal: Terminal, queue: Bench) -> None:
    await terminal.run("dlq", "replay", code=ExitCode.USAGE)
    for name in ("imaging", "imaging", "report"):
        await fail_one(queue, name)
    assert await terminal.json("dlq", "replay", "--all", "--name", "imaging") == {"replayed": 2}
    assert [row["task_name"] for row in await terminal.json("dlq", "list")] == ["report"]
    await terminal.run("dlq", "purge", "--older", "0", code=1, answer="n\n")
    assert len(await terminal.json("dlq", "list")) == 1
    assert await terminal.json("dlq", "purge", "--older", "0", "-y") == {"purged": 1}


# ---------------------------------------------------------------------------------------------------------- workflows
async def diamond(queue: Bench) -> str:
    """Spawn a → (b, c) → d, of which a is completed."""
    a = TaskSpec("a")
    b, c = (TaskSpec(name, depends_on=[a.task_id]) for name in "bc")
    d = TaskSpec("d", depends_on=[b.task_id, Dependency(c.task_id, "done")])
    workflow = await queue.client.spawn_graph("observation", [a, b, c, d])
    await queue.complete((await queue.claim())[0])
    return str(workflow)


async def test_a_workflow_is_shown_as_a_tree(terminal: Terminal, queue: Bench) -> None:
    workflow = await diamond(queue)
    lines = await terminal.lines("workflows", "show", workflow, width=80)
    drawn = [re.sub(r"  [0-9a-f]{8}….*", "", line) for line in lines[lines.index("") + 1 :]]
    assert drawn == ["✓ a", "├─ · b", "└─ · c", "   └─ · d +1"]
    row = await terminal.json("workflows", "show", workflow)
    assert [task["task_name"] for task in row["tasks"]] == ["a", "b", "c", "d"]
    assert len(row["dag_edges"]) == 4
    assert {edge["policy"] for edge in row["edges"]} == {"success", "done"}


async def test_workflows_are_listed_cancelled_and_retried(terminal: Terminal, queue: Bench) -> None:
    workflow = await diamond(queue)
    listed = await terminal.json("workflows", "list", "--status", "running")
    assert [(row["workflow_id"], row["completed_tasks"], row["total_tasks"]) for row in listed] == [(workflow, 1, 4)]
    assert "1/4" in (await terminal.lines("workflows", "list", width=80))[1]
    assert (await terminal.json("workflows", "cancel", workflow))["cancelled"] >= 2
    assert "no task that could be cancelled" in (await terminal.run("workflows", "cancel", workflow, code=1)).stderr
    assert (await terminal.json("workflows", "retry", workflow))["retried"] >= 2
    await terminal.run("workflows", "show", UNKNOWN, code=ExitCode.NOT_FOUND)


async def test_a_workflow_is_drawn_for_graphviz(terminal: Terminal, queue: Bench) -> None:
    drawing = (await terminal.run("workflows", "dot", await diamond(queue))).stdout
    assert drawing.startswith('digraph "observation" {\n')
    assert drawing.count("->") == 4
    assert drawing.count("[style=dashed, label=done]") == 1
    assert drawing.count("palegreen") == 1
    assert drawing.endswith("}\n")


# ------------------------------------------------------------------------------------------- schedules and templates
async def test_a_schedule_is_created_listed_paused_triggered_and_deleted(terminal: Terminal) -> None:
    await terminal.run(
        "schedules", "create", "nightly", "0 3 * * *", "mosaic", "tier=deep", "-z", "America/Los_Angeles"
    )
    row = (await terminal.json("schedules", "list"))[0]
    assert (row["name"], row["params"], row["state"]) == ("nightly", {"tier": "deep"}, "active")
    moments = await terminal.json("schedules", "next", "nightly", "--count", "2")
    assert moments[0] == row["next_run_at"] or moments[0].endswith(("T03:00:00-08:00", "T03:00:00-07:00"))
    task = (await terminal.json("schedules", "trigger", "nightly"))["task_id"]
    assert (await terminal.json("show", task))["params"] == {"tier": "deep"}
    await terminal.run("schedules", "pause", "nightly")
    assert "paused" in (await terminal.lines("schedules", "list", width=80))[1]
    assert "resume it first" in (await terminal.run("schedules", "next", "nightly", code=ExitCode.USAGE)).stderr
    assert await terminal.json("schedules", "resume", "nightly") == {"name": "nightly", "state": "active"}
    await terminal.run("schedules", "delete", "nightly", code=1, answer="n\n")
    await terminal.run("schedules", "delete", "nightly", "-y")
    assert await terminal.lines("schedules", "list") == ["no schedule"]


@pytest.mark.parametrize("verb", ["pause", "resume", "trigger", "next"])
async def test_a_schedule_that_is_not_there_is_not_found(terminal: Terminal, verb: str) -> None:
    told = await terminal.run("schedules", verb, "never", code=ExitCode.NOT_FOUND)
    assert told.stderr == "dsa110: there is no schedule 'never'; `dsa110 absurd schedules list` lists what there is\n"


async def test_the_times_of_five_fields_are_told_without_a_schedule(terminal: Terminal) -> None:
    moments = await terminal.json("schedules", "next", "0 3 29 2 *", "--count", "2")
    assert [moment[4:] for moment in moments] == ["-02-29T03:00:00+00:00"] * 2
    told = await terminal.run("schedules", "next", "61 * * * *", code=ExitCode.USAGE)
    assert "out of range" in told.stderr


async def test_a_template_is_listed_shown_and_run(terminal: Terminal, queue: Bench) -> None:
    steps = [Step("convert", {"a": 1}), Step("imaging")]
    await queue.client.templates.create("quick", steps, queue_name=QUEUE, description="fast")
    assert [row["name"] for row in await terminal.json("templates", "list")] == ["quick"]
    assert any("convert → imaging" in line for line in await terminal.lines("templates", "list", width=80))
    assert any("convert" in line for line in await terminal.lines("templates", "show", "quick"))
    made = await terminal.json("templates", "run", "quick", "b=2")
    states = await terminal.json("tasks", "--workflow", made["workflow_id"])
    assert [(row["task_name"], row["status"], row["params"]["b"]) for row in states] == [
        ("imaging", "blocked", 2),
        ("convert", "pending", 2),
    ]
    await terminal.run("templates", "show", "none", code=ExitCode.NOT_FOUND)
    await terminal.run("templates", "run", "none", code=ExitCode.NOT_FOUND)


# ------------------------------------------------------------------------------------------------- queues and workers
async def test_a_queue_is_paused_and_resumed(terminal: Terminal, queue: Bench) -> None:
    await queue.client.spawn("imaging")
    assert await terminal.json("pause", QUEUE) == {"queue_name": QUEUE, "paused": True}
    assert await queue.claim() == []
    assert "paused" in (await terminal.lines("limits"))[1]
    assert await terminal.json("resume", QUEUE) == {"queue_name": QUEUE, "paused": False}
    assert len(await queue.claim()) == 1


async def test_limits_are_set_one_by_one_and_taken_away(terminal: Terminal) -> None:
    await terminal.run("limits", QUEUE, "--rate", "2", "--burst", "10")
    row = (await terminal.json("limits", QUEUE, "--ageing", "10m"))["queues"][0]
    assert (row["rate_per_s"], row["burst"], row["ageing_s"]) == (2.0, 10.0, 600.0)
    row = (await terminal.json("limits", QUEUE, "--clear"))["queues"][0]
    assert (row["rate_per_s"], row["ageing_s"]) == (None, None)
    key = (await terminal.json("limits", QUEUE, "--key", "disk", "--most", "3"))["keys"][0]
    assert (key["key"], key["max_running"], key["running"], key["parked"]) == ("disk", 3, 0, 0)
    assert "give --key and --most together" in (await terminal.run("limits", QUEUE, "--key", "x", code=2)).stderr


async def test_workers_are_listed_and_drained(terminal: Terminal, queue: Bench) -> None:
    await queue.client.spawn("imaging")
    claimed = (await queue.claim(worker="node1-abcd"))[0]
    rows = await terminal.json("workers")
    assert [(row["worker_id"], row["condition"]) for row in rows] == [("node1-abcd", "active")]
    assert "imaging" in (await terminal.lines("workers", width=80))[1]
    assert await terminal.json("drain", "node1") == {"worker_id": "node1-abcd", "draining": True}
    beat = "select verdict from absurd.heartbeat('node1-abcd', array[$1::bigint], 10)"
    assert await queue.sql(beat, claimed["claim"]) == "drain"
    assert "no worker 'node2' is at work" in (await terminal.run("drain", "node2", code=ExitCode.NOT_FOUND)).stderr


async def test_metrics_and_history_show_what_was_done(terminal: Terminal, queue: Bench) -> None:
    await fail_one(queue)
    await queue.client.spawn("imaging")
    await queue.complete((await queue.claim())[0])
    row = (await terminal.json("metrics"))[0]
    assert (row["queue_name"], row["total_completed"], row["total_failed"]) == (QUEUE, 1, 1)
    assert [row["task_name"] for row in await terminal.json("metrics", "--by-task")] == ["imaging"]
    assert len(await terminal.lines("metrics", "--by-task", width=80)) == 2
    assert "absurd_tasks_completed_total" in (await terminal.run("metrics", "--prometheus")).stdout
    told = await terminal.json("history", "--hours", "1", "--resolution", "5m")
    assert sum(told["series"]["completed"]) == 1
    assert len(await terminal.lines("history", "--hours", "2", width=80)) == 3


async def test_prune_asks_and_deletes(terminal: Terminal, queue: Bench) -> None:
    await queue.client.spawn("imaging")
    await queue.complete((await queue.claim())[0])
    await terminal.run("prune", "--older", "0", code=1, answer="n\n")
    assert await terminal.json("prune", "--older", "0", "-y") == {"pruned": 1}


# ------------------------------------------------------------------------------------------------------- installation
async def test_status_tells_health_by_its_exit_code(terminal: Terminal, queue: Bench) -> None:
    told = await terminal.json("status", code=1)
    assert (told["status"], told["message"]) == ("critical", "there is no worker")
    await queue.claim()
    await queue.client.spawn("imaging")
    told = await terminal.json("status")
    assert (told["status"], told["queues"][0]["pending"], told["schema_version"]) == ("healthy", 1, SCHEMA_VERSION)
    lines = (await terminal.run("status")).stdout.splitlines()
    assert any(re.fullmatch(r"health +healthy", line) for line in lines)
    assert "***" in "".join(lines)


async def test_the_queue_is_made_shown_and_emptied(postgres_database: str) -> None:
    bench = Bench(postgres_database, None, None)  # type: ignore[arg-type]
    terminal = Terminal(bench)
    assert "holds no queue" in (await terminal.run("tasks", code=ExitCode.SERVER)).stderr
    assert "is ready (schema version" in (await terminal.run("init")).stdout
    await terminal.run("spawn", "imaging")
    await terminal.run("reset", code=1, answer="n\n")
    assert len(await terminal.json("tasks")) == 1
    await terminal.run("reset", answer="y\n")
    assert await terminal.json("tasks") == []


async def test_a_server_that_is_away_is_told_in_one_line(queue: Bench) -> None:
    bench = Bench("postgresql://u:secret@127.0.0.1:1/none", queue.client, queue.connection)
    told = await Terminal(bench).run("tasks", code=ExitCode.SERVER)
    assert told.stderr.startswith("dsa110: the queue's database postgresql://u:***@127.0.0.1:1/none does not answer")
    assert len(told.stderr.splitlines()) == 1


# ------------------------------------------------------------------------------------------------------- watch and top
async def while_watching(command: Awaitable[Answer], work: Callable[[], Awaitable[Any]]) -> Answer:
    """Do something again and again until the command that watches has seen enough, and return its answer."""
    watching = asyncio.ensure_future(command)
    async with asyncio.timeout(20):
        while not watching.done():
            await work()
            await asyncio.wait([watching], timeout=0.2)
    return await watching


async def test_watch_tells_each_event_on_one_line(terminal: Terminal, queue: Bench) -> None:
    async def happen() -> None:
        await queue.client.spawn("elsewhere", queue="other")
        await queue.client.cancel_task(await queue.client.spawn("imaging"))

    told = await while_watching(terminal.run("watch", "--json", "--count", "3", "--queue", QUEUE), happen)
    first, *events = [json.loads(line) for line in told.stdout.splitlines()]
    assert first["type"] == "listening"
    assert len(events) == 3
    assert {event["name"] for event in events} == {"imaging"}
    assert {event["status"] for event in events} == {"pending", "cancelled"}
    assert [event["status"] for event in events] in (
        ["pending", "cancelled", "pending"],
        ["cancelled", "pending", "cancelled"],
    )


async def test_watch_shows_one_task_to_people(terminal: Terminal, queue: Bench) -> None:
    other, task = [await queue.client.spawn("imaging") for _ in range(2)]

    async def happen() -> None:
        for one in (other, task):
            await queue.client.cancel_task(one)
            await queue.client.retry_task(one)

    lines = await while_watching(terminal.lines("watch", "--task", str(task), "--count", "1", width=80), happen)
    name = f"{str(task)[:8]}…{str(task)[-6:]}"
    assert re.fullmatch(rf"[\d:]{{8}} (cancelled|pending  ) imaging  {name}.*", lines[-1])


async def test_top_prints_one_frame_that_fits(terminal: Terminal, queue: Bench) -> None:
    await fail_one(queue)
    for _ in range(30):
        await queue.client.spawn("imaging")
    for claimed in await queue.claim(limit=20, worker="node1"):
        await queue.sql("select absurd.report_progress($1, $2, 0.5, 'gridding')", claimed["task_id"], claimed["claim"])
    lines = await terminal.lines("top", "--once", width=80)
    assert len(lines) <= 24
    text = "\n".join(lines)
    assert lines[0].startswith("ABSURD ● healthy")
    for expected in ("waiting 10", "running 20", "QUEUE", "WORKER", "node1", "RUNNING", "█████░░░░░", "more", "FAILED",
                     "ValueError: no sources"):  # fmt: skip
        assert expected in text


async def test_top_is_live_and_ends_with_q(queue: Bench) -> None:
    await queue.claim(worker="node1")
    master, slave = pty.openpty()
    environment = {
        **os.environ, "ABSURD_DATABASE_URL": queue.url, "REDIS_URL": "redis://none", "TERM": "xterm-256color",
        "COLUMNS": "80", "LINES": "24",
    }  # fmt: skip
    process = subprocess.Popen(  # noqa: ASYNC220 - it is to run beside this test
        [DSA110, "absurd", "top", "-i", "0.2"], stdin=slave, stdout=slave, env=environment
    )
    os.close(slave)
    try:
        await asyncio.to_thread(read_until, master, b"node1")
        await queue.client.spawn("imaging")
        await asyncio.to_thread(read_until, master, b"waiting 1")
        os.write(master, b"p")
        await asyncio.to_thread(read_until, master, b"PAUSED")
        os.write(master, b"q")
        await asyncio.to_thread(read_to_the_end, master)
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)


def read_until(descriptor: int, wanted: bytes, limit_s: float = 120.0) -> None:
    """Read what a terminal shows until something is seen; a process that ends before makes the reading fail at once.

    The limit is for a process that hangs: on a busy machine only to start took one more than 15 s.
    """
    seen, end_s = b"", time.monotonic() + limit_s
    while wanted not in seen:
        assert time.monotonic() < end_s, seen[-2000:]
        if select.select([descriptor], [], [], 0.2)[0]:
            seen += os.read(descriptor, 65536)


def read_to_the_end(descriptor: int) -> None:
    """Read what a terminal shows until its process ends: one whose output nobody takes waits, and reads no keys."""
    with pytest.raises(OSError, match="Input/output error"):
        read_until(descriptor, b"what nobody shows")
