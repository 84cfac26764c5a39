"""A Measurement Set of this pipeline, made empty: all that is known before the visibilities.

One spectral window (channels ascending; a missing subband is a gap), one field, polarisations XX and YY, rows in
time-major order with the same baselines at every time. DATA, FLAG and WEIGHT_SPECTRUM are tiled columns of fixed shape
that the caller fills; every other column and subtable is complete.

Conventions (CASA): ANTENNA1 <= ANTENNA2; UVW = position(1) - position(2) in the frame of the phase centre, the
negative of the UVH5 one, and DATA the complex conjugate of the UVH5 visibility.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from casacore.tables import default_ms, makearrcoldesc, maketabdesc, table

from dsa110_contimg.pipeline import array

_TILE_BYTES = 1 << 20
_N_POLS = len(array.POLARIZATIONS)
_DAY_S = 86400.0
_TOPOCENTRIC = 5
_LINEAR_XX_YY = [9, 12]


@dataclass(frozen=True, slots=True)
class Contents:
    """What the Measurement Set is about.

    Attributes
    ----------
    antenna_names : tuple of str
    positions_m : ndarray, float64, shape (antenna, 3)
        Geocentric (ITRF).
    antenna1, antenna2 : ndarray, int32, shape (baseline,)
        ``antenna1 <= antenna2``.
    uvw_m : ndarray, float64, shape (time, baseline, 3)
        CASA sign.
    times_mjd : ndarray, float64, shape (time,)
        Centres of the integrations, UTC.
    integration_s : float
    frequencies_hz : ndarray, float64, shape (channel,)
        Ascending.
    ra_rad, dec_rad : float
        Phase centre, ICRS.
    field_name : str
    history : tuple of str
        Lines for the HISTORY table.
    """

    antenna_names: tuple[str, ...]
    positions_m: npt.NDArray[np.float64]
    antenna1: npt.NDArray[np.int32]
    antenna2: npt.NDArray[np.int32]
    uvw_m: npt.NDArray[np.float64]
    times_mjd: npt.NDArray[np.float64]
    integration_s: float
    frequencies_hz: npt.NDArray[np.float64]
    ra_rad: float
    dec_rad: float
    field_name: str
    history: tuple[str, ...] = ()

    @property
    def n_rows(self) -> int:
        """Times times baselines."""
        return self.times_mjd.size * self.antenna1.size

    @property
    def start_mjd(self) -> float:
        """Beginning of the first integration."""
        return float(self.times_mjd[0]) - self.integration_s / 2 / _DAY_S

    @property
    def end_mjd(self) -> float:
        """End of the last integration."""
        return float(self.times_mjd[-1]) + self.integration_s / 2 / _DAY_S


def create(path: Path, contents: Contents) -> table:
    """Make the Measurement Set and return its main table, open for writing; the caller fills the tiled columns."""
    shape = [contents.frequencies_hz.size, _N_POLS]
    columns, managers = _tiled_columns(shape, contents.n_rows)
    main = default_ms(str(path), maketabdesc(columns), managers)
    main.addrows(contents.n_rows)
    _fill_main(main, contents)
    fillers = {
        "ANTENNA": _antennas(contents),
        "DATA_DESCRIPTION": {"SPECTRAL_WINDOW_ID": [0], "POLARIZATION_ID": [0], "FLAG_ROW": [False]},
        "FEED": _feeds(contents),
        "FIELD": _field(contents),
        "HISTORY": _history(contents),
        "OBSERVATION": _observation(contents),
        "POLARIZATION": _polarization(),
        "PROCESSOR": {"TYPE": ["CORRELATOR"], "SUB_TYPE": ["DSA"], "TYPE_ID": [-1], "MODE_ID": [-1]},
        "SPECTRAL_WINDOW": _spectral_window(contents),
        "STATE": {"SIG": [True], "REF": [False], "OBS_MODE": ["OBSERVE_TARGET#UNSPECIFIED"], "SUB_SCAN": [0]},
    }
    for name, values in fillers.items():
        _fill(f"{path}::{name}", values)
    return main


def _tiled_columns(shape: list[int], n_rows: int) -> tuple[list[Any], dict[str, Any]]:
    """Return descriptions and storage of the columns with one array of fixed shape a row, tiles of about 1 MiB."""
    columns: list[Any] = []
    managers: dict[str, Any] = {}
    cell = shape[0] * shape[1]
    for name, value, kind, row_bytes in (
        ("DATA", 0j, "complex", 8.0 * cell),
        ("FLAG", False, "boolean", cell / 8),
        ("WEIGHT_SPECTRUM", 0.0, "float", 4.0 * cell),
    ):
        manager = f"Tiled{name}"
        options = {"options": 4, "datamanagertype": "TiledColumnStMan", "datamanagergroup": manager, "valuetype": kind}
        columns.append(makearrcoldesc(name, value, ndim=2, shape=shape, **options))
        rows = int(np.clip(_TILE_BYTES / row_bytes, 1, n_rows))
        specification = {"DEFAULTTILESHAPE": [shape[1], shape[0], rows]}
        managers[f"*{len(managers) + 1}"] = {
            "NAME": manager,
            "TYPE": "TiledColumnStMan",
            "SPEC": specification,
            "COLUMNS": [name],
        }
    for name in ("WEIGHT", "SIGMA"):
        columns.append(makearrcoldesc(name, 0.0, ndim=1, shape=shape[1:], options=5, valuetype="float"))
    return columns, managers


def _fill_main(main: table, contents: Contents) -> None:
    n_times, n_baselines = contents.times_mjd.size, contents.antenna1.size
    times_s = np.repeat(contents.times_mjd * _DAY_S, n_baselines)
    interval_s = np.full(contents.n_rows, contents.integration_s)
    zeros = np.zeros(contents.n_rows, dtype=np.int32)
    columns: dict[str, Any] = {
        "TIME": times_s,
        "TIME_CENTROID": times_s,
        "INTERVAL": interval_s,
        "EXPOSURE": interval_s,
        "ANTENNA1": np.tile(contents.antenna1, n_times),
        "ANTENNA2": np.tile(contents.antenna2, n_times),
        "UVW": contents.uvw_m.reshape(-1, 3),
        "SCAN_NUMBER": zeros + 1,
        "FLAG_ROW": np.tile(contents.antenna1 == contents.antenna2, n_times),
    }
    columns |= {f"{name}_ID": zeros for name in ("ARRAY", "DATA_DESC", "FIELD", "OBSERVATION", "PROCESSOR", "STATE")}
    columns |= {name: zeros for name in ("FEED1", "FEED2")}
    for name, values in columns.items():
        main.putcol(name, values)


def _fill(name: str, columns: dict[str, Any]) -> None:
    with table(name, readonly=False, ack=False) as subtable:
        subtable.addrows(len(next(iter(columns.values()))))
        for column, values in columns.items():
            subtable.putcol(column, values)


def _antennas(contents: Contents) -> dict[str, Any]:
    count = len(contents.antenna_names)
    return {
        "NAME": list(contents.antenna_names),
        "STATION": list(contents.antenna_names),
        "TYPE": ["GROUND-BASED"] * count,
        "MOUNT": ["ALT-AZ"] * count,
        "POSITION": contents.positions_m,
        "OFFSET": np.zeros((count, 3)),
        "DISH_DIAMETER": np.full(count, array.DISH_DIAMETER_M),
        "FLAG_ROW": np.zeros(count, dtype=np.bool_),
    }


def _feeds(contents: Contents) -> dict[str, Any]:
    count = len(contents.antenna_names)
    return {
        "ANTENNA_ID": np.arange(count, dtype=np.int32),
        "FEED_ID": np.zeros(count, dtype=np.int32),
        "BEAM_ID": np.full(count, -1, dtype=np.int32),
        "SPECTRAL_WINDOW_ID": np.full(count, -1, dtype=np.int32),
        "NUM_RECEPTORS": np.full(count, 2, dtype=np.int32),
        "INTERVAL": np.full(count, 1e30),
        "TIME": np.zeros(count),
        "POLARIZATION_TYPE": {"shape": [count, 2], "array": ["X", "Y"] * count},
        "POL_RESPONSE": np.tile(np.eye(2, dtype=np.complex64), (count, 1, 1)),
        "BEAM_OFFSET": np.zeros((count, 2, 2)),
        "RECEPTOR_ANGLE": np.zeros((count, 2)),
        "POSITION": np.zeros((count, 3)),
    }


def _field(contents: Contents) -> dict[str, Any]:
    direction = np.array([[[contents.ra_rad, contents.dec_rad]]])
    return {
        "NAME": [contents.field_name],
        "CODE": [""],
        "TIME": [(contents.start_mjd + contents.end_mjd) / 2 * _DAY_S],
        "NUM_POLY": [0],
        "SOURCE_ID": [-1],
        "FLAG_ROW": [False],
        **{f"{kind}_DIR": direction for kind in ("PHASE", "DELAY", "REFERENCE")},
    }


def _history(contents: Contents) -> dict[str, Any]:
    count = len(contents.history)
    return {
        "TIME": np.full(count, contents.end_mjd * _DAY_S),
        "OBSERVATION_ID": np.zeros(count, dtype=np.int32),
        "MESSAGE": list(contents.history),
        "PRIORITY": ["NORMAL"] * count,
        "ORIGIN": ["dsa110-contimg"] * count,
        "APPLICATION": [f"dsa110-contimg {version('dsa110-contimg')}"] * count,
    }


def _observation(contents: Contents) -> dict[str, Any]:
    return {
        "TELESCOPE_NAME": [array.TELESCOPE_NAME],
        "TIME_RANGE": np.array([[contents.start_mjd, contents.end_mjd]]) * _DAY_S,
        "OBSERVER": ["DSA-110"],
        "PROJECT": ["DSA-110 continuum survey"],
        "RELEASE_DATE": [contents.end_mjd * _DAY_S],
        "FLAG_ROW": [False],
    }


def _polarization() -> dict[str, Any]:
    return {
        "NUM_CORR": [_N_POLS],
        "CORR_TYPE": np.array([_LINEAR_XX_YY], dtype=np.int32),
        "CORR_PRODUCT": np.array([[[0, 0], [1, 1]]], dtype=np.int32),
        "FLAG_ROW": [False],
    }


def _spectral_window(contents: Contents) -> dict[str, Any]:
    count = contents.frequencies_hz.size
    width_hz = np.full((1, count), array.CHANNEL_WIDTH_HZ)
    return {
        "NAME": ["continuum"],
        "NUM_CHAN": [count],
        "CHAN_FREQ": contents.frequencies_hz[None, :],
        **{name: width_hz for name in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION")},
        "REF_FREQUENCY": [float(contents.frequencies_hz[0])],
        "TOTAL_BANDWIDTH": [count * array.CHANNEL_WIDTH_HZ],
        "MEAS_FREQ_REF": [_TOPOCENTRIC],
        "NET_SIDEBAND": [1],
        "IF_CONV_CHAIN": [0],
        "FREQ_GROUP": [0],
        "FREQ_GROUP_NAME": [""],
        "FLAG_ROW": [False],
    }
