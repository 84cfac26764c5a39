"""What a Measurement Set holds, for people who look at it: a process of its own that only reads.

``python -m dsa110_contimg.pipeline.ms_reports antennas --fd 5`` writes JSON on standard output; ``raster --fd 5 --xaxis
time --yaxis amp`` an ``.npz`` with the values of a picture. The Measurement Set is the directory behind the descriptor.
No lock is taken (a stage that writes it is not held up), nothing is written, memory and CPU time have limits, and
tables that refer to data elsewhere are refused.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from casacore.tables import table

from dsa110_contimg.pipeline.confinement import answer_confined
from dsa110_contimg.pipeline.ms_antennas import antenna_report
from dsa110_contimg.pipeline.ms_raster import XAXES, YAXES, RasterRequest, raster

#: Managers of columns that keep their data in files of the table itself; others read other tables, or work values out.
_KEEPERS = {
    "StandardStMan", "IncrementalStMan", "TiledColumnStMan", "TiledShapeStMan", "TiledCellStMan", "TiledDataStMan",
    "StManAipsIO", "DyscoStMan",
}  # fmt: skip
_DESCRIPTOR = re.compile(r"/proc/self/fd/\d+")
UNUSABLE = (ValueError, RuntimeError, IndexError, TypeError, AttributeError, KeyError, OSError, MemoryError)


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


def words_of(error: Exception) -> str:
    """Say what is wrong with a table; the library says it of the descriptor."""
    told = _DESCRIPTOR.sub("it", str(error)) or type(error).__name__
    is_of_kinds = isinstance(error, TypeError | AttributeError | KeyError)
    return f"its columns hold other kinds of values than they should: {told}" if is_of_kinds else told


def _answer(options: argparse.Namespace) -> bytes:
    base = f"/proc/self/fd/{options.fd}"
    with opened_without_lock(base) as rows, opened_without_lock(f"{base}/ANTENNA") as antennas:
        names = tuple(antennas.getcol("NAME"))
        if options.what == "antennas":
            return json.dumps(antenna_report(rows, names, antennas.getcol("POSITION"))).encode()
        with opened_without_lock(f"{base}/SPECTRAL_WINDOW") as windows:
            n_windows = windows.nrows()
            if options.spw >= n_windows:
                raise ValueError(f"there is no spectral window {options.spw}; they are 0 to {n_windows - 1}")
            frequencies_hz = np.asarray(windows.getcell("CHAN_FREQ", options.spw))
        seen = rows if n_windows == 1 else _of_window(rows, base, options.spw)
        request = RasterRequest(options.xaxis, options.yaxis, options.antenna)
        drawn = raster(seen, names, frequencies_hz, request)
        stream = BytesIO()
        np.savez(stream, values=drawn.values, across=drawn.across, down=drawn.down)
        return stream.getvalue()


def _of_window(rows: Any, base: str, window: int) -> Any:
    with opened_without_lock(f"{base}/DATA_DESCRIPTION") as kinds:
        of_window = np.flatnonzero(kinds.getcol("SPECTRAL_WINDOW_ID") == window)
    return rows.selectrows(np.flatnonzero(np.isin(rows.getcol("DATA_DESC_ID"), of_window)))


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
    return answer_confined(lambda: _answer(options), UNUSABLE, words_of)


if __name__ == "__main__":
    sys.exit(main())
