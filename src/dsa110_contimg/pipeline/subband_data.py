"""Baselines and visibilities of a raw subband file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.subband_header import COPY_AGAIN, DATA_ITEMS, Header, open_hdf5


@dataclass(frozen=True, slots=True)
class Rows:
    """The baselines of a file, in the order of its rows within one integration.

    Attributes
    ----------
    antenna1, antenna2 : ndarray, int64, shape (baseline,)
        Antenna numbers as in the file.
    antenna_numbers : ndarray, int64, shape (station,)
    antenna_positions_m : ndarray, float64, shape (station, 3)
        Geocentric, relative to the file's idea of the centre of the array.
    length_m : ndarray, float64, shape (baseline,)
        Length of each baseline as the correlator took it.
    """

    antenna1: npt.NDArray[np.int64]
    antenna2: npt.NDArray[np.int64]
    antenna_numbers: npt.NDArray[np.int64]
    antenna_positions_m: npt.NDArray[np.float64]
    length_m: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Visibilities:
    """Some rows of a file, each array of shape (row, channel descending, polarisation)."""

    visibilities: npt.NDArray[np.complex64]
    flags: npt.NDArray[np.bool_]
    samples: npt.NDArray[np.float32]


def read_rows(header: Header) -> Rows:
    """Read the baselines of a file and check that all integrations have the same, in the same order.

    Raises
    ------
    BadInputError
        Times and baselines of the rows are not a regular grid with time slowest.
    """
    grid = len(header.jd_utc), header.n_baselines
    with open_hdf5(Path(header.path)) as file:
        group = file["Header"]
        times = group["time_array"][()].reshape(grid)
        antennas = [group[name][()].astype(np.int64).reshape(grid) for name in ("ant_1_array", "ant_2_array")]
        numbers = group["antenna_numbers"][()].astype(np.int64)
        positions_m = group["antenna_positions"][()].astype(np.float64)
        uvw_m = group["uvw_array"][: header.n_baselines].astype(np.float64)
    regular = np.all(times == times[:, :1]) and all(np.all(a == a[:1]) for a in antennas)
    one, two = antennas[0][0], antennas[1][0]
    pairs = {(min(p), max(p)) for p in zip(one.tolist(), two.tolist(), strict=True)}
    if not regular or len(pairs) != one.size:
        raise BadInputError(f"{header.path}: its rows are not the same baselines at each time in turn; {COPY_AGAIN}")
    if not np.isin(antennas, numbers).all() or positions_m.shape != (numbers.size, 3):
        raise BadInputError(f"{header.path}: its baselines name antennas that have no position; {COPY_AGAIN}")
    return Rows(one, two, numbers, positions_m, np.linalg.norm(uvw_m, axis=1))


def read_visibilities(header: Header, first_row: int, last_row: int) -> Visibilities:
    """Read the rows from ``first_row`` up to, not including, ``last_row``."""
    with open_hdf5(Path(header.path)) as file:
        data = file["Data"]
        parts = [data[name][first_row:last_row] for name in DATA_ITEMS]
    shape = parts[0].shape[0], parts[0].shape[-2], parts[0].shape[-1]
    visibilities, flags, samples = (part.reshape(shape) for part in parts)
    return Visibilities(
        visibilities.astype(np.complex64, copy=False),
        flags.astype(np.bool_, copy=False),
        samples.astype(np.float32, copy=False),
    )
