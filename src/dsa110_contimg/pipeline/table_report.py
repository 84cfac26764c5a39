"""What a calibration table is worth: a process of its own that only reads.

``python -m dsa110_contimg.pipeline.table_report --fd 5 [--ms-fd 6]`` writes JSON on standard output. The table is the
directory behind the descriptor, the Measurement Set that it was solved from the one behind ``--ms-fd``.

Solutions are flagged for three reasons that must not be mixed up:

* an *absent* antenna has no rows in the Measurement Set (21 of the 117 stations carry no receiver: 17.9 % of a table
  before any fault). Without the Measurement Set, an antenna without a solution counts as absent when the list of
  stations says that it has no receiver;
* a *dead* antenna is there, but has not one solution;
* the others are *flagged* in part; ``flag_fraction`` is the flagged part of the solutions of antennas that are there.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline import array
from dsa110_contimg.pipeline.confinement import answer_confined
from dsa110_contimg.pipeline.ms_antennas import row_blocks
from dsa110_contimg.pipeline.ms_reports import UNUSABLE, opened_without_lock, words_of


class TableSums:
    """Sums over the solutions of a table, by antenna.

    Attributes
    ----------
    solutions, flagged : ndarray (n_antennas,)
        How many there are, and how many of them are flagged.
    """

    def __init__(self, n_antennas: int) -> None:
        self.solutions = np.zeros(n_antennas)
        self.flagged = np.zeros(n_antennas)
        self._snr: list[NDArray[Any]] = []
        self._amplitude: list[NDArray[Any]] = []

    def add(self, rows: Any, first: int, length: int) -> None:
        """Add some rows."""
        antennas = rows.getcol("ANTENNA1", first, length)
        if antennas.min() < 0 or antennas.max() >= len(self.solutions):
            raise ValueError("its rows name antennas that its ANTENNA table does not have")
        flags = rows.getcol("FLAG", first, length)
        values = rows.getcol("CPARAM", first, length)
        cells = flags[0].size
        self.solutions += np.bincount(antennas, np.full(length, float(cells)), len(self.solutions))
        self.flagged += np.bincount(antennas, flags.reshape(length, -1).sum(axis=1), len(self.solutions))
        good = ~flags & np.isfinite(values)
        self._amplitude.append(np.abs(values[good]))
        self._snr.append(rows.getcol("SNR", first, length)[good])

    def numbers(self) -> dict[str, float | None]:
        """Return mean signal-to-noise ratio, mean and scatter of the amplitudes of unflagged solutions."""
        snr, amplitude = (np.concatenate(parts or [np.zeros(0)]) for parts in (self._snr, self._amplitude))
        snr = snr[np.isfinite(snr)]
        return {
            "avg_snr": float(snr.mean()) if snr.size else None,
            "amp_mean": float(amplitude.mean()) if amplitude.size else None,
            "amp_std": float(amplitude.std()) if amplitude.size else None,
        }


def report(rows: Any, names: Sequence[str], present: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Return what a table is worth.

    Parameters
    ----------
    rows : table
        Main table.
    names : sequence of str
        Of its antennas.
    present : ndarray of bool, optional
        Which have rows in the Measurement Set.

    Raises
    ------
    ValueError
        It is no table of complex gains.
    """
    missing = {"ANTENNA1", "CPARAM", "FLAG", "SNR"} - set(rows.colnames())
    if missing:
        raise ValueError(f"it has no column {', '.join(sorted(missing))}: it is no table of complex gains")
    sums = TableSums(len(names))
    for first, length in row_blocks(rows, "CPARAM"):
        sums.add(rows, first, length)
    unsolved = sums.flagged >= sums.solutions
    absent = unsolved & (_without_receiver(names) if present is None else ~present)
    dead = unsolved & ~absent
    there = ~absent
    share = sums.flagged[there].sum() / max(1.0, sums.solutions[there].sum())
    listed = np.array(names)
    return {
        "kind": str(rows.getkeywords().get("VisCal", "")),
        "n_antennas": len(names),
        "absent": listed[absent].tolist(),
        "dead": listed[dead].tolist(),
        "flag_fraction": float(share) if sums.solutions[there].any() else None,
        "flag_fraction_table": float(sums.flagged.sum() / max(1.0, sums.solutions.sum())),
        "n_solutions": int(sums.solutions.sum()),
        **sums.numbers(),
    }


def _without_receiver(names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which antennas are stations that are known to have no receiver."""
    stations = array.stations().names
    empty = {stations[number - 1] for number in range(1, array.STATION_COUNT + 1)} - {
        stations[number - 1] for number in array.ACTIVE_STATIONS
    }
    return np.array([name in empty for name in names], dtype=np.bool_)


def antennas_with_rows(rows: Any, n_antennas: int) -> NDArray[np.bool_]:
    """Tell which antennas have rows in a Measurement Set."""
    present = np.zeros(n_antennas, np.bool_)
    for name in ("ANTENNA1", "ANTENNA2"):
        column = rows.getcol(name)
        if column.size and (column.min() < 0 or column.max() >= n_antennas):
            raise ValueError("the Measurement Set has antennas that the table does not have")
        present[column] = True
    return present


def main() -> int:
    """Answer; the exit code is 2 and standard error has the reason when there is no answer."""
    parser = argparse.ArgumentParser(prog="python -m dsa110_contimg.pipeline.table_report")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the table's directory")
    parser.add_argument("--ms-fd", type=int, help="descriptor of the Measurement Set's directory")
    options = parser.parse_args()
    return answer_confined(lambda: _answer(options), UNUSABLE, words_of)


def _answer(options: argparse.Namespace) -> bytes:
    base = f"/proc/self/fd/{options.fd}"
    with opened_without_lock(base) as rows, opened_without_lock(f"{base}/ANTENNA") as antennas:
        names = tuple(antennas.getcol("NAME"))
        present = None
        if options.ms_fd is not None:
            with opened_without_lock(f"/proc/self/fd/{options.ms_fd}") as visibilities:
                present = antennas_with_rows(visibilities, len(names))
        return json.dumps(report(rows, names, present)).encode()


if __name__ == "__main__":
    sys.exit(main())
