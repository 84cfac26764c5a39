"""The noise of antennas, measured on made-up visibilities."""

from dataclasses import replace

import numpy as np
import pytest

from dsa110_contimg.pipeline.noise import antenna_variances, with_inverse_variances
from fixtures.arrays import make_up


def test_noise_is_measured_under_gains_signal_and_interference() -> None:
    noise_jy = 2.0
    made = make_up(12, 4, 400, noise_jy=noise_jy)
    chunk = made.visibilities
    chunk.data[:, :, 40:60] += 5.0  # a hundred times the gain
    chunk.data[:, :, 80:100] = np.nan
    chunk.flags[:, :, 80:100] = True
    variances = antenna_variances(chunk, 12)
    power = np.median(np.abs(made.gains[:, 0, None] * made.bandpass) ** 2, axis=1)
    # the random bandpass makes its square differ from its median by 12 % rms, and couples channels: 1 + 4 + 1 squares,
    # and at both ends what it leaves of the signal; alike for all antennas, so only the ratios are exact
    ratio = variances / (power * noise_jy)
    np.testing.assert_allclose(ratio / ratio.mean(), 1.0, rtol=0.15)
    assert 0.9 < ratio.mean() < 1.5


def test_inverse_variances_are_those_of_the_real_and_of_the_imaginary_part() -> None:
    rng = np.random.default_rng(3)
    chunk = make_up(8, 4, 400).visibilities
    sigma = np.geomspace(0.03, 1.0, 8)  # a span of a thousand in power
    level = np.sqrt(sigma[chunk.antenna1] * sigma[chunk.antenna2])[None, :, None, None]
    data = level * (rng.normal(size=chunk.data.shape) + 1j * rng.normal(size=chunk.data.shape))
    count = rng.uniform(0.5, 1.0, chunk.data.shape)
    noisy = replace(chunk, data=(data / np.sqrt(count)).astype(np.complex64), weights=count.astype(np.float32))
    weighted = with_inverse_variances(noisy, antenna_variances(noisy, 8))
    crosses = chunk.antenna1 != chunk.antenna2
    np.testing.assert_allclose((weighted.weights * level**2 / count)[:, crosses], 1.0, rtol=0.06)
    assert (weighted.weights[:, crosses] * noisy.data[:, crosses].real ** 2).mean() == pytest.approx(1.0, rel=0.02)


def test_an_antenna_without_data_and_data_without_noise_leave_the_weights_as_they_are() -> None:
    chunk = make_up(8, 4, 96).visibilities
    chunk.flags[:, (chunk.antenna1 == 2) | (chunk.antenna2 == 2)] = True
    chunk.data[...] = 1.0
    np.testing.assert_array_equal(antenna_variances(chunk, 8), 1.0)
