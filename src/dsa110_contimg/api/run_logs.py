"""Logs of runs: one text file a run, written by whoever works on it, read from its end.

A line is ``2026-02-11T03:04:05.678Z INFO imaging: major cycle 2``: time (UTC), level, who speaks, what. Whatever would
end a line or move a terminal's cursor is escaped, so that one event stays one line. Files are written by appending
whole lines, from several processes at once if need be, and end at a largest size.
"""

import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dsa110_contimg.api.replies import iso_now

logger = logging.getLogger(__name__)

MOST_LINES = 10_000
MOST_BYTES = 1 << 20
LARGEST_BYTES = 16 << 20
_LONGEST_LINE = 4000
_BLOCK_BYTES = 64 << 10
_SHORT_BYTES = 16 << 10
_REST_S = 2.0  # clocks of file systems tick in some milliseconds, at worst in seconds
#: What a run may be called to have a log; the name becomes a file name.
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,199}")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # the last: of names that are no UTF-8
_LINE_END = re.compile(b"\n")
_FULL = b" the log is full: nothing that came later was kept\n"
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not stop us


@dataclass(frozen=True, slots=True)
class LogSight:
    """A log as it was seen.

    Attributes
    ----------
    path : str
    marks : tuple of int, optional
        What the file system told of the file; None of one that was not there.
    """

    path: str
    marks: tuple[int, ...] | None

    def holds(self) -> bool:
        """Tell whether it is the same still, to the byte; an open file tells it, also where names are remembered."""
        try:
            fd = os.open(self.path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            return self.marks is None
        except OSError:
            return False
        try:
            return _marks(os.fstat(fd)) == self.marks
        finally:
            os.close(fd)


class NoRunLogError(LookupError):
    """A run has no log that can be read; the message says why, and ``sight`` what was seen if that can be compared."""

    def __init__(self, message: str, sight: LogSight | None = None) -> None:
        super().__init__(message)
        self.sight = sight


@dataclass(frozen=True, slots=True)
class LogTail:
    """The end of a log.

    Attributes
    ----------
    lines : list of str
        Each with its line end.
    total_lines : int or None
        Of the whole log; None when it is larger than what we write, and not counted.
    sight : LogSight or None
        By which to know later that it is the same; None of a log that is being written.
    """

    lines: list[str]
    total_lines: int | None
    sight: LogSight | None = None


@dataclass(frozen=True, slots=True)
class LogPart:
    """What was added to a log since an offset, whole lines only; ``next_offset`` is where to go on."""

    lines: list[str]
    next_offset: int


class RunLogs:
    """The logs of all runs.

    Parameters
    ----------
    directory : Path
        Where they lie, one file ``<run_id>.log`` each.
    largest_bytes : int
        A log that is as large as this takes no further line.
    """

    def __init__(self, directory: Path, largest_bytes: int = LARGEST_BYTES) -> None:
        self._directory = str(directory)
        self._largest_bytes = largest_bytes

    def append(self, run_id: str, level: str, source: str, message: str) -> None:
        """Add an event; what cannot be written is said in the process's own log, the work goes on.

        Parameters
        ----------
        run_id : str
        level : str
            ``INFO``, ``WARNING`` or ``ERROR``.
        source : str
            Who speaks: a stage.
        message : str
            Each line of it becomes a line of its own.
        """
        moment = iso_now()
        lines = [
            _escaped(f"{moment} {level} {source}: {line}")
            for line in message.replace("\r\n", "\n").removesuffix("\n").split("\n")
        ]
        try:
            self._write(self._path(run_id), "".join(f"{line}\n" for line in lines).encode())
        except (OSError, NoRunLogError) as error:
            logger.warning("the log of run %s cannot be written: %s", run_id, error)

    def tail(self, run_id: str, lines: int) -> LogTail:
        """Return the last lines of a log, at most ``MOST_LINES`` of them and ``MOST_BYTES``.

        Raises
        ------
        NoRunLogError
            There is none, or it cannot be read.
        """
        with self._opened(run_id) as (fd, size_bytes):
            return self._tail(run_id, fd, size_bytes, min(lines, MOST_LINES))

    def short_tail(self, run_id: str, lines: int) -> LogTail | None:
        """Return the same of a log that is read in less time than a change of threads takes; None of a longer one."""
        with self._opened(run_id) as (fd, size_bytes):
            return self._tail(run_id, fd, size_bytes, lines) if size_bytes <= _SHORT_BYTES else None

    def _tail(self, run_id: str, fd: int, size_bytes: int, lines: int) -> LogTail:
        before = os.fstat(fd)
        content, begin = _read_back(fd, size_bytes, lines)
        found = _lines(content, whole=begin == 0)[-lines:]
        total = _count(fd, begin, content) if size_bytes <= 2 * LARGEST_BYTES else None
        marks = _marks(before)
        settled = before.st_size == size_bytes and _has_rested(before) and _marks(os.fstat(fd)) == marks
        return LogTail(found, total, LogSight(self._path(run_id), marks) if settled else None)

    def after(self, run_id: str, offset: int) -> LogPart:
        """Return whole lines from a byte offset on, at most ``MOST_BYTES``; a run without a log has none yet."""
        try:
            with self._opened(run_id) as (fd, size_bytes):
                start = offset if offset <= size_bytes else 0  # the log was begun anew
                content = os.pread(fd, MOST_BYTES, start)
        except NoRunLogError:
            return LogPart([], 0)
        whole = content[: content.rfind(b"\n") + 1]
        return LogPart(_lines(whole, whole=True), start + len(whole))

    def start_of_last(self, run_id: str, lines: int) -> int:
        """Return the byte offset of the last so many whole lines, at most ``MOST_BYTES`` before the end."""
        try:
            with self._opened(run_id) as (fd, size_bytes):
                content, begin = _read_back(fd, size_bytes, lines)
        except NoRunLogError:
            return 0
        first = [0] if begin == 0 else []  # of a longer log it is a piece of a line
        starts = [*first, *(found.end() for found in _LINE_END.finditer(content))]
        return begin + next(iter(starts[-lines - 1 :]), 0)

    def size(self, run_id: str) -> int:
        """Return the length of a log, bytes; 0 when there is none that can be read."""
        try:
            with self._opened(run_id) as (_, size_bytes):
                return size_bytes
        except NoRunLogError:
            return 0

    def _path(self, run_id: str) -> str:
        if not _RUN_ID.fullmatch(run_id):
            raise NoRunLogError("a run of this name cannot have a log")
        return f"{self._directory}/{run_id}.log"

    def _write(self, path: str, content: bytes) -> None:
        Path(self._directory).mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _FLAGS, 0o640)
        try:
            size_bytes = os.fstat(fd).st_size
            if size_bytes >= self._largest_bytes:
                return
            room_bytes = self._largest_bytes - size_bytes
            if len(content) >= room_bytes:
                fits = content[: content.rfind(b"\n", 0, max(room_bytes - len(_FULL), 0)) + 1]
                content = fits + _FULL.rjust(room_bytes - len(fits), b"-")  # its size says to everybody that it is full
            os.write(fd, content)
        finally:
            os.close(fd)

    @contextmanager
    def _opened(self, run_id: str) -> Iterator[tuple[int, int]]:
        """Give descriptor and size of a log."""
        path = self._path(run_id)
        try:
            fd = os.open(path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError as error:
            raise NoRunLogError("nothing was logged for this run", LogSight(path, None)) from error
        except OSError as error:
            raise NoRunLogError(f"the log cannot be read: {error.strerror}") from error
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise NoRunLogError("the log is no regular file")
            yield fd, found.st_size
        finally:
            os.close(fd)


def _marks(found: os.stat_result) -> tuple[int, ...]:
    """Return what is not the same of a file that is another, or that was written.

    Whoever appends changes the size; the times tell of one that was written anew in the same length.
    """
    return (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _has_rested(found: os.stat_result) -> bool:
    """Tell whether a file was last changed long ago enough that the next change has another time."""
    return time.time() - max(found.st_mtime, found.st_ctime) > _REST_S


def _escaped(line: str) -> str:
    """Return a line without characters that end it or move a cursor, cut at a largest length."""
    return _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", line)[:_LONGEST_LINE]


def _read_back(fd: int, size_bytes: int, lines: int) -> tuple[bytes, int]:
    """Return the end of a file that holds so many lines, at most ``MOST_BYTES``, and where it begins."""
    content, begin = b"", size_bytes
    while begin > 0 and len(content) < MOST_BYTES and content.count(b"\n") <= lines:
        length = min(_BLOCK_BYTES, begin, MOST_BYTES - len(content))
        begin -= length
        content = os.pread(fd, length, begin) + content
    return content, begin


def _lines(content: bytes, *, whole: bool) -> list[str]:
    """Return lines with their ends; unless ``whole``, the first is a piece of one and goes."""
    if not whole:
        content = content[content.find(b"\n") + 1 :]
    return [f"{line}\n" for line in content.decode(errors="replace").removesuffix("\n").split("\n")] if content else []


def _count(fd: int, begin: int, end: bytes) -> int:
    """Return the number of lines of a file, of which the part from ``begin`` on was read already."""
    before = sum(os.pread(fd, min(MOST_BYTES, begin - at), at).count(b"\n") for at in range(0, begin, MOST_BYTES))
    return before + end.count(b"\n") + (end[-1:] not in (b"", b"\n"))
