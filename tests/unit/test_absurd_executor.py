"""Children are started, followed, ended; none is left."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.absurd.executor import ChildFailed, ChildResult, Executor
from fixtures.queue_bench import alive, read_pid


# --------------------------------------------------------------------------------------------- what the children run
@dataclass(frozen=True)
class Options:
    path: str = ""
    seconds: float = 0.0
    megabytes: int = 0


class NoWay(Exception):
    retryable = False


@dataclass(frozen=True)
class Product:
    files: tuple[str, ...]
    noise_jy: float
    parts: dict[str, float] = field(default_factory=dict)


def make(options: Options, progress: Callable[[float, str], None]) -> Product:
    """Say things everywhere and return a product."""
    print("library chatter on standard output")
    os.write(2, b"and on standard error\n")
    progress(1.0, "made")
    return Product(("a.fits",), float("nan"), {"rms": 1e-3})


def environment(options: Options, progress: Callable[[float, str], None]) -> dict[str, Any]:
    """Return what a child finds around it."""
    return {"omp": os.environ.get("OMP_NUM_THREADS"), "session": os.getsid(0), "pid": os.getpid()}


def refuse(options: Options, progress: Callable[[float, str], None]) -> None:
    """Raise."""
    raise NoWay("truncated file a.hdf5")


def leave(options: Options, progress: Callable[[float, str], None]) -> None:
    """End without a report."""
    os.write(2, b"free(): invalid pointer\n")
    os._exit(3)


def abort(options: Options, progress: Callable[[float, str], None]) -> None:
    """Die of a signal."""
    os.kill(os.getpid(), signal.SIGSEGV)


def allocate(options: Options, progress: Callable[[float, str], None]) -> int:
    """Take memory."""
    return len(bytearray(options.megabytes << 20))


def ignore_sigterm(options: Options, progress: Callable[[float, str], None]) -> None:
    """Refuse to go."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(options.path).write_text(str(os.getpid()))
    time.sleep(options.seconds)


def leave_behind(options: Options, progress: Callable[[float, str], None]) -> int:
    """Start what leaves the group and keeps the output open."""
    return subprocess.Popen(["sleep", str(options.seconds)], start_new_session=True).pid


# ------------------------------------------------------------------------------------------------------------- tests
@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Executor:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])]))
    return Executor(kill_grace_s=0.3, memory_mb=1024)


async def run(executor: Executor, function: str, **options: Any) -> ChildResult:
    """Run a function of this file in a child."""
    told: list[float] = []

    async def note(fraction: float, message: str) -> None:
        told.append(fraction)

    groups: set[int] = set()
    try:
        return await executor.run(f"{Path(__file__).stem}:{function}", options, progress=note, groups=groups, threads=3)
    finally:
        assert groups == set()


async def test_a_product_comes_back_whole_past_all_chatter_with_what_it_cost(executor: Executor) -> None:
    before = time.time()
    made = await run(executor, "make")
    assert made.value == {"files": ["a.fits"], "noise_jy": None, "parts": {"rms": 1e-3}}
    assert before <= made.started_at <= made.finished_at <= time.time()
    assert 0.0 < made.cpu_s < 10.0
    assert 5e6 < made.peak_rss_bytes < 2e8, "a bare interpreter takes about 10 to 40 MB"
    assert made.host == os.uname().nodename


async def test_progress_is_told_as_it_happens(executor: Executor) -> None:
    told: list[tuple[float, str]] = []

    async def note(fraction: float, message: str) -> None:
        told.append((fraction, message))

    await executor.run(f"{Path(__file__).stem}:make", {}, progress=note, groups=set())
    assert told == [(1.0, "made")]


async def test_a_child_has_a_session_of_its_own_and_the_threads_it_was_given(executor: Executor) -> None:
    found = (await run(executor, "environment")).value
    assert found["session"] == found["pid"]
    assert found["omp"] == "3"


async def test_an_exception_keeps_its_type_message_place_and_whether_to_retry(executor: Executor) -> None:
    with pytest.raises(ChildFailed, match=r"NoWay: truncated file a\.hdf5") as caught:
        await run(executor, "refuse")
    failure = caught.value
    assert (failure.type, failure.retryable, failure.exit_code, failure.signal) == ("NoWay", False, 1, None)
    assert "in refuse" in failure.traceback


async def test_a_child_that_ends_without_a_word_fails_with_its_exit_code_and_last_output(executor: Executor) -> None:
    with pytest.raises(ChildFailed, match=r"exit code 3; its last words: free\(\): invalid pointer") as caught:
        await run(executor, "leave")
    assert (caught.value.exit_code, caught.value.retryable) == (3, True)
    assert caught.value.stderr_tail == "free(): invalid pointer"


async def test_a_child_that_crashes_fails_with_its_signal(executor: Executor) -> None:
    with pytest.raises(ChildFailed, match="SIGSEGV") as caught:
        await run(executor, "abort")
    assert (caught.value.signal, caught.value.exit_code) == ("SIGSEGV", None)


async def test_options_that_do_not_fit_fail_before_the_function_runs(executor: Executor) -> None:
    with pytest.raises(ChildFailed, match=r"options: 'pth' is unknown") as caught:
        await run(executor, "make", pth="x")
    assert not caught.value.retryable


async def test_memory_beyond_the_ceiling_is_refused_to_the_child(executor: Executor) -> None:
    assert (await run(executor, "allocate", megabytes=100)).value == 100 << 20
    with pytest.raises(ChildFailed, match=r"MemoryError.*its memory ceiling is 1024 MB; raise ABSURD_CHILD_MEMORY_MB"):
        await run(executor, "allocate", megabytes=2000)


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(executor: Executor, tmp_path: Path) -> None:
    running = asyncio.create_task(run(executor, "ignore_sigterm", path=str(tmp_path / "pid"), seconds=600.0))
    pid = await read_pid(tmp_path / "pid")
    asked_s = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert 0.25 < time.monotonic() - asked_s < 2.0
    assert not alive(pid)


async def test_the_warden_kills_what_is_left_when_the_worker_is_gone(executor: Executor) -> None:
    orphan = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    finished = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    warden = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dsa110_contimg.absurd.warden", stdin=asyncio.subprocess.PIPE
    )
    await warden.communicate(f"+{orphan.pid}\n+{finished.pid}\n-{finished.pid}\n".encode())
    assert await orphan.wait() == -signal.SIGKILL
    assert finished.returncode is None
    finished.kill()
    await finished.wait()


async def test_what_left_the_group_and_holds_the_output_keeps_no_stage_and_no_command_waiting(
    executor: Executor,
) -> None:
    async with asyncio.timeout(20):
        os.kill((await run(executor, "leave_behind", seconds=60.0)).value, signal.SIGKILL)
        command = [
            sys.executable,
            "-c",
            "import subprocess as s; print(s.Popen(['sleep', '60'], start_new_session=True).pid)",
        ]
        told = await executor.run_command(command, "", variables={}, groups=set())
        os.kill(int(told.output_tail), signal.SIGKILL)
