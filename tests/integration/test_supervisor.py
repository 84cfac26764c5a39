"""The supervisor, with real processes."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from dsa110_contimg.up.console import Screen
from dsa110_contimg.up.supervisor import Backoff, ProcessFailedError, ProcessSpec, Supervisor

FULL = Path("/dev/full")
QUICK = Backoff(first_s=0.05, longest_s=0.2, quick_s=5.0, quick_deaths=3)


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-u", "-c", textwrap.dedent(text))


def spec(name: str, text: str, **more: object) -> ProcessSpec:
    return ProcessSpec(name, script(text), dict(os.environ), **more)  # type: ignore[arg-type]


def screen(directory: Path) -> tuple[Screen, io.StringIO]:
    shown = io.StringIO()
    return Screen(Console(file=shown, width=200), directory), shown


def full_terminal() -> io.TextIOWrapper:
    """Return what takes nothing and says so at once."""
    return io.TextIOWrapper(FULL.open("wb", buffering=0), write_through=True)


async def until(true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():  # noqa: ASYNC110 - it looks at processes and at text, which tell nobody
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor(screen(tmp_path)[0], QUICK)
    await supervisor.start(spec("sleeper", "import time; time.sleep(60)"))
    first = supervisor.pid("sleeper")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: supervisor.pid("sleeper") not in (None, first))
    await supervisor.stop()
    assert not alive(first)


async def test_a_process_that_keeps_ending_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    log, shown = screen(tmp_path)
    supervisor = Supervisor(log, QUICK)
    await supervisor.start(spec("sick", "print('no such database'); raise SystemExit(3)"))
    failure = await asyncio.wait_for(supervisor.gave_up, 20)
    assert "ended 3 times" in str(failure)
    assert "exit code 3" in str(failure)
    assert "no such database" in str(failure)
    assert "sick ended (exit code 3); starting it again" in shown.getvalue()
    await supervisor.stop()


async def test_a_process_that_is_never_ready_is_an_error_with_its_name(tmp_path: Path) -> None:
    supervisor = Supervisor(screen(tmp_path)[0], QUICK)
    with pytest.raises(ProcessFailedError, match=r"mute was not ready after 0 s"):
        await supervisor.start(spec("mute", "import time; time.sleep(60)", ready=lambda: False, ready_timeout_s=0.3))
    await supervisor.stop()


def test_what_cannot_be_kept_is_shown_and_said_once(tmp_path: Path) -> None:
    (tmp_path / "api.jsonl").symlink_to(FULL)
    log, shown = screen(tmp_path)
    for number in range(3):
        log.take("api", f"line {number}")
    log.close()
    assert [f"line {number}" in shown.getvalue() for number in range(3)] == [True] * 3
    assert shown.getvalue().count("No space left on device; lines are left out") == 1


async def test_a_process_whose_lines_can_neither_be_kept_nor_shown_goes_on(tmp_path: Path) -> None:
    """Its pipe was full after some thousand lines, and it stood still for ever, though the disk had space again."""
    (tmp_path / "api.jsonl").symlink_to(FULL)
    text = f"""
        import pathlib, time
        for number in range(4000):
            print("x" * 1000, flush=True)
        pathlib.Path({str(tmp_path / "end")!r}).touch()
        time.sleep(60)
    """
    full = Screen(Console(file=full_terminal(), width=200), tmp_path)
    supervisor = Supervisor(full, QUICK)
    await supervisor.start(spec("api", text))
    await until((tmp_path / "end").exists)
    await supervisor.stop()


def test_a_line_says_its_error_once(tmp_path: Path) -> None:
    log, shown = screen(tmp_path)
    refused = {"level": "WARNING", "message": "GET /x: it is away", "error": "a.b.GoneError: it is away"}
    crashed = {"level": "ERROR", "message": "GET /y", "error": "Traceback\n  line\nValueError: 7\n"}
    for event in (refused, crashed):
        log.take("api", json.dumps(event))
    first, second = shown.getvalue().splitlines()
    assert first.endswith("WARNING GET /x: it is away")
    assert second.endswith("ERROR GET /y: ValueError: 7")


async def test_processes_are_stopped_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    log, shown = screen(tmp_path)
    supervisor = Supervisor(log, QUICK)
    text = """
        import signal, sys, time
        def end(*_):
            print("farewell", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("ready", flush=True)
        time.sleep(60)
    """
    for name in ("first", "second", "third"):
        await supervisor.start(spec(name, text))
    await until(lambda: shown.getvalue().count("ready") == 3)
    await supervisor.stop()
    farewells = [line.split()[1] for line in shown.getvalue().splitlines() if "farewell" in line]
    assert farewells == ["third", "second", "first"]


async def test_a_process_that_ignores_the_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    log, shown = screen(tmp_path)
    supervisor = Supervisor(log, QUICK)
    text = """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("child", child.pid, flush=True)
        time.sleep(60)
    """
    await supervisor.start(spec("deaf", text, grace_s=0.3))
    await until(lambda: "child" in shown.getvalue())
    child = int(shown.getvalue().split("child")[1].split()[0])
    leader = supervisor.pid("deaf")
    assert leader is not None
    await supervisor.stop()
    await until(lambda: not alive(child) and not alive(leader))
    assert "deaf did not stop in 0 s; killing it" in shown.getvalue()


async def test_what_a_dead_process_leaves_behind_is_killed_before_its_successor_starts(tmp_path: Path) -> None:
    log, shown = screen(tmp_path)
    supervisor = Supervisor(log, QUICK)
    text = """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("child", child.pid, flush=True)
        time.sleep(60)
    """
    await supervisor.start(spec("parent", text))
    await until(lambda: "child" in shown.getvalue())
    child = int(shown.getvalue().split("child")[1].split()[0])
    parent = supervisor.pid("parent")
    assert parent is not None
    os.kill(parent, signal.SIGKILL)
    await until(lambda: shown.getvalue().count("child") == 2)
    assert not alive(child)
    await supervisor.stop()


def test_nothing_is_left_when_the_supervisor_itself_is_killed(tmp_path: Path) -> None:
    text = f"""
        import asyncio, os, pathlib, sys
        from rich.console import Console
        from dsa110_contimg.up.console import Screen
        from dsa110_contimg.up.supervisor import ProcessSpec, Supervisor

        async def main():
            supervisor = Supervisor(Screen(Console(), pathlib.Path({str(tmp_path)!r})))
            for name in "ab":
                await supervisor.start(
                    ProcessSpec(name, (sys.executable, "-c", "import time; time.sleep(60)"), dict(os.environ)))
            print("pids", supervisor.pid("a"), supervisor.pid("b"), flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
    """
    with subprocess.Popen(script(text), stdout=subprocess.PIPE, text=True) as house:
        assert house.stdout is not None
        line = next(line for line in house.stdout if line.startswith("pids"))
        pids = [int(word) for word in line.split()[1:]]
        assert all(alive(pid) for pid in pids)
        house.kill()
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)


async def test_every_line_is_kept_as_json_and_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    log, shown = screen(tmp_path)
    supervisor = Supervisor(log, QUICK)
    await supervisor.start(spec("odd", r"import time; print('plain \x1b[2J text'); time.sleep(60)"))
    await until(lambda: "plain" in shown.getvalue())
    await supervisor.stop()
    events = [json.loads(line) for line in (tmp_path / "odd.jsonl").read_text().splitlines()]
    assert events[0]["message"] == "plain \x1b[2J text"
    assert "\x1b" not in shown.getvalue()
    assert r"plain \x1b[2J text" in shown.getvalue()


async def test_requests_are_kept_and_do_not_bury_what_a_person_reads(tmp_path: Path) -> None:
    log, shown = screen(tmp_path)
    request = {"level": "INFO", "logger": "dsa110_contimg.api.access", "message": "GET '/api/v1/jobs' 200"}
    for event in (request, {"level": "WARNING", "logger": "any", "message": "Redis does not answer"}):
        log.take("api", json.dumps(event))
    log.close()
    assert "GET" not in shown.getvalue()
    assert "Redis does not answer" in shown.getvalue()
    assert "GET" in (tmp_path / "api.jsonl").read_text()


async def test_a_program_that_does_not_exist_is_given_up_by_name(tmp_path: Path) -> None:
    log, shown = screen(tmp_path)
    supervisor = Supervisor(log, QUICK)
    with pytest.raises(ProcessFailedError, match="ghost ended 3 times"):
        await supervisor.start(ProcessSpec("ghost", ("/nonexistent/program",), {}))
    assert "ghost cannot be started" in shown.getvalue()
    await supervisor.stop()
