"""`dsa110 up` from end to end, with a small simulated observation and everything that can be wrong beside it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import psutil
import pytest

from dsa110_contimg.pipeline.simulation import SimulateOptions, simulate

DSA110 = Path(sys.executable).with_name("dsa110")
OURS = ("DSA110_", "ABSURD_", "REDIS_URL", "PRODUCTS_DB", "PIPELINE_", "API_PORT")
GOOD = "2026-01-25T01:12:15"
LATER = "2026-01-25T03:12:15"


def environment(state: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, "DSA110_STATE_DIR": str(state), "COLUMNS": "200"}


class Up:
    """A running `dsa110 up` with what it has said."""

    def __init__(self, state: Path, *words: str) -> None:
        self.state = state
        self.output = state.parent / f"output-{time.monotonic_ns()}.txt"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [DSA110, "up", "--port", "0", *words], env=environment(state), stdout=file, stderr=file
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def until(self, pattern: str, timeout_s: float = 120.0) -> re.Match[str]:
        """Wait until it has said something."""
        found: list[re.Match[str]] = []
        wait_for(lambda: bool(found.extend(re.finditer(pattern, self.text)) or found or self.ended()), timeout_s)
        assert found, self.text
        return found[0]

    def ended(self) -> bool:
        return self.process.poll() is not None

    def code(self, timeout_s: float = 400.0) -> int:
        """Wait for its end."""
        return self.process.wait(timeout_s)

    def descendants(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if belongs(process, str(self.state))]


def belongs(process: psutil.Process, state: str) -> bool:
    """Tell whether a process works on a state directory: its arguments or its environment say so."""
    try:
        in_arguments = any(state in word for word in process.cmdline())
        return process.status() != psutil.STATUS_ZOMBIE and (
            in_arguments or process.environ().get("DSA110_STATE_DIR") == state
        )
    except psutil.Error:
        return False


def wait_for(true: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def observation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files of one small observation and their truth."""
    directory = tmp_path_factory.mktemp("observation")
    simulate(SimulateOptions(str(directory), n_antennas=20, n_sources=4, seed=5))
    return directory


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts `dsa110 up` on a state directory of this test; whatever runs at the end is killed."""
    running: list[Up] = []

    def start(*words: str) -> Up:
        running.append(Up(tmp_path / "state", *words))
        return running[-1]

    yield start
    for up in running:
        up.process.kill()
        up.process.wait()
        for process in up.descendants():
            process.kill()


def contents(directory: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in directory.iterdir()}


def spoil(directory: Path, source: Path) -> None:
    """Put files that cannot be used beside the good ones."""
    files = sorted(source.glob("*_sb*.hdf5"))
    (directory / "notes.hdf5").write_bytes(b"not a subband file")
    (directory / f"{LATER}_sb00.hdf5").write_bytes(files[0].read_bytes()[:100_000])
    foreign = directory / f"{LATER}_sb01.hdf5"
    shutil.copy(files[1], foreign)
    with h5py.File(foreign, "r+") as file:
        del file["Header/telescope_name"]
        file["Header/telescope_name"] = b"VLA"


@pytest.mark.slow
def test_good_observations_are_processed_beside_spoilt_files_and_nothing_is_changed(
    started: Callable[..., Up], observation: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(observation, data)
    spoil(data, observation)
    before = contents(data)

    up = started("--data", str(data), "--once")
    assert up.code() == 0, up.text
    assert contents(data) == before
    for words in ("notes.hdf5: the name is not", "_sb00.hdf5: is truncated", "_sb01.hdf5", "VLA"):
        assert words in up.text
    assert "Traceback" not in up.text
    assert up.text.count("left out: ") == 3
    assert re.search(r"\d+ of \d+ detectable sources recovered, median flux ratio", up.text)
    assert re.search(rf"image\s+{tmp_path}/state/products/images/{GOOD[:10]}", up.text)
    assert not up.descendants()

    again = started("--data", str(data), "--once")
    assert again.code() == 0, again.text
    assert "finished before as job-2026-01-25-" in again.text
    assert "started" not in again.text
    assert again.text.index("/api/docs") < again.text.index("the addresses answer again while it runs without")


@pytest.mark.slow
def test_a_killed_house_leaves_nothing_and_the_next_one_finishes_the_work_though_its_processes_are_killed_too(
    started: Callable[..., Up], observation: Path
) -> None:
    up = started("--data", str(observation))
    up.until("flagging started")
    assert len(up.descendants()) > 6
    up.process.kill()
    up.process.wait()
    wait_for(lambda: not up.descendants(), 20)

    again = started("--data", str(observation))
    again.until("goes on where it was")
    for name in ("postgres", "dsa110_contimg.absurd"):
        victim = next(process for process in again.descendants() if any(name in word for word in process.cmdline()[:3]))
        victim.kill()
        again.until(r"ended \(signal SIGKILL\); starting it again")
    again.until(r"http://127\.0\.0\.1:\d+/api/v1/images/\d+/fits", 400)
    url = again.until(r"http://[\d.:]+/api/v1/jobs/\S+")[0]
    job = json.load(urllib.request.urlopen(url, timeout=10))
    assert job["status"] == "completed"
    assert "convert-uvh5-to-ms started" not in again.text
    again.process.send_signal(signal.SIGTERM)
    assert again.code(40) == 0
    assert not again.descendants()


@pytest.mark.slow
def test_interrupting_the_work_stops_everything_and_says_so_by_the_exit_code(
    started: Callable[..., Up], observation: Path
) -> None:
    up = started("--data", str(observation), "--once")
    up.until("convert-uvh5-to-ms started")
    up.process.send_signal(signal.SIGINT)
    assert up.code(40) == 130
    assert not up.descendants()
    assert "Traceback" not in up.text


@pytest.mark.slow
def test_without_a_usable_observation_it_ends_with_the_reasons(started: Callable[..., Up], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / f"{GOOD}_sb00.hdf5").write_bytes(b"nothing")
    up = started("--data", str(data), "--once")
    assert up.code() == 1
    assert f"left out: {data}/{GOOD}_sb00.hdf5" in up.text
    assert "holds no observation that can be processed" in up.text
