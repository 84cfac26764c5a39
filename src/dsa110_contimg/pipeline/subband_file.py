"""A subband file as the telescope's correlator writes it (UVH5, drift scan), for simulated observations.

One file holds one of 16 subbands: 48 channels in descending frequency, all baselines with autocorrelations, time
slowest. ``uvw_array`` is float32 and the same at every time; antenna positions of all 117 stations are given
relative to the centre of the array; the pointing declination stands in ``extra_keywords``.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from dsa110_contimg.pipeline import array, coordinates
from dsa110_contimg.pipeline.products import written_aside


@dataclass(frozen=True, slots=True)
class Layout:
    """What is the same in all subband files of one observation.

    Attributes
    ----------
    station_numbers : tuple of int
        Stations with data, ascending.
    jd_utc : ndarray, float64, shape (time,)
        Centres of the integrations.
    dec_rad : float
        Apparent declination of the pointing.
    """

    station_numbers: tuple[int, ...]
    jd_utc: npt.NDArray[np.float64]
    dec_rad: float

    def baselines(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return first and second antenna of each baseline as indices into ``station_numbers``.

        As in real files some baselines, here a third of those of the last antenna, have the higher antenna first.
        """
        one, two = np.triu_indices(len(self.station_numbers))
        turned = (two == two[-1]) & (one % 3 == 0) & (one != two)
        return np.where(turned, two, one).astype(np.int64), np.where(turned, one, two).astype(np.int64)

    def positions_m(self) -> npt.NDArray[np.float64]:
        """Return the geocentric positions of the stations with data, shape (antenna, 3)."""
        positions_m: npt.NDArray[np.float64] = array.stations().positions_m[np.array(self.station_numbers) - 1]
        return positions_m


def write_subband(
    path: Path,
    layout: Layout,
    frequencies_hz: npt.NDArray[np.float64],
    visibilities: npt.NDArray[np.complex64],
) -> None:
    """Write one subband file, in which nothing is flagged.

    Parameters
    ----------
    path : Path
        Its final name.
    layout : Layout
    frequencies_hz : ndarray, shape (channel,)
        Descending.
    visibilities : complex64, shape (time, baseline, channel, 2)
        Uncalibrated.
    """
    n_times, n_baselines, n_channels, n_pols = visibilities.shape
    shape = (n_times * n_baselines, 1, n_channels, n_pols)
    with written_aside(path) as partial, h5py.File(partial, "w") as file:
        _write_header(file.create_group("Header"), layout, frequencies_hz)
        data = file.create_group("Data")
        data.create_dataset("visdata", data=visibilities.reshape(shape), chunks=True)
        data.create_dataset("flags", data=np.zeros(shape, dtype=np.bool_), chunks=True)
        data.create_dataset("nsamples", data=np.ones(shape, dtype=np.float32), chunks=True)


def _write_header(header: h5py.Group, layout: Layout, frequencies_hz: npt.NDArray[np.float64]) -> None:
    for name, value in (_sizes(layout, frequencies_hz) | _site() | _spectrum(frequencies_hz)).items():
        header[name] = value
    for name, value in _rows(layout).items():
        header[name] = value
    extra = header.create_group("extra_keywords")
    extra["phase_center_dec"] = layout.dec_rad
    extra["ha_phase_center"] = 0.0
    extra["phase_center_epoch"] = b"HADEC"
    extra["applied_delays_ns"] = _delays(layout).encode()


def _sizes(layout: Layout, frequencies_hz: npt.NDArray[np.float64]) -> dict[str, object]:
    n_baselines = layout.baselines()[0].size
    return {
        "Nants_data": len(layout.station_numbers),
        "Nants_telescope": array.STATION_COUNT,
        "Nbls": n_baselines,
        "Nblts": n_baselines * layout.jd_utc.size,
        "Nfreqs": frequencies_hz.size,
        "Npols": len(array.POLARIZATIONS),
        "Nspws": 1,
        "Ntimes": layout.jd_utc.size,
    }


def _site() -> dict[str, object]:
    names = [str(number).encode() for number in range(1, array.STATION_COUNT + 1)]
    return {
        "telescope_name": array.TELESCOPE_NAME.encode(),
        "instrument": b"DSA",
        "object_name": b"search",
        "history": b"simulated",
        "phase_type": b"drift",
        "vis_units": b"uncalib",
        "latitude": np.degrees(array.CENTRE_LATITUDE_RAD),
        "longitude": np.degrees(array.CENTRE_LONGITUDE_RAD),
        "altitude": array.CENTRE_HEIGHT_M,
        "antenna_names": np.array(names, dtype="S4"),
        "antenna_numbers": np.arange(array.STATION_COUNT),
        "antenna_positions": array.stations().positions_m - array.centre_m(),
        "antenna_diameters": np.full(array.STATION_COUNT, array.DISH_DIAMETER_M),
    }


def _spectrum(frequencies_hz: npt.NDArray[np.float64]) -> dict[str, object]:
    return {
        "freq_array": frequencies_hz[None, :],
        "channel_width": -array.CHANNEL_WIDTH_HZ,
        "spw_array": np.array([1]),
        "polarization_array": np.array(array.POLARIZATIONS),
        "flex_spw": False,
    }


def _rows(layout: Layout) -> dict[str, npt.NDArray[np.generic]]:
    """Return what the header holds for each baseline and time, time slowest."""
    one, two = layout.baselines()
    numbers = np.array(layout.station_numbers) - 1
    n_times = layout.jd_utc.size
    dec_rad = layout.dec_rad
    axes = np.stack([[0.0, 1.0, 0.0], [-np.sin(dec_rad), 0.0, np.cos(dec_rad)], coordinates.direction(0.0, dec_rad)])
    antenna_uvw_m = coordinates.local_equatorial_m(layout.positions_m()) @ axes.T
    return {
        "ant_1_array": np.tile(numbers[one], n_times),
        "ant_2_array": np.tile(numbers[two], n_times),
        "uvw_array": np.tile((antenna_uvw_m[two] - antenna_uvw_m[one]).astype(np.float32), (n_times, 1)),
        "time_array": np.repeat(layout.jd_utc, one.size),
        "lst_array": np.repeat(coordinates.local_sidereal_time_rad(layout.jd_utc), one.size),
        "integration_time": np.full(one.size * n_times, array.INTEGRATION_S),
    }


def _delays(layout: Layout) -> str:
    """Return cable delays (ns) of every station and polarisation; 0 0 marks a station without data."""
    present = set(layout.station_numbers)
    return " ".join(
        f"{15000 + 2 * number} {15000 + 2 * number}" if number in present else "0 0"
        for number in range(1, array.STATION_COUNT + 1)
    )
