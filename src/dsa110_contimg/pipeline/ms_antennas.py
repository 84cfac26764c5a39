"""The antennas of a Measurement Set: where they stand, how much of their data is flagged, and which are not there.

An antenna without a single row is *absent* (21 of the 117 stations carry no receiver); one whose data are all flagged
is *dead* (flagging flags dead antennas whole); one with more than a third of its data flagged, by the limit of
`quality`, is *flagged*.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline import array
from dsa110_contimg.pipeline.quality import Thresholds

SAMPLES_AT_ONCE = 1 << 23  # 67 MB of visibilities

Floats = NDArray[np.float64]


def row_blocks(rows: Any, column: str, most_samples: int = SAMPLES_AT_ONCE) -> Iterator[tuple[int, int]]:
    """Give (first row, number of rows) of blocks whose cells of a column hold about so many samples together."""
    n_rows = rows.nrows()
    if n_rows == 0:
        return
    size = max(1, int(np.prod(rows.getcell(column, 0).shape)))
    step = max(1, most_samples // size)
    for first in range(0, n_rows, step):
        yield first, min(step, n_rows - first)


def antenna_report(rows: Any, names: Sequence[str], positions_m: Floats) -> dict[str, Any]:
    """Return the antennas with their flagged percentage over cross baselines.

    Parameters
    ----------
    rows : table
        Main table.
    names, positions_m
        Of the ANTENNA table; geocentric (ITRF), m, shape (antenna, 3).

    Returns
    -------
    dict
        ``antennas`` (``id, name, x_m`` east and ``y_m`` north of the centre of the array, ``flagged_pct`` 0 to 100,
        ``baseline_count``, ``status``), ``array_center_lon`` and ``array_center_lat`` in degrees,
        ``total_baselines``, and the numbers of antennas by status.

    Raises
    ------
    ValueError
        An antenna number is not in the ANTENNA table.
    """
    count = len(names)
    flagged, samples, pairs = _flagged(rows, count)
    baselines = np.zeros(count, np.int64)
    np.add.at(baselines, np.array(sorted(pairs), dtype=np.int64).reshape(-1), 1)
    share = np.divide(flagged, samples, out=np.ones(count), where=samples > 0)
    states = [_status(bool(samples[one]), float(share[one])) for one in range(count)]
    east_m, north_m = local_m(positions_m)
    return {
        "antennas": [
            {
                "id": one, "name": names[one], "x_m": round(float(east_m[one]), 3),
                "y_m": round(float(north_m[one]), 3), "flagged_pct": round(100 * float(share[one]), 3),
                "baseline_count": int(baselines[one]), "status": states[one],
            }
            for one in range(count)
        ],
        "array_center_lon": round(float(np.degrees(array.CENTRE_LONGITUDE_RAD)), 7),
        "array_center_lat": round(float(np.degrees(array.CENTRE_LATITUDE_RAD)), 7),
        "total_baselines": len(pairs),
        "counts": {name: states.count(name) for name in ("good", "flagged", "dead", "absent")},
    }  # fmt: skip


def _status(present: bool, flagged: float) -> str:
    if not present:
        return "absent"
    if flagged >= 1:
        return "dead"
    return "good" if Thresholds().flagged_fraction_live.grade(flagged) == "good" else "flagged"


def _flagged(rows: Any, count: int) -> tuple[Floats, Floats, set[tuple[int, int]]]:
    """Return flagged samples and samples of each antenna over its cross baselines, and the cross baselines."""
    flagged, samples = np.zeros(count), np.zeros(count)
    pairs: set[tuple[int, int]] = set()
    for first, length in row_blocks(rows, "FLAG"):
        one, other = (rows.getcol(name, first, length) for name in ("ANTENNA1", "ANTENNA2"))
        if min(one.min(), other.min()) < 0 or max(one.max(), other.max()) >= count:
            raise ValueError("its rows name antennas that its ANTENNA table does not have")
        flags = rows.getcol("FLAG", first, length).reshape(length, -1)
        whole = rows.getcol("FLAG_ROW", first, length)
        bad = np.where(whole, flags.shape[1], flags.sum(axis=1))
        cross = one != other
        for antennas in (one[cross], other[cross]):
            flagged += np.bincount(antennas, bad[cross], count)
            samples += np.bincount(antennas, np.full(cross.sum(), float(flags.shape[1])), count)
        pairs |= set(map(tuple, np.unique(np.stack([one[cross], other[cross]], axis=1), axis=0).tolist()))
    return flagged, samples, pairs


def local_m(positions_m: Floats) -> tuple[Floats, Floats]:
    """Return metres east and north of the centre of the array, in its tangent plane."""
    longitude, latitude = array.CENTRE_LONGITUDE_RAD, array.CENTRE_LATITUDE_RAD
    offset = positions_m - array.centre_m()
    east = np.array([-np.sin(longitude), np.cos(longitude), 0.0])
    north = np.array([-np.sin(latitude) * np.cos(longitude), -np.sin(latitude) * np.sin(longitude), np.cos(latitude)])
    return offset @ east, offset @ north
