"""The geometry of the meridian, against a real header and against what must hold."""

import numpy as np
import pytest

from dsa110_contimg.pipeline import array, coordinates
from dsa110_contimg.pipeline.errors import BadInputError

#: First time, sidereal time and declination of a real file of 3 October 2025.
REAL_JD, REAL_LST_RAD, REAL_DEC_RAD = 2460951.992331495, 1.246085221393205, 0.9524855391037991
ARCSEC_RAD = np.radians(1 / 3600)


def test_the_sidereal_time_is_that_of_a_real_header() -> None:
    # the header's own value comes from another version of the Earth-orientation tables: 1 ms of time is 7e-8 rad
    assert coordinates.local_sidereal_time_rad(REAL_JD)[0] == pytest.approx(REAL_LST_RAD, abs=1e-7)


def test_the_meridian_comes_back_to_hour_angle_zero() -> None:
    ra_rad, dec_rad = coordinates.meridian_icrs(REAL_JD, REAL_DEC_RAD)
    hour_angle_rad, apparent_rad = coordinates.hour_angle_dec(ra_rad, dec_rad, REAL_JD)
    assert hour_angle_rad[0] == pytest.approx(0.0, abs=1e-11)
    assert apparent_rad[0] == pytest.approx(REAL_DEC_RAD, abs=1e-11)


def test_the_meridian_agrees_with_astropy() -> None:
    from astropy import units
    from astropy.coordinates import ICRS, AltAz, EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    place = EarthLocation.from_geocentric(*array.centre_m(), unit="m")
    altitude = 90 - np.degrees(REAL_DEC_RAD - array.CENTRE_LATITUDE_RAD)
    with iers.conf.set_temp("auto_download", False):
        frame = AltAz(obstime=Time(REAL_JD, format="jd"), location=place, pressure=0 * units.Pa)
        expected = SkyCoord(az=0 * units.deg, alt=altitude * units.deg, frame=frame).transform_to(ICRS())
    ra_rad, dec_rad = coordinates.meridian_icrs(REAL_JD, REAL_DEC_RAD)
    # astropy places the horizon by the true pole; half an arc second is the polar motion
    assert (ra_rad - expected.ra.rad) * np.cos(dec_rad) == pytest.approx(0.0, abs=0.5 * ARCSEC_RAD)
    assert dec_rad == pytest.approx(expected.dec.rad, abs=0.5 * ARCSEC_RAD)


def test_baselines_keep_their_length_in_every_frame() -> None:
    positions_m = array.stations().positions_m
    times = REAL_JD + np.linspace(0, 0.004, 3)
    uvw_m = coordinates.antenna_uvw_m(positions_m, *coordinates.meridian_icrs(REAL_JD, REAL_DEC_RAD), times)
    expected_m = np.linalg.norm(positions_m - positions_m[0], axis=1)
    for at_time in uvw_m:
        assert np.linalg.norm(at_time - at_time[0], axis=1) == pytest.approx(expected_m, abs=1e-7)


def test_an_east_west_baseline_at_the_meridian_has_u_alone() -> None:
    positions_m = array.stations().positions_m[[0, 50]]  # the ends of the east-west arm
    uvw_m = coordinates.antenna_uvw_m(
        positions_m, *coordinates.meridian_icrs(REAL_JD, REAL_DEC_RAD), np.array([REAL_JD])
    )[0]
    east_m = uvw_m[1] - uvw_m[0]
    length_m = float(np.linalg.norm(positions_m[1] - positions_m[0]))
    # ICRS north is turned by precession, up to 0.15 degrees / cos(dec) in 26 years
    assert east_m[0] == pytest.approx(length_m, rel=1e-4)
    assert abs(east_m[1]) < length_m * np.radians(0.3)
    assert abs(east_m[2]) < 0.05


def test_a_time_outside_the_earth_orientation_tables_is_refused_with_the_remedy() -> None:
    with pytest.raises(BadInputError, match="astropy-iers-data"):
        coordinates.meridian_icrs(2_488_069.5, 0.5)
    with pytest.raises(BadInputError, match="nan"):
        coordinates.local_sidereal_time_rad(np.nan)
