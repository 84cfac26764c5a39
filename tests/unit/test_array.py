"""The array, its beam and its calibrators, against known figures."""

import numpy as np
import pytest

from dsa110_contimg.pipeline import array, beam, calibrators
from dsa110_contimg.pipeline.beam_calibrators import calibrators_in_beam
from dsa110_contimg.pipeline.errors import BadInputError


def test_the_station_list_has_the_arms_and_the_longest_baseline_of_the_array() -> None:
    stations = array.stations()
    assert len(stations.names) == array.STATION_COUNT
    assert stations.names[102] == "DSA-103"
    position = stations.positions_m
    # spacings of the arms and the longest baseline as published; the list is rounded to 1e-7 degrees, 1 cm
    assert np.linalg.norm(position[0] - position[1]) == pytest.approx(5.75, abs=0.02)
    assert np.linalg.norm(position[60] - position[61]) == pytest.approx(8.653, abs=0.02)
    baselines_m = np.linalg.norm(position[:, None] - position[None], axis=-1)
    assert baselines_m.max() == pytest.approx(2707, abs=1)


def test_96_stations_carry_a_receiver() -> None:
    assert len(array.ACTIVE_STATIONS) == 96
    assert {10, 21, 22, 23, 52, 67, 117}.isdisjoint(array.ACTIVE_STATIONS)
    assert {1, 51, 68, 102, 103, 116}.issubset(array.ACTIVE_STATIONS)


def test_the_subbands_tile_the_band_from_above() -> None:
    channels_hz = np.concatenate([array.subband_frequencies_hz(k) for k in range(16)])
    assert np.all(np.diff(channels_hz) == -array.CHANNEL_WIDTH_HZ)
    assert channels_hz[[0, -1]] == pytest.approx([1498.628e6, 1311.372e6], abs=500)
    assert array.BAND_CENTRE_HZ == 1405e6


@pytest.mark.parametrize("off_hz", [0.0, 15_258.0, -100_000.0])
def test_a_subband_is_known_by_its_first_channel_to_half_a_channel(off_hz: float) -> None:
    for subband in range(16):
        assert array.subband_of(array.subband_frequencies_hz(subband)[0] + off_hz) == subband
    assert array.subband_of(array.subband_frequencies_hz(3)[1]) is None
    assert array.subband_of(1.28e9) is None


def test_the_noise_of_a_sample_follows_the_radiometer_equation() -> None:
    # 5800 Jy / sqrt(2 * 244140.625 Hz * 12.884902 s) = 5800 / 2508.27
    assert array.sample_noise_jy() == pytest.approx(2.3123, abs=1e-4)
    assert array.sample_noise_jy(4.0) / array.sample_noise_jy(16.0) == pytest.approx(2.0)


def test_the_beam_halves_at_half_its_width_and_vanishes_at_the_first_null() -> None:
    width_rad = beam.half_power_width_rad(1405e6)
    # 1.029 lambda / D for a uniformly lit circular aperture
    assert np.degrees(width_rad) == pytest.approx(np.degrees(1.029 * 0.213376 / 4.65), rel=1e-3)
    assert beam.power(width_rad / 2, 1405e6) == pytest.approx(0.5, abs=1e-4)
    assert beam.power(0.0, 1405e6) == 1.0
    first_null_rad = np.arcsin(1.219670 * 0.21337542 / 4.65)
    assert beam.power(first_null_rad, 1405e6) == pytest.approx(0.0, abs=1e-8)


def test_the_beam_is_wider_at_lower_frequency() -> None:
    low, high = beam.power(np.radians(1.0), [1311e6, 1499e6])
    assert low > high


def test_separations_are_right_from_arc_seconds_to_the_poles() -> None:
    arcsec = np.radians(1 / 3600)
    assert beam.separation_rad(0.1, 0.0, 0.1 + arcsec, 0.0) == pytest.approx(arcsec, rel=1e-9)
    assert beam.separation_rad(0.0, 1.0, 2 * np.pi, 1.0) == pytest.approx(0.0, abs=1e-15)
    assert beam.separation_rad(0.0, np.pi / 2, 3.0, -np.pi / 2) == pytest.approx(np.pi)


@pytest.mark.parametrize(
    ("name", "flux_jy"), [("3C286", 15.08), ("3C48", 16.26), ("3C147", 22.17), ("3C138", 8.56), ("3C196", 14.43)]
)
def test_primary_calibrators_carry_the_perley_butler_scale(name: str, flux_jy: float) -> None:
    calibrator = calibrators.find(name)
    assert calibrator.scale == "PB2017"
    assert calibrator.flux_jy(1.4e9) == pytest.approx(flux_jy, rel=1e-3)  # the polynomials of 2017 at 1.4 GHz


def test_3c286_stands_where_it_does() -> None:
    calibrator = calibrators.find("1331+305")
    assert calibrator.ra_deg == pytest.approx(15 * (13 + 31 / 60 + 8.288 / 3600), abs=1e-6)
    assert calibrator.dec_deg == pytest.approx(30 + 30 / 60 + 32.96 / 3600, abs=1e-6)


def test_no_calibrator_has_an_assumed_flux() -> None:
    assert len(calibrators.load()) > 1000
    assert all(c.flux_1400_jy > 0 for c in calibrators.load())
    assert sum(c.flux_1400_jy == 1.0 for c in calibrators.load()) < 40  # as many as the VLA list really gives as 1.00


def test_an_unknown_calibrator_is_refused_by_name() -> None:
    with pytest.raises(BadInputError, match="'XYZ' is not in the catalogue; give a J2000 name"):
        calibrators.find("XYZ")


def test_a_misspelt_calibrator_is_refused_with_the_name_that_is_nearest() -> None:
    with pytest.raises(BadInputError, match=r"'3c 488' is not in the catalogue; did you mean 3C48\?"):
        calibrators.find("3c 488")


def test_calibrators_in_the_beam_are_ranked_by_apparent_flux() -> None:
    target = calibrators.find("3C286")
    found = calibrators_in_beam(target.ra_deg, target.dec_deg + 0.5)
    assert found[0].calibrator is target
    assert found[0].separation_deg == pytest.approx(0.5, abs=1e-9)
    response = float(beam.power(np.radians(0.5), array.BAND_CENTRE_HZ))
    assert found[0].apparent_flux_jy == pytest.approx(target.flux_jy(array.BAND_CENTRE_HZ) * response)
    assert [c.apparent_flux_jy for c in found] == sorted((c.apparent_flux_jy for c in found), reverse=True)


def test_the_beam_reaches_across_right_ascension_zero() -> None:
    near_zero = next(c for c in calibrators.load() if c.ra_deg < 1.0)
    found = calibrators_in_beam((near_zero.ra_deg - 1.1) % 360, near_zero.dec_deg)
    assert near_zero in [c.calibrator for c in found]


def test_a_direction_without_a_calibrator_gives_none() -> None:
    assert calibrators_in_beam(0.0, -89.0) == []
