"""The DSA-110 as an instrument: stations, band, sampling, sensitivity. The only place that knows the dish.

The array is a T of 51 east-west and 51 north-south pads with 15 outriggers at the Owens Valley Radio Observatory; 96 of
the 117 stations carry a receiver. It observes at the meridian: the azimuth is fixed, the sky drifts through.

Positions come from ``data/stations.csv`` (the observatory's station list of 15 February 2022), taken as WGS84 geodetic
coordinates. Its last station, DSA-117, has no elevation and no receiver; it is given that of its neighbour DSA-116.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import erfa
import numpy as np
import numpy.typing as npt

from dsa110_contimg.pipeline.naming import SUBBAND_COUNT

SPEED_OF_LIGHT_M_S = 299_792_458.0

#: Centre of the T: geodetic longitude and latitude (rad) and height above the WGS84 ellipsoid (m).
CENTRE_LONGITUDE_RAD = -2.064427799136453
CENTRE_LATITUDE_RAD = 0.6498455107238486
CENTRE_HEIGHT_M = 1188.0519

#: Name that CASA tools know the observatory by; with any other they refuse the Measurement Set.
TELESCOPE_NAME = "OVRO_MMA"
STATION_COUNT = 117
DISH_DIAMETER_M = 4.65

#: System equivalent flux density of one antenna and polarisation (Jy).
SEFD_JY = 5800.0

SUBBAND_CHANNELS = 48
CHANNEL_COUNT = SUBBAND_COUNT * SUBBAND_CHANNELS
CHANNEL_WIDTH_HZ = 244_140.625
#: Centre of the highest channel, the first one of subband 0 (Hz).
HIGHEST_CHANNEL_HZ = 1_498_627_929.6875
BAND_CENTRE_HZ = HIGHEST_CHANNEL_HZ - (CHANNEL_COUNT - 1) / 2 * CHANNEL_WIDTH_HZ

INTEGRATION_S = 12.884902
INTEGRATION_COUNT = 24
#: XX and YY in the numbering of UVH5 (AIPS memo 117).
POLARIZATIONS = (-5, -6)

_NO_RECEIVER = frozenset({10, 21, 22, 23, *range(52, 68), 117})
#: Numbers of the 96 stations with a receiver.
ACTIVE_STATIONS = tuple(n for n in range(1, STATION_COUNT + 1) if n not in _NO_RECEIVER)


@dataclass(frozen=True, slots=True)
class Stations:
    """All stations in order of their number.

    Attributes
    ----------
    names : tuple of str
        ``DSA-001`` to ``DSA-117``.
    positions_m : ndarray, float64, shape (117, 3)
        Geocentric (ITRF) coordinates, m.
    """

    names: tuple[str, ...]
    positions_m: npt.NDArray[np.float64]


@cache
def stations() -> Stations:
    """Return the stations of the package's station list."""
    text = files("dsa110_contimg.pipeline").joinpath("data/stations.csv").read_text(encoding="ascii")
    rows = list(csv.DictReader(text.splitlines()))
    longitude_rad = np.radians([float(row["longitude_deg"]) for row in rows])
    latitude_rad = np.radians([float(row["latitude_deg"]) for row in rows])
    neighbour_m = float(rows[-2]["elevation_m"])
    height_m = np.array([float(row["elevation_m"] or neighbour_m) for row in rows])
    positions_m: npt.NDArray[np.float64] = erfa.gd2gc(1, longitude_rad, latitude_rad, height_m)
    positions_m.setflags(write=False)
    return Stations(tuple(row["station"] for row in rows), positions_m)


@cache
def centre_m() -> npt.NDArray[np.float64]:
    """Return the geocentric (ITRF) position of the centre of the T, shape (3,), m."""
    position_m: npt.NDArray[np.float64] = erfa.gd2gc(1, CENTRE_LONGITUDE_RAD, CENTRE_LATITUDE_RAD, CENTRE_HEIGHT_M)
    position_m.setflags(write=False)
    return position_m


def subband_frequencies_hz(subband: int) -> npt.NDArray[np.float64]:
    """Return the 48 channel centres (Hz) of a subband, descending as in its file; subband 0 is the highest."""
    first = subband * SUBBAND_CHANNELS
    channel = np.arange(first, first + SUBBAND_CHANNELS, dtype=np.float64)
    return np.asarray(HIGHEST_CHANNEL_HZ - CHANNEL_WIDTH_HZ * channel, dtype=np.float64)


def subband_of(first_channel_hz: float) -> int | None:
    """Return the subband whose first (highest) channel has this frequency to half a channel; None if there is none."""
    channels = (HIGHEST_CHANNEL_HZ - first_channel_hz) / CHANNEL_WIDTH_HZ
    subband = round(channels / SUBBAND_CHANNELS)
    inside = 0 <= subband < SUBBAND_COUNT
    return subband if inside and abs(channels - subband * SUBBAND_CHANNELS) <= 0.5 else None


def sample_noise_jy(integration_s: float = INTEGRATION_S, channel_width_hz: float = CHANNEL_WIDTH_HZ) -> float:
    """Return the thermal noise (Jy) of the real and of the imaginary part of one visibility of one polarisation.

    Radiometer equation for two antennas of equal SEFD: S / sqrt(2 B t) (Thompson, Moran & Swenson, eq. 6.50).
    """
    return SEFD_JY / float(np.sqrt(2.0 * channel_width_hz * integration_s))
