"""Logs of runs: whole lines, read from the end, bounded, named by checked names only."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsa110_contimg.absurd.executor import ChildFailed, ChildResult
from dsa110_contimg.absurd.stage_log import StageLog
from dsa110_contimg.api import run_logs
from dsa110_contimg.api.run_logs import MOST_BYTES, MOST_LINES, LogSight, NoRunLogError, RunLogs

RUN = "job-2026-02-11-030405"


@pytest.fixture
def logs(tmp_path: Path) -> RunLogs:
    return RunLogs(tmp_path / "runs")


def written(logs: RunLogs, directory: Path, content: bytes) -> None:
    logs.append(RUN, "INFO", "x", "")
    (directory / "runs" / f"{RUN}.log").write_bytes(content)


def test_a_line_has_time_level_speaker_and_words(logs: RunLogs) -> None:
    logs.append(RUN, "WARNING", "imaging", "subband 3 is missing")
    (line,) = logs.tail(RUN, 10).lines
    moment, words = line.split(" ", 1)
    assert moment.endswith("Z")
    assert words == "WARNING imaging: subband 3 is missing\n"


def test_words_from_outside_cannot_begin_a_line_or_move_a_cursor(logs: RunLogs) -> None:
    logs.append(RUN, "INFO", "x", "a\x1b[2Jb\x85c\u2028d\x00e")
    (line,) = logs.tail(RUN, 10).lines
    assert line.rstrip("\n").isprintable()
    logs.append(RUN, "INFO", "x", "first\nsecond\r\nthird")
    assert [one.split("x: ")[1] for one in logs.tail(RUN, 3).lines] == ["first\n", "second\n", "third\n"]


def test_the_tail_is_read_from_the_end_and_knows_how_long_the_log_is(logs: RunLogs, tmp_path: Path) -> None:
    written(logs, tmp_path, b"".join(b"%d\n" % number for number in range(200_000)))
    found = logs.tail(RUN, 3)
    assert found.lines == ["199997\n", "199998\n", "199999\n"]
    assert found.total_lines == 200_000
    with (tmp_path / "runs" / f"{RUN}.log").open("a") as log:
        log.write("half a line")
    assert logs.tail(RUN, 1).total_lines == 200_001
    assert len(logs.tail(RUN, MOST_LINES + 5).lines) == MOST_LINES


def test_a_tail_is_never_more_than_a_mebibyte_and_has_whole_lines_only(logs: RunLogs, tmp_path: Path) -> None:
    written(logs, tmp_path, b"".join(b"%09d %s\n" % (number, b"x" * 990) for number in range(3000)))
    lines = logs.tail(RUN, 2000).lines
    assert 1000 < len(lines) < 1100
    assert sum(map(len, lines)) <= MOST_BYTES
    assert all(len(line) == 1001 for line in lines)


@pytest.mark.parametrize(
    ("content", "lines", "total"),
    [(b"", [], 0), (b"\n", ["\n"], 1), (b"a", ["a\n"], 1), (b"a\nb", ["a\n", "b\n"], 2), (b"\xff\n", ["\ufffd\n"], 1)],
)
def test_odd_logs_are_read_too(logs: RunLogs, tmp_path: Path, content: bytes, lines: list[str], total: int) -> None:
    written(logs, tmp_path, content)
    found = logs.tail(RUN, 10)
    assert (found.lines, found.total_lines) == (lines, total)


def test_a_huge_foreign_log_is_not_counted(logs: RunLogs, tmp_path: Path) -> None:
    written(logs, tmp_path, b"")
    path = tmp_path / "runs" / f"{RUN}.log"
    with path.open("wb") as file:
        file.truncate(1 << 33)  # holes: no disk is used
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast\n")
    found = logs.tail(RUN, 1)
    assert (found.lines, found.total_lines) == (["last\n"], None)


def rested(path: Path) -> None:
    """Let a log be an hour old; its ctime is the time of this, and only waiting makes that older."""
    os.utime(path, (time.time() - 3600,) * 2)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file that was just changed count as one that was not."""
    monkeypatch.setattr(run_logs, "_REST_S", -1.0)


def sight_of(logs: RunLogs) -> LogSight:
    sight = logs.tail(RUN, 10).sight
    assert sight is not None
    assert sight.holds()
    return sight


def append_a_byte(path: Path) -> None:
    with path.open("ab") as log:
        log.write(b"x")


def write_as_much(path: Path) -> None:
    """Write other words of the same length, and say that it was not written since."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # until the clock of the file system has ticked
        path.write_bytes(path.read_bytes().swapcase())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_another_in_its_place(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes().swapcase())
    found = path.stat()
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(path)


def put_a_link_in_its_place(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("other")))


def put_a_directory_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "change",
    [
        append_a_byte, write_as_much, put_another_in_its_place, put_a_link_in_its_place, put_a_directory_in_its_place,
        Path.unlink, lambda path: os.truncate(path, 3), lambda path: path.chmod(0o600),
    ],
)  # fmt: skip
def test_a_log_that_was_seen_is_the_same_until_anything_happens_to_it(
    logs: RunLogs, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    written(logs, tmp_path, b"one\ntwo\n")
    path = tmp_path / "runs" / f"{RUN}.log"
    rested(path)
    sight = sight_of(logs)
    change(path)
    assert not sight.holds()


def test_a_log_that_is_not_there_is_so_until_it_is(logs: RunLogs, tmp_path: Path) -> None:
    with pytest.raises(NoRunLogError) as told:
        logs.tail(RUN, 10)
    sight = told.value.sight
    assert sight is not None
    assert sight.holds()
    logs.append(RUN, "INFO", "x", "begins")
    assert not sight.holds()
    (tmp_path / "runs" / "a.log").mkdir()
    with pytest.raises(NoRunLogError) as told:
        logs.tail("a", 10)
    assert told.value.sight is None


def test_a_log_that_was_just_written_cannot_be_known_again(logs: RunLogs, tmp_path: Path) -> None:
    written(logs, tmp_path, b"one\n")
    path = tmp_path / "runs" / f"{RUN}.log"
    assert logs.tail(RUN, 10).sight is None
    rested(path)  # changes its ctime, which cannot be set
    assert logs.tail(RUN, 10).sight is None
    os.utime(path, (time.time() + 3600,) * 2)
    assert logs.tail(RUN, 10).sight is None


@pytest.mark.usefixtures("at_once")
def test_a_log_that_is_written_while_it_is_read_cannot_be_known_again(
    logs: RunLogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(logs, tmp_path, b"one\n")

    def reading_late(fd: int, size_bytes: int, lines: int) -> tuple[bytes, int]:
        logs.append(RUN, "INFO", "x", "meanwhile")
        return os.pread(fd, size_bytes, 0), 0

    monkeypatch.setattr(run_logs, "_read_back", reading_late)
    found = logs.tail(RUN, 10)
    assert (found.lines, found.sight) == (["one\n"], None)


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "..", "", "a/b", "/etc/passwd", "a\x00b", ".hidden", "-rf", "x" * 201, "a\n", "a*"]
)
def test_no_other_name_reaches_the_file_system(logs: RunLogs, tmp_path: Path, name: str) -> None:
    with pytest.raises(NoRunLogError):
        logs.tail(name, 10)
    logs.append(name, "INFO", "x", "y")
    assert list(tmp_path.rglob("*")) == []


def test_a_link_a_pipe_and_a_directory_are_no_logs(logs: RunLogs, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "runs" / "a.log").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "runs" / "b.log")
    (tmp_path / "runs" / "c.log").mkdir()
    for name in "abc":
        with pytest.raises(NoRunLogError):
            logs.tail(name, 10)
        logs.append(name, "INFO", "x", "y")
    assert (tmp_path / "secret").read_text() == "secret\n"


def test_a_log_ends_at_its_largest_size_and_says_so(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path, largest_bytes=1000)
    for number in range(100):
        logs.append(RUN, "INFO", "x", f"line {number}")
    assert 1000 <= (tmp_path / f"{RUN}.log").stat().st_size < 1100
    assert "the log is full" in logs.tail(RUN, 1).lines[0]


def test_of_many_lines_at_once_a_log_takes_those_that_fit_and_its_end_is_no_longer_than_a_line(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path, largest_bytes=100_000)
    logs.append(RUN, "INFO", "x", "first")
    logs.append(RUN, "INFO", "x", "y" * 900 + ("\n" + "y" * 900) * 200)
    lines = logs.tail(RUN, 1000).lines
    assert 100_000 <= (tmp_path / f"{RUN}.log").stat().st_size < 100_100
    assert len(lines) > 100
    assert "the log is full" in lines[-1]
    assert len(lines[-1]) < 1100


def test_several_processes_at_once_leave_whole_lines(logs: RunLogs) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: logs.append(RUN, "INFO", "x", f"<{number:04d}>" + "y" * 500), range(400)))
    lines = logs.tail(RUN, 1000).lines
    assert sorted(line.split("x: ")[1][:6] for line in lines) == [f"<{number:04d}>" for number in range(400)]


def test_what_comes_after_an_offset_is_given_in_whole_lines(logs: RunLogs, tmp_path: Path) -> None:
    assert (logs.after(RUN, 0).lines, logs.size(RUN)) == ([], 0)
    written(logs, tmp_path, b"one\ntwo\nthr")
    part = logs.after(RUN, 0)
    assert (part.lines, part.next_offset) == (["one\n", "two\n"], 8)
    with (tmp_path / "runs" / f"{RUN}.log").open("ab") as file:
        file.write(b"ee\n")
    part = logs.after(RUN, part.next_offset)
    assert (part.lines, part.next_offset) == (["three\n"], 14)
    assert logs.after(RUN, 14).lines == []
    assert logs.after(RUN, 99).lines == ["one\n", "two\n", "three\n"]  # begun anew
    assert logs.size(RUN) == len("one\ntwo\nthree\n")


@pytest.mark.parametrize(
    ("content", "start"),
    [(b"", 0), (b"thr", 0), (b"one\n", 0), (b"one\ntwo\n", 0), (b"one\ntwo\nthree\n", 4), (b"one\ntwo\nthree\nfo", 4)],
)
def test_the_last_lines_begin_where_their_first_does(logs: RunLogs, tmp_path: Path, content: bytes, start: int) -> None:
    assert logs.start_of_last(RUN, 2) == 0
    written(logs, tmp_path, content)
    assert logs.start_of_last(RUN, 2) == start
    written(logs, tmp_path, b"x" * MOST_BYTES + b"\n" + content)
    part = logs.after(RUN, logs.start_of_last(RUN, 100)).lines
    assert part == logs.after(RUN, MOST_BYTES + 1).lines


def test_a_log_that_cannot_be_written_does_not_stop_the_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "runs").write_text("a file in the way")
    RunLogs(tmp_path / "runs").append(RUN, "INFO", "x", "y")
    assert "cannot be written" in caplog.text


def test_a_stage_tells_its_progress_its_cost_its_notes_and_its_failure(logs: RunLogs) -> None:
    log = StageLog(logs, RUN, "imaging")
    log.progress(0.25, "gridding")
    log.progress(0.26, "gridding")
    log.progress(0.27, "another word within the second")
    log.done(ChildResult({"notes": ["odd"]}, 10.0, 12.0, 3.5, 2_000_000, "host1"))
    log.failed(ChildFailed({"type": "BadInputError", "message": "no file"}, 1, "casacore says\nthis"))
    told = [line.split("Z ", 1)[1].rstrip("\n") for line in logs.tail(RUN, 10).lines]
    assert told == [
        "INFO imaging: 25% gridding",
        "INFO imaging: done in 2.0 s (3.5 s of CPU, 2 MB) on host1",
        "WARNING imaging: odd",
        "WARNING imaging: casacore says",
        "WARNING imaging: this",
        "ERROR imaging: BadInputError: no file",
    ]
