"""What is done with raw solutions before they become tables."""

from dataclasses import replace

import numpy as np
import pytest

from dsa110_contimg.pipeline import solutions
from dsa110_contimg.pipeline.solver import Gains
from fixtures.arrays import frequencies_hz, make_up

NAMES = tuple(f"DSA-{number:03d}" for number in (1, 2, 3, 51, 103, 104, 105, 110, 114, 115, 116, 70))


def _gains(values: np.ndarray, error: float = 1e-3) -> Gains:
    shape = values.shape[1:]
    errors = np.full(values.shape, error, np.float32)
    return Gains(values.astype(np.complex64), errors, np.ones(shape, np.int32), np.ones(shape, np.bool_))


def test_normalising_moves_the_scale_into_the_gains_and_keeps_the_product() -> None:
    made = make_up()
    bandpass, gains = _gains(3.0 * made.bandpass), _gains(made.gains)
    unit, scaled = solutions.normalise(bandpass, gains, 4)
    assert np.abs(np.mean(np.abs(unit.values) ** 2, axis=1) - 1).max() < 1e-5
    product, before = (
        np.abs(unit.values[:, 0] * scaled.values[:, 0]),
        np.abs(bandpass.values[:, 0] * gains.values[:, 0]),
    )
    np.testing.assert_allclose(product, before, rtol=1e-5)
    np.testing.assert_allclose(scaled.snr, gains.snr, rtol=1e-4)
    assert np.abs(np.angle(unit.values[4])).max() < 1e-6
    assert np.abs(np.angle(scaled.values[4])).max() < 1e-6


def test_the_reference_is_the_first_healthy_outrigger() -> None:
    made = make_up()
    bandpass, gains = _gains(made.bandpass), _gains(made.gains)
    assert NAMES[solutions.choose_reference(NAMES, bandpass, gains)] == "DSA-103"
    bandpass.values[4, ::2] = np.nan
    gains.values[5] = np.nan
    assert NAMES[solutions.choose_reference(NAMES, bandpass, gains)] == "DSA-105"


def test_without_a_healthy_outrigger_the_antenna_with_the_most_solutions_is_the_reference() -> None:
    made = make_up()
    bandpass = _gains(made.bandpass)
    bandpass.values[np.arange(12) != 3, :10] = np.nan
    assert solutions.choose_reference(NAMES, bandpass) == 3


def test_short_gaps_are_interpolated_in_amplitude_and_phase() -> None:
    ramp = np.linspace(1.0, 2.0, 96) * np.exp(1j * np.linspace(3.0, 4.0, 96))  # the phase passes through 180 degrees
    bandpass = _gains(np.broadcast_to(ramp[None, :, None], (2, 96, 2)).copy())
    bandpass.values[0, 20:23] = np.nan
    bandpass.errors[0, 20:23] = np.nan
    filled = solutions.fill_gaps(bandpass, frequencies_hz(96))
    np.testing.assert_allclose(filled.values[0, 20:23, 0], ramp[20:23], atol=1e-6)
    np.testing.assert_allclose(filled.errors[0, 20:23], 1e-3)


def test_long_gaps_gaps_of_the_band_and_its_ends_are_left_as_they_are() -> None:
    bandpass = _gains(np.ones((1, 96, 2), np.complex64))
    for missing in (slice(0, 2), slice(20, 24), slice(47, 48), slice(94, 96)):
        bandpass.values[0, missing] = np.nan
    filled = solutions.fill_gaps(bandpass, frequencies_hz(96))  # a subband is missing between channels 47 and 48
    np.testing.assert_array_equal(np.isnan(filled.values), np.isnan(bandpass.values))


def test_a_channel_off_its_neighbours_is_found_and_a_weak_antenna_is_not_blamed_for_noise() -> None:
    rng = np.random.default_rng(1)
    amplitude = np.ones((2, 96, 2))
    amplitude[1] += 0.2 * rng.normal(size=(96, 2))
    bandpass = _gains(amplitude)
    bandpass.errors[1] = 0.2
    bandpass.values[0, 33, 1] *= 1.5
    off = solutions.off_envelope(bandpass)
    assert off[0, 33, 1]
    assert off.sum() == 1


def test_an_antenna_without_solutions_is_neither_off_nor_counted() -> None:
    made = make_up()
    bandpass, gains = _gains(made.bandpass), _gains(made.gains)
    for one in (bandpass, gains):
        one.values[2] = np.nan
    bandpass.values[6, 5] = np.nan
    live = np.isfinite(gains.values).any(axis=(1, 2))
    assert not solutions.off_envelope(bandpass)[2].any()
    quality = solutions.assess(bandpass, gains, live)
    assert quality.flagged_fraction_live == pytest.approx(2 / (11 * (96 + 6) * 2))


def test_the_quality_tells_scatter_and_range_of_the_gains() -> None:
    rng = np.random.default_rng(2)
    phase_deg = rng.normal(0.0, 10.0, (40, 24, 2))
    gains = _gains(0.05 * np.exp(1j * np.radians(phase_deg)), error=0.0005)
    gains = replace(gains, values=gains.values * np.linspace(1, 3, 40, dtype=np.float32)[:, None, None])
    quality = solutions.assess(gains, gains, np.ones(40, np.bool_))
    assert quality.phase_scatter_deg == pytest.approx(10.0, rel=0.1)  # 24 numbers each, 80 of them: 2 %
    assert quality.amplitude_min == pytest.approx(0.05, rel=1e-5)
    assert quality.amplitude_max == pytest.approx(0.15, rel=1e-5)
    assert quality.median_snr_gain == pytest.approx(200.0, rel=1e-4)
