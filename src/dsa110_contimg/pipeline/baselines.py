"""The baselines that all subband files of one observation share, on the stations of the array."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dsa110_contimg.pipeline import array
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.subband_data import Rows, read_rows
from dsa110_contimg.pipeline.subband_header import TIME_TOLERANCE_S, Header

_SURVEY_TOLERANCE_M = 0.05
_FOREIGN_M = 5.0
_UVW_TOLERANCE_M = 1.0


@dataclass(frozen=True, slots=True)
class Baselines:
    """The rows of one integration, as stored and as they will be.

    ``turned`` marks those stored with the higher antenna first.
    """

    antenna_names: tuple[str, ...]
    positions_m: npt.NDArray[np.float64]
    antenna1: npt.NDArray[np.int32]
    antenna2: npt.NDArray[np.int32]
    turned: npt.NDArray[np.bool_]


def check_together(headers: list[Header]) -> None:
    """Check that the files are different subbands of the same observation."""
    first = headers[0]
    for one, other in pairwise(headers):
        if one.subband == other.subband:
            raise BadInputError(f"{one.path} and {other.path} both hold subband {one.subband:02d}; leave one out")
    for other in headers[1:]:
        for what, mine, theirs, tolerance in (
            ("number of integrations", len(other.jd_utc), len(first.jd_utc), 0.0),
            ("number of baselines", other.n_baselines, first.n_baselines, 0.0),
            ("declination (rad)", other.dec_rad, first.dec_rad, 1e-6),
            ("integration time (s)", other.integration_s, first.integration_s, 1e-3),
        ):
            if abs(mine - theirs) > tolerance:
                raise BadInputError(f"{other.path}: {what} is {mine}, in {first.path} {theirs}; leave one of them out")
        late_s = np.abs(np.subtract(other.jd_utc, first.jd_utc)).max() * 86400.0
        if late_s > TIME_TOLERANCE_S:
            raise BadInputError(
                f"{other.path}: its times are {late_s:.3f} s off those of {first.path}; leave one of them out"
            )


def shared_baselines(headers: list[Header]) -> tuple[Baselines, list[str]]:
    """Return the baselines, which all files and integrations must share, and what was noticed about the stations."""
    first = read_rows(headers[0])
    for header in headers[1:]:
        rows = read_rows(header)
        if not (np.array_equal(rows.antenna1, first.antenna1) and np.array_equal(rows.antenna2, first.antenna2)):
            raise BadInputError(
                f"{header.path}: its baselines are not those of {headers[0].path}; leave one of them out"
            )
    index, worst_m = _stations(headers[0], first)
    notes = []
    if worst_m > _SURVEY_TOLERANCE_M:
        notes.append(f"antenna positions in the files are up to {worst_m:.2f} m off the station list, which was used")
    length_m = np.linalg.norm(_positions_m(index, first.antenna2) - _positions_m(index, first.antenna1), axis=1)
    off_m = float(np.abs(first.length_m - length_m).max())
    if not off_m < _UVW_TOLERANCE_M:
        notes.append(f"baselines in the files are up to {off_m:.1f} m longer or shorter than between their stations")
    present = np.unique(np.concatenate([first.antenna1, first.antenna2]))
    order = np.searchsorted(present, np.stack([first.antenna1, first.antenna2]))
    stations = array.stations()
    chosen = [index[int(number)] for number in present]
    return (
        Baselines(
            antenna_names=tuple(stations.names[k] for k in chosen),
            positions_m=stations.positions_m[chosen],
            antenna1=order.min(axis=0).astype(np.int32),
            antenna2=order.max(axis=0).astype(np.int32),
            turned=order[0] > order[1],
        ),
        notes,
    )


def _positions_m(index: dict[int, int], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    positions_m: npt.NDArray[np.float64] = array.stations().positions_m[[index[int(n)] for n in numbers]]
    return positions_m


def _stations(header: Header, rows: Rows) -> tuple[dict[int, int], float]:
    """Return the index in the station list of each antenna number, and the largest disagreement in position (m).

    Files count stations from 0 or from 1; whichever puts the antennas on the stations' places holds. A common offset
    does not matter: it is only another choice of the array's centre.
    """
    present = np.isin(rows.antenna_numbers, np.concatenate([rows.antenna1, rows.antenna2]))
    numbers, given_m = rows.antenna_numbers[present], rows.antenna_positions_m[present]
    best: tuple[float, int] = (np.inf, 0)
    for base in (0, 1):
        index = numbers - base
        if index.min() >= 0 and index.max() < array.STATION_COUNT:
            difference_m = given_m - (array.stations().positions_m[index] - array.centre_m())
            off_m = np.linalg.norm(difference_m - np.median(difference_m, axis=0), axis=1)
            best = min(best, (float(off_m.max()), base))
    if best[0] > _FOREIGN_M:
        raise BadInputError(
            f"{header.path}: its antennas are not at the stations of this array ({best[0]:.1f} m off); leave it out"
        )
    return {int(number): int(number) - best[1] for number in numbers}, best[0]
