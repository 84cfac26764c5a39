"""Rasters of visibilities: one value per pixel, the mean over the axes that are not shown.

====================  ====================  ========================
``xaxis``             down                  mean over
====================  ====================  ========================
time                  baseline              channels, polarisations
baseline              time                  channels, polarisations
frequency             time                  baselines, polarisations
====================  ====================  ========================

``amp`` is the mean of the amplitudes, ``phase`` (degrees), ``real`` and ``imag`` are those of the mean visibility.
Flagged samples and autocorrelations are left out; a pixel without data is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline.ms_antennas import SAMPLES_AT_ONCE, row_blocks

XAXES = ("time", "baseline", "frequency")
YAXES = ("amp", "phase", "real", "imag")
_MOST_VALUES = 1 << 23  # six hours of all baselines; adding them up takes half a gigabyte


@dataclass(frozen=True, slots=True)
class RasterRequest:
    """What to draw; ``antenna`` is the name of the one whose baselines are drawn, None: all."""

    xaxis: str
    yaxis: str
    antenna: str | None = None


@dataclass(frozen=True, slots=True)
class Raster:
    """The values of a picture.

    Attributes
    ----------
    values : ndarray of float32, shape (down, across)
        NaN where there is no data.
    across, down : ndarray, shape (2,)
        First and last value of each axis: seconds since the first integration, numbers of baselines, or MHz.
    """

    values: NDArray[np.float32]
    across: NDArray[np.float64]
    down: NDArray[np.float64]


def raster(
    rows: Any,
    names: Sequence[str],
    frequencies_hz: NDArray[np.float64],
    request: RasterRequest,
    *,
    samples_at_once: int = SAMPLES_AT_ONCE,
) -> Raster:
    """Return the picture's values; about so many samples are held at once.

    Raises
    ------
    ValueError
        There is no such antenna, or nothing to draw, or too much.
    """
    one, other = rows.getcol("ANTENNA1"), rows.getcol("ANTENNA2")
    chosen = one != other
    if request.antenna is not None:
        if request.antenna not in names:
            raise ValueError(f"there is no antenna {request.antenna!r}; their names are {names[0]!r} to {names[-1]!r}")
        number = list(names).index(request.antenna)
        chosen &= (one == number) | (other == number)
    if not chosen.any():
        raise ValueError("there is no baseline to draw")
    times_s, time_of = np.unique(rows.getcol("TIME"), return_inverse=True)
    pairs, inverse = np.unique(one[chosen].astype(np.int64) << 32 | other[chosen], return_inverse=True)
    baseline_of = np.full(len(one), -1)
    baseline_of[chosen] = inverse
    by_time = request.xaxis == "frequency"
    bins, channels = len(times_s) * (1 if by_time else len(pairs)), len(frequencies_hz) if by_time else 1
    if bins * channels > _MOST_VALUES:
        raise ValueError(f"{bins * channels} values are too many for a picture: at most {_MOST_VALUES} can be drawn")
    sums = _Sums(bins, channels)
    for first, length in row_blocks(rows, "DATA", samples_at_once):
        kept = chosen[first : first + length]
        if not kept.any():
            continue
        place = time_of[first : first + length][kept]
        if not by_time:
            place = baseline_of[first : first + length][kept] * len(times_s) + place
        sums.add(rows, (first, length), kept, place)
    values = sums.means(request.yaxis)
    ends = {"time": np.array([0.0, times_s[-1] - times_s[0]]), "baseline": np.array([0.0, len(pairs) - 1.0])}
    if by_time:
        return Raster(values, frequencies_hz[[0, -1]] / 1e6, ends["time"])
    grid = values.reshape(len(pairs), len(times_s))
    if request.xaxis == "time":
        return Raster(grid, ends["time"], ends["baseline"])
    return Raster(grid.T, ends["baseline"], ends["time"])


class _Sums:
    """Adds up samples in bins; (bins, channels or 1)."""

    def __init__(self, bins: int, channels: int) -> None:
        self._visibility = np.zeros((bins, channels), np.complex128)
        self._amplitude = np.zeros((bins, channels))
        self._count = np.zeros((bins, channels))

    def add(self, rows: Any, block: tuple[int, int], kept: NDArray[np.bool_], place: NDArray[np.int64]) -> None:
        """Add the unflagged samples of some rows, each row into the bin of its place."""
        column = "CORRECTED_DATA" if "CORRECTED_DATA" in rows.colnames() else "DATA"
        bad = rows.getcol("FLAG", *block)[kept] | rows.getcol("FLAG_ROW", *block)[kept][:, None, None]
        data = rows.getcol(column, *block)[kept]
        bad |= ~np.isfinite(data)
        data[bad] = 0
        order = np.argsort(place, kind="stable")
        bins, starts = np.unique(place[order], return_index=True)
        for sums, samples in ((self._visibility, data), (self._amplitude, np.abs(data)), (self._count, ~bad)):
            if sums.shape[1] == 1:
                of_rows = samples.sum(axis=(1, 2), dtype=sums.dtype)
                sums[bins, 0] += np.add.reduceat(of_rows[order], starts)
                continue
            flat = samples.reshape(len(place), -1)
            for one, its_rows in zip(bins, np.split(order, starts[1:]), strict=True):  # few, of many rows each
                of_all = flat[its_rows].sum(axis=0, dtype=sums.dtype)
                sums[one] += of_all.reshape(sums.shape[1], -1).sum(axis=1)

    def means(self, yaxis: str) -> NDArray[np.float32]:
        """Return the means; NaN where there is no sample."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = self._visibility / self._count
            amplitude = self._amplitude / self._count
        shown = {"amp": amplitude, "phase": np.degrees(np.angle(mean)), "real": mean.real, "imag": mean.imag}[yaxis]
        return np.where(self._count > 0, shown, np.nan).astype(np.float32)
