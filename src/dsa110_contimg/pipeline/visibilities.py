"""Reading and writing the visibilities of a Measurement Set, a few integrations at a time.

The Measurement Sets of this pipeline have one spectral window, one field, and rows in time-major order: for each
integration all baselines, always in the same order. `read_layout` checks that, so that everything after it may index
rows by (integration, baseline).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from casacore.tables import table, tableexists
from numpy.typing import NDArray

from dsa110_contimg.pipeline.errors import BadInputError

Complex = NDArray[np.complex64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int32]

#: Bytes of visibilities, flags and weights that are held at once; reading needs about as much again.
CHUNK_BYTES = 200_000_000
_BYTES_PER_SAMPLE = 8 + 1 + 4
_COLUMNS = ("TIME", "ANTENNA1", "ANTENNA2", "UVW", "DATA", "FLAG", "WEIGHT_SPECTRUM")


@dataclass(frozen=True)
class Visibilities:
    """A run of integrations as the kernels take it.

    Parameters
    ----------
    data, flags, weights : ndarray (n_times, n_baselines, n_channels, n_polarisations)
        complex64, bool (True = bad), float32 (proportional to 1 / variance).
    uvw_m : ndarray (n_times, n_baselines, 3) of float64
    antenna1, antenna2 : ndarray (n_baselines,) of int32
    frequencies_hz : ndarray (n_channels,) of float64
    """

    data: Complex
    flags: Bools
    weights: Floats
    uvw_m: NDArray[np.float64]
    antenna1: Indices
    antenna2: Indices
    frequencies_hz: NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """What a Measurement Set holds, without its visibilities.

    Parameters
    ----------
    antenna1, antenna2 : ndarray (n_baselines,) of int32
        Antennas of each baseline, autocorrelations included, in row order.
    times_mjd : ndarray (n_times,)
        Mid times of the integrations.
    interval_s : float
        Length of an integration.
    frequencies_hz : ndarray (n_channels,)
        Ascending; a missing subband is a gap.
    centre_ra_rad, centre_dec_rad : float
        Phase centre, ICRS.
    """

    path: str
    antenna_names: tuple[str, ...]
    antenna1: NDArray[np.int32]
    antenna2: NDArray[np.int32]
    times_mjd: NDArray[np.float64]
    interval_s: float
    frequencies_hz: NDArray[np.float64]
    n_polarisations: int
    centre_ra_rad: float
    centre_dec_rad: float

    @property
    def n_antennas(self) -> int:
        """Number of antennas in the ANTENNA table, present or not."""
        return len(self.antenna_names)

    @property
    def n_baselines(self) -> int:
        """Number of baselines, autocorrelations included."""
        return len(self.antenna1)

    @property
    def n_times(self) -> int:
        """Number of integrations."""
        return len(self.times_mjd)

    @property
    def crosses(self) -> NDArray[np.bool_]:
        """Which baselines are of two antennas."""
        differ: NDArray[np.bool_] = self.antenna1 != self.antenna2
        return differ

    @property
    def mid_frequency_hz(self) -> float:
        """Middle of the band."""
        return float((self.frequencies_hz[0] + self.frequencies_hz[-1]) / 2)

    def present(self) -> NDArray[np.bool_]:
        """Which antennas have rows at all."""
        found = np.zeros(self.n_antennas, np.bool_)
        found[self.antenna1] = found[self.antenna2] = True
        return found


@contextmanager
def opened(path: str, *, readonly: bool = True) -> Iterator[Any]:
    """Open a casacore table; what casacore cannot open becomes a `BadInputError` with the table's name."""
    if not Path(path).exists():
        raise BadInputError(f"{path} does not exist: run the stage that makes it first")
    if not tableexists(path):
        raise BadInputError(f"{path} is not a complete table: remove it and make it again")
    try:
        opened_table = table(path, readonly=readonly, ack=False)
    except RuntimeError as error:
        raise BadInputError(f"{path} cannot be opened ({error}): remove it and make it again") from error
    try:
        yield opened_table
    finally:
        opened_table.close()


def subtable_column(path: str, subtable: str, column: str) -> Any:
    """Return a column of a subtable."""
    with opened(f"{path}/{subtable}") as rows:
        if column not in rows.colnames():
            raise BadInputError(f"{path}/{subtable} has no column {column}: convert the observation again")
        return rows.getcol(column)


def _integrations(path: str, times: NDArray[np.float64]) -> int:
    """Return the number of integrations of time-major rows."""
    if len(times) == 0:
        raise BadInputError(f"{path} has no rows: convert the observation again")
    n_times = len(np.unique(times))
    blocks = times.reshape(n_times, -1) if len(times) % n_times == 0 else None
    if blocks is None or np.any(blocks != blocks[:, :1]) or np.any(np.diff(blocks[:, 0]) <= 0):
        raise BadInputError(
            f"{path}: its {len(times)} rows are not {n_times} whole integrations in time order: convert it again"
        )
    return n_times


def read_layout(path: str) -> Layout:
    """Read and check the layout of a Measurement Set.

    Raises
    ------
    BadInputError
        If it does not exist, is half written, lacks a column, or is not in the order that this pipeline writes.
    """
    with opened(path) as rows:
        missing = [name for name in _COLUMNS if name not in rows.colnames()]
        if missing:
            raise BadInputError(f"{path} has no column {', '.join(missing)}: convert the observation again")
        times = rows.getcol("TIME")
        n_times = _integrations(path, times)
        antennas = [rows.getcol(name).reshape(n_times, -1) for name in ("ANTENNA1", "ANTENNA2")]
        if any(np.any(column != column[:1]) for column in antennas):
            raise BadInputError(f"{path}: the order of its baselines changes with time: convert the observation again")
        interval_s = float(rows.getcell("INTERVAL", 0))
        n_channels, n_polarisations = rows.getcell("DATA", 0).shape
    frequencies_hz = subtable_column(path, "SPECTRAL_WINDOW", "CHAN_FREQ")
    if frequencies_hz.shape != (1, n_channels):
        raise BadInputError(f"{path} has spectral windows of shape {frequencies_hz.shape}, DATA {n_channels} channels")
    directions = subtable_column(path, "FIELD", "PHASE_DIR").reshape(-1, 2)
    if len(directions) != 1:
        raise BadInputError(f"{path} has {len(directions)} fields, one is expected: convert the observation again")
    return Layout(
        path=path,
        antenna_names=tuple(subtable_column(path, "ANTENNA", "NAME")),
        antenna1=antennas[0][0].astype(np.int32),
        antenna2=antennas[1][0].astype(np.int32),
        times_mjd=times.reshape(n_times, -1)[:, 0] / 86400.0,
        interval_s=interval_s,
        frequencies_hz=frequencies_hz[0],
        n_polarisations=n_polarisations,
        centre_ra_rad=float(directions[0, 0]),
        centre_dec_rad=float(directions[0, 1]),
    )


def time_chunks(layout: Layout, chunk_bytes: int = CHUNK_BYTES) -> list[range]:
    """Divide the integrations into runs whose visibilities fit into ``chunk_bytes``, one integration at least."""
    size = layout.n_baselines * len(layout.frequencies_hz) * layout.n_polarisations * _BYTES_PER_SAMPLE
    step = max(1, chunk_bytes // size)
    return [range(first, min(first + step, layout.n_times)) for first in range(0, layout.n_times, step)]


def read_column(rows: Any, layout: Layout, name: str, times: range) -> Any:
    """Read a column of some integrations, shaped (n_times, n_baselines, ...)."""
    try:
        values = rows.getcol(name, times.start * layout.n_baselines, len(times) * layout.n_baselines)
    except RuntimeError as error:
        raise BadInputError(f"{layout.path}: {name} cannot be read ({error}): convert the observation again") from error
    return values.reshape(len(times), layout.n_baselines, *values.shape[1:])


def write_column(rows: Any, layout: Layout, name: str, times: range, values: Any) -> None:
    """Write a column of some integrations, shaped (n_times, n_baselines, ...)."""
    flat = values.reshape(-1, *values.shape[2:])
    rows.putcol(name, flat, times.start * layout.n_baselines, len(flat))


def read_visibilities(rows: Any, layout: Layout, times: range) -> Visibilities:
    """Read some integrations as the kernels take them."""
    return Visibilities(
        data=read_column(rows, layout, "DATA", times),
        flags=read_column(rows, layout, "FLAG", times),
        weights=read_column(rows, layout, "WEIGHT_SPECTRUM", times),
        uvw_m=read_column(rows, layout, "UVW", times),
        antenna1=layout.antenna1,
        antenna2=layout.antenna2,
        frequencies_hz=layout.frequencies_hz,
    )
