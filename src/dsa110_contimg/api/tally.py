"""Counters that all API processes of a machine add to, and that go on where they stood when a process starts again.

Each process writes the memory-mapped files of one slot, in the format of ``prometheus_client``; whoever is asked adds
up the files of all slots. A slot belongs to the process that holds its lock, which the kernel takes back even from a
process that was killed. The next process takes the lowest free slot and counts on from its numbers, so that there are
never more files than there were processes at one moment, and no number ever falls.
"""

import fcntl
import logging
import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

log = logging.getLogger(__name__)

KINDS = ("counter", "histogram", "summary")
_FILE_BYTES = 1 << 20  # set aside at once: a page that is missing when the disk is full would kill the process
_MOST_SLOTS = 256
_WRITE = struct.Struct("d").pack_into  # the first of two: the other is a time, which counters have not
_DAMAGE = (RuntimeError, ValueError, struct.error)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: ``counter``, ``histogram`` or ``summary``, its name and its meaning."""

    kind: str
    name: str
    meaning: str


class _Numbers(MmapedDict):
    """A file of numbers of which each is written at its place; the library looks for its key each time."""

    def place_of(self, key: str) -> int:
        self.read_value(key)  # type: ignore[no-untyped-call]  # makes it where it is not there yet
        return int(self._positions[key])

    def write_at(self, place: int, value: float) -> None:
        _WRITE(self._m, place, value)


class Cell:
    """One number of one metric. Only the thread that made it may add to it."""

    __slots__ = ("_file", "_place", "value")

    def __init__(self, file: _Numbers | None, key: str) -> None:
        self._file = file
        self._place = file.place_of(key) if file else 0
        self.value: float = file.read_value(key)[0] if file else 0.0  # type: ignore[no-untyped-call]

    def add(self, amount: float = 1.0) -> None:
        """Count."""
        self.value += amount
        if self._file is not None:
            self._file.write_at(self._place, self.value)

    def detach(self) -> None:
        """Count in memory only from now on."""
        self._file = None


class Tally:
    """The counters of one process beside those of the others.

    Parameters
    ----------
    directory : Path
        Where the files of all slots lie.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, _Numbers] = {}
        self._cells: dict[tuple[str, str], Cell] = {}
        self._held = ExitStack()

    def open(self) -> None:
        """Take a slot; without one (no directory, no space) this process counts for itself and nobody is told."""
        with ExitStack() as held:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                slot = self._take_slot(held)
                self._files = {kind: self._open_file(f"{kind}_{slot}.db", held) for kind in KINDS}
            except OSError as error:
                log.warning("requests are counted in vain: %s cannot be written: %s", self.directory, error)
                return
            self._held = held.pop_all()

    def _take_slot(self, held: ExitStack) -> int:
        for slot in range(_MOST_SLOTS):
            lock = held.enter_context((self.directory / f"{slot}.lock").open("ab"))
            if _locked(lock):
                return slot
        raise OSError(f"all {_MOST_SLOTS} slots are taken")

    def _open_file(self, name: str, held: ExitStack) -> _Numbers:
        path = self.directory / name
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
        try:
            opened = _Numbers(str(path))  # type: ignore[no-untyped-call]
        except _DAMAGE as damage:
            log.warning("%s is damaged (%s); counting begins anew", path, damage)
            path.unlink()
            return self._open_file(name, held)
        held.callback(opened.close)
        return opened

    def close(self) -> None:
        """Give the slot back; the numbers stay for the next one, and what is counted from now on is not kept."""
        for cell in self._cells.values():
            cell.detach()
        self._files, self._cells = {}, {}
        self._held.close()

    def cell(self, family: Family, labels: Mapping[str, str], suffix: str = "") -> Cell:
        """Return the number of a metric under these labels; ``suffix`` is that of its name, such as ``_sum``."""
        name = family.name + suffix
        key = mmap_key(family.name, name, list(labels), list(labels.values()), family.meaning)
        found = self._cells.get((family.kind, key))
        if found is None:
            found = self._cells[family.kind, key] = Cell(self._files.get(family.kind), key)
        return found

    def histogram(self, family: Family, labels: Mapping[str, str], bounds: Iterable[str]) -> tuple[list[Cell], Cell]:
        """Return the cells of a histogram: one for each upper bound, and that of the sum."""
        buckets = [self.cell(family, {**labels, "le": bound}, "_bucket") for bound in bounds]
        return buckets, self.cell(family, labels, "_sum")

    def families(self) -> list[Metric]:
        """Return the sums over all slots; this reads files, so call it from a thread.

        A file that cannot be read is left out and named in the log.
        """
        files = sorted(map(str, self.directory.glob("*.db")))
        try:
            return list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]
        except (*_DAMAGE, OSError):
            return list(MultiProcessCollector.merge(list(filter(_readable, files))))  # type: ignore[no-untyped-call]


def _readable(file: str) -> bool:
    try:
        MultiProcessCollector.merge([file])  # type: ignore[no-untyped-call]
    except (*_DAMAGE, OSError) as error:
        log.warning("%s is not counted: %s", file, error)
        return False
    return True


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
