"""The four executors, from the claim to the outcome; retries and postponements that a handler asks for."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.absurd.registry import Tasks, TaskType
from dsa110_contimg.absurd.worker import AbsurdWorker, TaskContext
from fixtures.queue_bench import Bench, alive, child_path, open_bench, read_pid
from fixtures.queue_worker import Options

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", child_path()["PYTHONPATH"])
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


@dataclass(frozen=True)
class Nap:
    seconds: float
    path: str = ""


async def loop_nap(params: Nap) -> Mapping[str, Any]:
    await asyncio.sleep(params.seconds)
    return {"slept_s": params.seconds}


def thread_nap(params: Nap, context: TaskContext) -> Mapping[str, Any]:
    context.tell_progress(0.5, "half way")
    time.sleep(params.seconds)
    return {"slept_s": params.seconds}


def patient_nap(params: Nap, context: TaskContext) -> None:
    """Wait until the task is stopped, and say so."""
    while not context.stopping:
        time.sleep(0.01)
    Path(params.path).write_text("1")


def stubborn_nap(params: Nap) -> None:
    """Wait until the file is there, whoever wants the task to stop."""
    while not Path(params.path).exists():
        time.sleep(0.01)


def broken(params: Nap) -> None:
    raise FileNotFoundError(f"no file {params.path}")


#: Starts a process that does not hear SIGTERM, and waits for it.
DEAF_SLEEPER = 'trap "" TERM; sleep 600 & echo $! > "$TASK_PARAM_PATH"; trap - TERM; wait'

TASKS = Tasks(
    TaskType("loop", loop_nap),
    TaskType("thread", thread_nap, "thread"),
    TaskType("patient", patient_nap, "thread"),
    TaskType("stubborn", stubborn_nap, "thread"),
    TaskType("broken", broken, "thread", dead_on=(OSError,)),
    TaskType("child", "queue_worker:write_then_sleep", "process", params=Options),
    TaskType("tell", ["sh", "-c", 'cat; echo; echo "$TASK_PARAM_MS_PATH $TASK_ATTEMPT"'], "command"),
    TaskType("refuse", ["sh", "-c", "echo disk full >&2; exit 3"], "command"),
    TaskType("linger", ["sh", "-c", DEAF_SLEEPER], "command"),
    TaskType("nothing", ["/no/such/program"], "command"),
    TaskType("greedy", ["sh", "-c", "head -c 900m /dev/zero | tail"], "command"),
)


def worker(queue: Bench, **settings: Any) -> contextlib.AbstractAsyncContextManager[AbsurdWorker]:
    """Run a worker with the tasks above."""
    return queue.worker(TASKS.handlers(), kill_grace_sec=0.3, **settings)


async def outcome(queue: Bench, name: str, params: Mapping[str, Any], state: str, **settings: Any) -> dict[str, Any]:
    """Run one task to its end and return its row."""
    async with worker(queue):
        task = await queue.client.spawn(name, params, **settings)
        await queue.until_state(task, state)
    row = await queue.client.get_task(task)
    assert row is not None
    return row


@pytest.mark.parametrize("name", ["loop", "thread"])
async def test_a_function_runs_with_typed_parameters(queue: Bench, name: str) -> None:
    assert (await outcome(queue, name, {"seconds": 0}, "completed"))["result"] == {"slept_s": 0.0}


async def test_a_child_runs_a_function_by_its_name(queue: Bench, tmp_path: Path) -> None:
    row = await outcome(queue, "child", {"path": str(tmp_path / "pid"), "seconds": 0.0}, "completed")
    assert row["result"] == {"slept": 0.0}


async def test_a_command_gets_its_parameters_as_json_and_variables_and_its_output_is_kept(queue: Bench) -> None:
    row = await outcome(queue, "tell", {"ms_path": "/a b.ms", "more": [1]}, "completed")
    assert row["result"] == {"exit_code": 0, "output_tail": '{"more":[1],"ms_path":"/a b.ms"}\n/a b.ms 1'}


async def test_a_command_that_fails_says_its_exit_code_and_last_words(queue: Bench) -> None:
    row = await outcome(queue, "refuse", {}, "failed")
    assert row["error"] == "CommandFailed: sh ended with exit code 3; its last words: disk full"
    assert (row["error_detail"]["exit_code"], row["error_detail"]["stderr_tail"]) == (3, "disk full")


async def test_a_command_that_is_not_installed_fails_for_good(queue: Bench) -> None:
    row = await outcome(queue, "nothing", {}, "failed", max_retries=5)
    assert "'/no/such/program' is not there, or may not be run" in row["error"]
    assert row["attempt"] == 1


async def test_a_cancelled_command_dies_with_what_it_started(queue: Bench, tmp_path: Path) -> None:
    async with worker(queue):
        task = await queue.client.spawn("linger", {"path": str(tmp_path / "pid")})
        sleeper = await read_pid(tmp_path / "pid")
        await queue.client.cancel_task(task)
        await queue.until_state(task, "cancelled", 3)
        assert not alive(sleeper)


async def test_a_command_over_its_memory_ceiling_fails_with_the_ceiling_in_its_error(queue: Bench) -> None:
    async with worker(queue, child_memory_mb=256):
        task = await queue.client.spawn("greedy")
        await queue.until_state(task, "failed")
    row = await queue.client.get_task(task)
    assert row is not None
    assert "memory ceiling is 256 MB; raise ABSURD_CHILD_MEMORY_MB" in row["error"]


async def test_a_thread_that_looks_sees_that_its_task_is_stopped(queue: Bench, tmp_path: Path) -> None:
    async with worker(queue):
        task = await queue.client.spawn("patient", {"seconds": 0, "path": str(tmp_path / "seen")}, timeout_sec=0.2)
        await queue.until_state(task, "failed")
        assert (tmp_path / "seen").exists()


async def test_a_thread_that_does_not_end_keeps_its_slot_until_it_does(queue: Bench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with worker(queue, worker_concurrency=1):
        stuck = await queue.client.spawn("stubborn", {"seconds": 0, "path": str(go)}, timeout_sec=0.2)
        await queue.until_state(stuck, "failed", 15)
        after = await queue.client.spawn("loop", {"seconds": 0})
        await asyncio.sleep(0.3)
        assert await queue.states(after) == ["pending"]
        go.touch()
        await queue.until_state(after, "completed", 15)


async def test_parameters_that_do_not_fit_fail_a_task_for_good_at_its_claim(queue: Bench) -> None:
    row = await outcome(queue, "loop", {"seconds": "long"}, "failed", max_retries=5)
    assert row["error"] == "BadParamsError: task loop: params.seconds is 'long'; give a value of type float"
    assert row["attempt"] == 1


async def test_a_failure_that_the_task_type_calls_deadly_is_not_tried_again(queue: Bench) -> None:
    row = await outcome(queue, "broken", {"seconds": 0, "path": "a.ms"}, "failed", max_retries=5)
    assert (row["error"], row["attempt"]) == ("FileNotFoundError: no file a.ms", 1)


async def test_every_failed_attempt_is_kept_with_type_message_place_host_and_duration(queue: Bench) -> None:
    row = await outcome(queue, "broken", {"seconds": 0, "path": "a.ms"}, "failed")
    error = await queue.sql("select error from absurd.attempt where task_id = $1", row["task_id"])
    assert error["types"] == ["FileNotFoundError", "OSError", "Exception"]
    assert "in broken" in error["traceback"]
    assert error["host"] == os.uname().nodename
    assert 0.0 <= error["duration_s"] < 10.0
    assert error["worker_id"].startswith(error["host"])


async def test_a_handler_says_when_to_try_again(queue: Bench) -> None:
    async with queue.worker():
        task = await queue.client.spawn("again", {"after_s": 0.5}, max_retries=1)
        await queue.until_state(task, "retrying")
        delay_s = await queue.sql(
            """select extract(epoch from l.run_at - a.finished_at)::float8
               from absurd.later l join absurd.attempt a using (task_id)"""
        )
        assert delay_s == pytest.approx(0.5, abs=0.05)
        await queue.until_state(task, "completed")


async def test_a_handler_puts_its_task_off_without_using_up_an_attempt(queue: Bench, tmp_path: Path) -> None:
    async with queue.worker():
        calls = tmp_path / "calls"
        task = await queue.client.spawn("put_off", {"after_s": 0.1, "path": str(calls)}, max_retries=0)
        await queue.until_state(task, "completed")
    row = await queue.client.get_task(task)
    assert row is not None and row["result"] == {"attempt": 1}
    assert calls.read_text() == "..."
    assert await queue.sql("select count(*) from absurd.attempt") == 0


async def test_a_worker_takes_the_tasks_and_queues_that_it_was_told_and_no_others(queue: Bench) -> None:
    async with worker(queue, worker_queues=("day", "night"), worker_tasks=("loop",)):
        params = {"seconds": 0}
        taken = [await queue.client.spawn("loop", params, queue=name) for name in ("day", "night")]
        left = [
            await queue.client.spawn("thread", params, queue="day"),
            await queue.client.spawn("unheard-of", params, queue="day"),
            await queue.client.spawn("loop", params, queue="twilight"),
        ]
        for task in taken:
            await queue.until_state(task, "completed")
        await asyncio.sleep(0.2)
        assert await queue.states(*left) == ["pending"] * 3
