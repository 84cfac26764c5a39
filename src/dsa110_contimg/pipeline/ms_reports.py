"""What a Measurement Set holds, for people who look at it: a process of its own that only reads.

``python -m dsa110_contimg.pipeline.ms_reports antennas --fd 5`` writes JSON on standard output; ``raster --fd 5 --xaxis
time --yaxis amp`` an ``.npz`` with the values of a picture. The Measurement Set is the directory behind the descriptor.
No lock is taken (a stage that writes it is not held up), nothing is written, memory and CPU time have limits, and
tables that refer to data elsewhere are refused.
"""

import argparse
import json
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from casacore.tables import table

from dsa110_contimg.pipeline.ms_antennas import antenna_report
from dsa110_contimg.pipeline.ms_raster import XAXES, YAXES, RasterRequest, raster

_MEMORY_BYTES = (
    1 << 30
)  # address space; all baselines of an observation take 480 MB of it, a picture of most values 850
_CPU_S = 20  # a picture of a whole observation takes 4
#: Managers of columns that keep their data in files of the table itself; others read other tables, or work values out.
_KEEPERS = {
    "StandardStMan", "IncrementalStMan", "TiledColumnStMan", "TiledShapeStMan", "TiledCellStMan", "TiledDataStMan",
    "StManAipsIO", "DyscoStMan",
}  # fmt: skip
_DESCRIPTOR = re.compile(r"/proc/self/fd/\d+")
_UNUSABLE = (ValueError, RuntimeError, IndexError, TypeError, AttributeError, KeyError, OSError, MemoryError)


@contextmanager
def opened_without_lock(path: str) -> Iterator[Any]:
    """Open a plain table for reading without a lock.

    Raises
    ------
    RuntimeError
        There is no complete table.
    ValueError
        It refers to data elsewhere, or has columns that are worked out, or was copied without its lock.
    """
    if any(Path(path).glob("table.f*")) and not (Path(path) / "table.lock").exists():
        raise ValueError("it has no table.lock, which tells how many rows it has; copy it again with all its files")
    rows = table(path, readonly=True, ack=False, lockoptions="usernoread")
    try:
        if list(rows.partnames()) != [rows.name()]:
            raise ValueError("it refers to data of other tables")
        strange = {manager["TYPE"] for manager in rows.getdminfo().values()} - _KEEPERS
        if strange:
            raise ValueError(f"it has columns that are not stored in it, but come from {', '.join(sorted(strange))}")
        yield rows
    finally:
        rows.close()


def limit() -> None:
    """Take what a reader needs and no more: no file can be written."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def answer_limited(work: Callable[[], None]) -> int:
    """Work under the limits; the exit code is 2 and standard error has the reason, in one line, when that cannot be."""
    limit()
    try:
        work()
    except _UNUSABLE as error:
        sys.stderr.write(" ".join(_reason(error).split()) + "\n")
        return 2
    return 0


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it needs too much memory"
    told = _DESCRIPTOR.sub("it", str(error)) or type(error).__name__
    is_of_kinds = isinstance(error, TypeError | AttributeError | KeyError)
    return f"its columns hold other kinds of values than they should: {told}" if is_of_kinds else told


def _answer(options: argparse.Namespace) -> None:
    base = f"/proc/self/fd/{options.fd}"
    with opened_without_lock(base) as rows, opened_without_lock(f"{base}/ANTENNA") as antennas:
        names = tuple(antennas.getcol("NAME"))
        if options.what == "antennas":
            json.dump(antenna_report(rows, names, antennas.getcol("POSITION")), sys.stdout)
            return
        with opened_without_lock(f"{base}/SPECTRAL_WINDOW") as windows:
            if options.spw >= windows.nrows():
                raise ValueError(f"there is no spectral window {options.spw}; they are 0 to {windows.nrows() - 1}")
            frequencies_hz = np.asarray(windows.getcell("CHAN_FREQ", options.spw))
        request = RasterRequest(options.xaxis, options.yaxis, options.antenna)
        drawn = raster(rows, names, frequencies_hz, request)
        np.savez(sys.stdout.buffer, values=drawn.values, across=drawn.across, down=drawn.down)


def main() -> int:
    """Answer; the exit code is 2 and standard error has the reason when there is no answer."""
    parser = argparse.ArgumentParser(prog="python -m dsa110_contimg.pipeline.ms_reports")
    parser.add_argument("what", choices=["antennas", "raster"])
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the directory")
    parser.add_argument("--xaxis", choices=XAXES, default="time")
    parser.add_argument("--yaxis", choices=YAXES, default="amp")
    parser.add_argument("--antenna", help="name; only its baselines")
    parser.add_argument("--spw", type=int, default=0, help="number of the spectral window")
    options = parser.parse_args()
    return answer_limited(lambda: _answer(options))


if __name__ == "__main__":
    sys.exit(main())
