"""From calibration tables to the gains of one observation: antennas by name, channels by frequency, gains by time.

Tables may have been solved on another observation of the same array. What does not fit is refused: a wrong table makes
images that look right and are not.
"""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline.caltable import BANDPASS, GAIN, CalibrationTable
from dsa110_contimg.pipeline.errors import BadInputError, DataQualityError
from dsa110_contimg.pipeline.visibilities import Complex, Layout

#: Gains are not carried further than this beyond the times that they were solved for.
MAX_EXTRAPOLATION_DAYS = 0.5


def match(
    layout: Layout, bandpass_path: str, bandpass: CalibrationTable, gain_path: str, gains: CalibrationTable
) -> tuple[Complex, Complex]:
    """Return what an observation needs from a pair of tables.

    Parameters
    ----------
    layout : Layout
        Of the observation.
    bandpass_path, gain_path : str
        Where the tables come from, for messages.

    Returns
    -------
    bandpass, gains : ndarray (n_antennas, n_channels, n_pols), (n_antennas, n_times, n_pols) of complex64
        In the order of the observation; NaN where there is no solution.

    Raises
    ------
    BadInputError
        If a table is of the other kind.
    DataQualityError
        If the tables were solved for other antennas, channels or polarisations, or too far away in time.
    """
    for path, solved, kind in ((bandpass_path, bandpass, BANDPASS), (gain_path, gains, GAIN)):
        if solved.kind != kind:
            raise BadInputError(f"{path} holds {solved.kind}, {kind} is wanted: exchange the two tables")
        if solved.values.shape[2] != layout.n_polarisations:
            raise DataQualityError(f"{path} has {solved.values.shape[2]} polarisations, {layout.path} another number")
    channels = _channel_rows(layout, bandpass_path, bandpass)
    by_channel = bandpass.unflagged()[:, channels][_antenna_rows(layout, bandpass_path, bandpass)]
    by_time = _gains_at(layout, gain_path, gains)[_antenna_rows(layout, gain_path, gains)]
    return np.ascontiguousarray(by_channel), np.ascontiguousarray(by_time)


def _antenna_rows(layout: Layout, path: str, solved: CalibrationTable) -> NDArray[np.intp]:
    """Return the index of each antenna of the observation in a table, by name."""
    index = {name: row for row, name in enumerate(solved.antenna_names)}
    present = layout.present()
    missing = [name for name, here in zip(layout.antenna_names, present, strict=True) if here and name not in index]
    if missing:
        raise DataQualityError(
            f"{path} was solved for other antennas: {', '.join(missing[:5])} of {layout.path} are not in it "
            f"({len(missing)} in all): solve the calibration on an observation with the same array"
        )
    return np.array([index.get(name, 0) for name in layout.antenna_names])


def _channel_rows(layout: Layout, path: str, solved: CalibrationTable) -> NDArray[np.intp]:
    """Return the index of each channel of the observation in a bandpass table, by frequency."""
    nearest = np.abs(solved.frequencies_hz[None, :] - layout.frequencies_hz[:, None]).argmin(axis=1)
    distance_hz = np.abs(solved.frequencies_hz[nearest] - layout.frequencies_hz)
    width_hz = float(np.median(np.diff(layout.frequencies_hz))) if len(layout.frequencies_hz) > 1 else 1.0
    strangers = int((distance_hz > 0.1 * width_hz).sum())
    if strangers:
        raise DataQualityError(
            f"{path} was solved for another frequency setup: {strangers} of {len(layout.frequencies_hz)} channels of "
            f"{layout.path} are not in it: solve the calibration on an observation with the same channels"
        )
    return np.asarray(nearest)


def _gains_at(layout: Layout, path: str, solved: CalibrationTable) -> Complex:
    """Return gains at the times of the observation, (n_table_antennas, n_times, n_polarisations).

    At a time of the table the gain is the table's, flagged or not; between its times, and to either side of them, it is
    interpolated from unflagged neighbours.
    """
    times_mjd, table_mjd = layout.times_mjd, solved.times_mjd
    outside = max(float(table_mjd[0] - times_mjd[0]), float(times_mjd[-1] - table_mjd[-1]))
    if outside > MAX_EXTRAPOLATION_DAYS:
        raise DataQualityError(
            f"{path} was solved {outside:.2f} days from {layout.path}, {MAX_EXTRAPOLATION_DAYS} are allowed: solve the "
            "calibration on an observation nearer in time"
        )
    values = solved.unflagged()
    nearest = np.abs(table_mjd[None, :] - times_mjd[:, None]).argmin(axis=1)
    between = np.abs(table_mjd[nearest] - times_mjd) > solved.intervals_s[nearest] / 2 / 86400.0
    at_times: Complex = values[:, nearest]
    if between.any():
        at_times[:, between] = _interpolated(values, table_mjd, times_mjd[between])
    return at_times


def _interpolated(values: Complex, table_mjd: NDArray[np.float64], wanted_mjd: NDArray[np.float64]) -> Complex:
    """Interpolate amplitude and phase linearly in time between unflagged gains."""
    result = np.full((values.shape[0], len(wanted_mjd), values.shape[2]), np.nan + 1j * np.nan, np.complex64)
    for antenna, pol in np.ndindex(values.shape[0], values.shape[2]):
        known = np.isfinite(values[antenna, :, pol])
        if known.any():
            phase = np.unwrap(np.angle(values[antenna, known, pol]))
            amplitude = np.abs(values[antenna, known, pol])
            result[antenna, :, pol] = np.interp(wanted_mjd, table_mjd[known], amplitude) * np.exp(
                1j * np.interp(wanted_mjd, table_mjd[known], phase)
            )
    return result
