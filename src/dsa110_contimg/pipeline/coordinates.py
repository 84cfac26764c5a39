"""Geometry of an array that looks at its meridian.

The correlator stops the fringes of every integration at hour angle zero and the pointing declination, both in the
apparent (topocentric, unrefracted) frame. That direction drifts through the ICRS by 15 arc seconds per second of
time. The transformations are those of the IAU SOFA collection (ERFA ``atoc13``, ``atco13``) with pressure zero, with
UT1 and polar motion from the IERS tables that are installed with the package: nothing is downloaded.

Baseline coordinates follow Thompson, Moran & Swenson (2017), eq. 4.1, with X towards hour angle 0 and Y towards the
east on the equator, and Z towards the north pole. ``u`` and ``v`` are turned by the position angle between the
apparent and the ICRS north, so that they belong to the ICRS direction.
"""

from functools import cache

import astropy_iers_data  # type: ignore[import-untyped]
import erfa
import numpy as np
import numpy.typing as npt
from astropy.utils import iers

from dsa110_contimg.pipeline.array import CENTRE_HEIGHT_M, CENTRE_LATITUDE_RAD, CENTRE_LONGITUDE_RAD, centre_m
from dsa110_contimg.pipeline.errors import BadInputError

Floats = npt.NDArray[np.float64]
_MJD_ZERO_JD = 2_400_000.5
_WAVELENGTH_UM = 0.5  # only matters with refraction, which is off
_NORTH_STEP_RAD = 1e-5


def jd_to_mjd(jd: float) -> float:
    """Return the Modified Julian Date of a Julian Date."""
    return jd - _MJD_ZERO_JD


def mjd_to_jd(mjd: float) -> float:
    """Return the Julian Date of a Modified Julian Date."""
    return mjd + _MJD_ZERO_JD


def meridian_icrs(jd_utc: float, dec_rad: float) -> tuple[float, float]:
    """Return right ascension (0 to 2 pi) and declination (rad, ICRS) of hour angle 0 at an apparent declination.

    Raises
    ------
    BadInputError
        The time lies outside the Earth-orientation tables.
    """
    dut1_s, x_rad, y_rad = _earth_orientation(np.array([jd_utc]))
    ra_rad, icrs_dec_rad = erfa.atoc13("H", 0.0, dec_rad, jd_utc, 0.0, dut1_s[0], *_site(x_rad[0], y_rad[0]))
    return float(ra_rad) % (2 * np.pi), float(icrs_dec_rad)


def hour_angle_dec(ra_rad: npt.ArrayLike, dec_rad: npt.ArrayLike, jd_utc: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return apparent hour angle and declination (rad) of ICRS directions; the arguments broadcast."""
    times = np.atleast_1d(np.asarray(jd_utc, dtype=np.float64))
    dut1_s, x_rad, y_rad = _earth_orientation(times)
    observed = erfa.atco13(ra_rad, dec_rad, 0.0, 0.0, 0.0, 0.0, times, 0.0, dut1_s, *_site(x_rad, y_rad))
    return observed[2], observed[3]


def local_sidereal_time_rad(jd_utc: npt.ArrayLike) -> Floats:
    """Return the apparent local sidereal time (rad, 0 to 2 pi) at the centre of the array."""
    times = np.atleast_1d(np.asarray(jd_utc, dtype=np.float64))
    dut1_s, _, _ = _earth_orientation(times)
    ut1 = times, dut1_s / 86400.0
    tt = erfa.taitt(*erfa.utctai(times, 0.0))
    return np.asarray((erfa.gst06a(*ut1, *tt) + CENTRE_LONGITUDE_RAD) % (2 * np.pi), dtype=np.float64)


def local_equatorial_m(positions_m: Floats) -> Floats:
    """Return geocentric (ITRF) positions as X, Y, Z relative to the centre of the array, shape (n, 3), m."""
    sine, cosine = np.sin(CENTRE_LONGITUDE_RAD), np.cos(CENTRE_LONGITUDE_RAD)
    x, y, z = (positions_m - centre_m()).T
    return np.stack([cosine * x + sine * y, -sine * x + cosine * y, z], axis=-1)


def direction(hour_angle_rad: npt.ArrayLike, dec_rad: npt.ArrayLike) -> Floats:
    """Return unit vectors X, Y, Z (last axis) towards hour angles and declinations; times a position they give w."""
    hour_angle, dec = np.broadcast_arrays(hour_angle_rad, dec_rad)
    cosine = np.cos(dec)
    return np.stack([cosine * np.cos(hour_angle), -cosine * np.sin(hour_angle), np.sin(dec)], axis=-1)


def antenna_uvw_m(positions_m: Floats, ra_rad: float, dec_rad: float, jd_utc: Floats) -> Floats:
    """Return u, v, w (m) of every antenna for an ICRS phase centre, shape (time, antenna, 3).

    The baseline from antenna 1 to antenna 2 has the coordinates of 2 minus those of 1.
    """
    hour_angle_rad, apparent_dec_rad = hour_angle_dec(ra_rad, dec_rad, jd_utc)
    north_ha_rad, north_dec_rad = hour_angle_dec(ra_rad, dec_rad + _NORTH_STEP_RAD, jd_utc)
    east_step = -(north_ha_rad - hour_angle_rad) * np.cos(apparent_dec_rad)
    angle_rad = np.arctan2(east_step, north_dec_rad - apparent_dec_rad)

    w_axis = direction(hour_angle_rad, apparent_dec_rad)
    east = direction(hour_angle_rad - np.pi / 2, np.zeros_like(hour_angle_rad))
    north = np.cross(w_axis, east)
    sine, cosine = np.sin(angle_rad)[:, None], np.cos(angle_rad)[:, None]
    axes = np.stack([cosine * east - sine * north, sine * east + cosine * north, w_axis], axis=1)
    return np.asarray(np.einsum("tkx,ax->tak", axes, local_equatorial_m(positions_m)), dtype=np.float64)


def _site(x_rad: npt.ArrayLike, y_rad: npt.ArrayLike) -> tuple[object, ...]:
    """Return what ERFA wants to know about the site: place, polar motion, no atmosphere."""
    place = CENTRE_LONGITUDE_RAD, CENTRE_LATITUDE_RAD, CENTRE_HEIGHT_M
    return *place, x_rad, y_rad, 0.0, 0.0, 0.0, _WAVELENGTH_UM


@cache
def _iers_table() -> iers.IERS_A:
    return iers.IERS_A.open(astropy_iers_data.IERS_A_FILE)


def _earth_orientation(jd_utc: Floats) -> tuple[Floats, Floats, Floats]:
    """Return UT1 - UTC (s) and the pole's coordinates (rad) at these times."""
    table = _iers_table()
    mjd_first, mjd_last = table["MJD"][0].value, table["MJD"][-1].value
    mjd = jd_utc - _MJD_ZERO_JD
    if not (np.all(np.isfinite(mjd)) and mjd.min() >= mjd_first and mjd.max() < mjd_last):
        raise BadInputError(
            f"time MJD {mjd.min():.3f} to {mjd.max():.3f} lies outside the Earth-orientation table "
            f"(MJD {mjd_first:.0f} to {mjd_last:.0f}); correct the time or update the package astropy-iers-data"
        )
    x, y = table.pm_xy(jd_utc, 0.0)
    return table.ut1_utc(jd_utc, 0.0).to_value("s"), x.to_value("rad"), y.to_value("rad")
