"""Calibration tables in the layout that CASA writes and applies: gains as CPARAM, one row per antenna and interval.

A bandpass ("B Jones") has one row per antenna with all channels; gains ("G Jones") have one row per integration and
antenna with one channel that stands for the band. ANTENNA, FIELD, OBSERVATION and SPECTRAL_WINDOW are carried over
from the Measurement Set. Columns and keywords follow CASA's NewCalTable (casacore Notes 229 for the conventions of the
Measurement Set that it borrows).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from casacore.tables import makearrcoldesc, makescacoldesc, maketabdesc, table
from numpy.typing import NDArray

from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.visibilities import Layout, opened, subtable_column

BANDPASS, GAIN = "B Jones", "G Jones"
#: Keyword of the model that the solutions rest on; CASA ignores it.
MODEL_KEYWORD = "DSA110_MODEL"
_COPIED = ("ANTENNA", "FIELD", "OBSERVATION", "SPECTRAL_WINDOW", "HISTORY")
_INTEGERS = ("FIELD_ID", "SPECTRAL_WINDOW_ID", "ANTENNA1", "ANTENNA2", "SCAN_NUMBER", "OBSERVATION_ID")


@dataclass(frozen=True)
class CalibrationTable:
    """Solutions as they stand in a table.

    Parameters
    ----------
    kind : str
        ``"B Jones"`` or ``"G Jones"``.
    values, flags, errors, snr : ndarray (n_antennas, n_problems, n_polarisations)
        complex64, bool (True = no solution), float32, float32; problems are channels (B) or integrations (G).
    times_mjd, intervals_s : ndarray
        Mid time and length of each integration; a single entry for a bandpass.
    frequencies_hz : ndarray (n_channels,)
        Channels of a bandpass; for gains the one that stands for the band.
    antenna_names : tuple of str
    model : str
        The sky that was solved against (`calibration_model.to_text`).
    """

    kind: str
    values: NDArray[np.complex64]
    flags: NDArray[np.bool_]
    errors: NDArray[np.float32]
    snr: NDArray[np.float32]
    times_mjd: NDArray[np.float64]
    intervals_s: NDArray[np.float64]
    frequencies_hz: NDArray[np.float64]
    antenna_names: tuple[str, ...]
    model: str

    def unflagged(self) -> NDArray[np.complex64]:
        """Return the solutions, NaN where they are flagged."""
        return np.where(self.flags, np.complex64(complex(np.nan, np.nan)), self.values)


def _description() -> Any:
    """Return the columns of a calibration table."""
    epoch = {"MEASINFO": {"type": "epoch", "Ref": "UTC"}, "QuantumUnits": ["s"]}
    columns = [makescacoldesc("TIME", 0.0, keywords=epoch)]
    columns += [makescacoldesc(name, 0) for name in _INTEGERS[:4]]
    columns += [makescacoldesc("INTERVAL", 0.0, keywords={"QuantumUnits": ["s"]})]
    columns += [makescacoldesc(name, 0) for name in _INTEGERS[4:]]
    columns += [makearrcoldesc("CPARAM", 0j, ndim=2, valuetype="complex")]
    columns += [makearrcoldesc(name, 0.0, ndim=2, valuetype="float") for name in ("PARAMERR", "SNR", "WEIGHT")]
    columns += [makearrcoldesc("FLAG", False, ndim=2)]
    return maketabdesc(columns)


def _rows(array: NDArray[Any], kind: str) -> NDArray[Any]:
    """Arrange (antenna, problem, polarisation) as cells (row, channel, polarisation)."""
    if kind == BANDPASS:
        return array
    return np.swapaxes(array, 0, 1).reshape(-1, 1, array.shape[2])


def _from_rows(cells: NDArray[Any], kind: str, n_antennas: int) -> NDArray[Any]:
    """Undo `_rows`."""
    if kind == BANDPASS:
        return cells
    return np.ascontiguousarray(np.swapaxes(cells.reshape(-1, n_antennas, cells.shape[2]), 0, 1))


def _narrow_to_one_channel(path: str, frequency_hz: float, bandwidth_hz: float) -> None:
    """Make the spectral window of a gain table the one channel that stands for the band."""
    with opened(f"{path}/SPECTRAL_WINDOW", readonly=False) as window:
        window.putcell("NUM_CHAN", 0, 1)
        window.putcell("CHAN_FREQ", 0, np.array([frequency_hz]))
        for name in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
            window.putcell(name, 0, np.array([bandwidth_hz]))


def write_table(path: str, solutions: CalibrationTable, layout: Layout, history: str) -> None:
    """Write a calibration table for a Measurement Set; ``path`` must not exist.

    Parameters
    ----------
    layout : Layout
        Of the Measurement Set that was solved; its subtables are copied.
    history : str
        How the solutions were made.
    """
    n_antennas, n_times = len(solutions.antenna_names), len(solutions.times_mjd)
    with table(path, _description(), nrow=n_antennas * n_times, ack=False) as rows:
        rows.putcol("TIME", np.repeat(solutions.times_mjd * 86400.0, n_antennas))
        rows.putcol("INTERVAL", np.repeat(solutions.intervals_s, n_antennas))
        for name in _INTEGERS:
            rows.putcol(name, np.zeros(n_antennas * n_times, np.int32))
        rows.putcol("ANTENNA1", np.tile(np.arange(n_antennas, dtype=np.int32), n_times))
        rows.putcol("ANTENNA2", np.full(n_antennas * n_times, -1, np.int32))
        kept = np.where(solutions.flags, np.complex64(1.0), solutions.values)
        certain = solutions.flags | ~(solutions.errors > 0)
        weights = np.where(certain, 0.0, 1.0 / np.where(certain, 1.0, solutions.errors) ** 2).astype(np.float32)
        cells = {"CPARAM": kept, "FLAG": solutions.flags, "SNR": solutions.snr, "WEIGHT": weights}
        cells["PARAMERR"] = np.where(solutions.flags, np.float32(0.0), solutions.errors)
        for name, values in cells.items():
            rows.putcol(name, np.ascontiguousarray(_rows(values, solutions.kind)))
        rows.putkeywords(
            {"ParType": "Complex", "MSName": Path(layout.path).name, "VisCal": solutions.kind, "PolBasis": "unknown"}
        )
        rows.putkeyword(MODEL_KEYWORD, solutions.model)
        rows.putinfo({"type": "Calibration", "subType": solutions.kind, "readme": history})
        for name in _COPIED:
            with opened(f"{layout.path}/{name}") as source:
                source.copy(f"{path}/{name}", deep=True).close()
            rows.putkeyword(name, f"Table: {path}/{name}")
    if solutions.kind == GAIN:
        width_hz = float(layout.frequencies_hz[-1] - layout.frequencies_hz[0])
        _narrow_to_one_channel(path, float(solutions.frequencies_hz[0]), width_hz)


def read_table(path: str) -> CalibrationTable:
    """Read a calibration table that this pipeline wrote.

    Raises
    ------
    BadInputError
        If there is none, it is half written, or it is of another kind.
    """
    with opened(path) as rows:
        missing = {"TIME", "INTERVAL", "ANTENNA1", "CPARAM", "PARAMERR", "SNR", "FLAG"} - set(rows.colnames())
        if missing:
            raise BadInputError(f"{path} has no column {', '.join(sorted(missing))}: solve the calibration again")
        keywords = rows.getkeywords()
        kind = keywords.get("VisCal")
        if kind not in (BANDPASS, GAIN):
            raise BadInputError(
                f"{path} holds {kind!r}, neither {BANDPASS!r} nor {GAIN!r}: give a table of this pipeline"
            )
        names = tuple(subtable_column(path, "ANTENNA", "NAME"))
        if rows.nrows() == 0 or rows.nrows() % len(names):
            raise BadInputError(
                f"{path} has {rows.nrows()} rows for {len(names)} antennas: solve the calibration again"
            )
        cells = {
            name: _from_rows(rows.getcol(name), kind, len(names)) for name in ("CPARAM", "FLAG", "PARAMERR", "SNR")
        }
        times_mjd = rows.getcol("TIME")[:: len(names)] / 86400.0
        intervals_s = rows.getcol("INTERVAL")[:: len(names)]
    return CalibrationTable(
        kind=kind,
        values=cells["CPARAM"],
        flags=cells["FLAG"],
        errors=cells["PARAMERR"],
        snr=cells["SNR"],
        times_mjd=times_mjd,
        intervals_s=intervals_s,
        frequencies_hz=subtable_column(path, "SPECTRAL_WINDOW", "CHAN_FREQ")[0],
        antenna_names=names,
        model=str(keywords.get(MODEL_KEYWORD, "[]")),
    )
