"""Averaging in frequency, and the noise of visibilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.pipeline.array import CHANNEL_WIDTH_HZ
from dsa110_contimg.pipeline.averaging import (
    FACTORS,
    average_channels,
    averaging_factor,
    channel_bins,
    robust_sigma,
    second_differences,
)
from dsa110_contimg.pipeline.skymodel import C_M_PER_S

RADIUS_RAD = np.radians(2.4)
BAND_HZ = 1.311e9 + CHANNEL_WIDTH_HZ * np.arange(768)


@given(st.floats(0, 3000), st.floats(0.001, 0.05))
def test_the_chosen_factor_loses_at_most_the_allowed_amplitude_and_the_next_one_more(
    length_m: float, max_loss: float
) -> None:
    factor = averaging_factor(length_m, CHANNEL_WIDTH_HZ, RADIUS_RAD, max_loss)

    def loss(n: int) -> float:
        """Loss at the edge of the field, from the definition: the mean phasor over the averaged band."""
        turns = length_m * RADIUS_RAD * CHANNEL_WIDTH_HZ * n / C_M_PER_S
        return 1 - abs(np.exp(2j * np.pi * turns * (np.arange(4000) + 0.5) / 4000).mean())

    assert factor == 1 or loss(factor) <= max_loss + 1e-6
    larger = [n for n in FACTORS if n > factor]
    assert not larger or loss(larger[0]) >= max_loss - 1e-6


def test_bins_never_span_a_missing_subband() -> None:
    present = np.r_[0:46, 96:144]  # the first run is no multiple of the factor
    bins = channel_bins(BAND_HZ[present], 4)
    assert np.array_equal(np.bincount(bins), [4] * 11 + [2] + [4] * 12)
    assert all(np.ptp(BAND_HZ[present][bins == number]) < 4 * CHANNEL_WIDTH_HZ for number in range(bins[-1] + 1))


def test_one_channel_makes_one_bin() -> None:
    assert channel_bins(BAND_HZ[:1], 4).tolist() == [0]


def test_averages_are_weighted_means_of_both_polarisations_and_flagged_samples_take_no_part() -> None:
    data = np.array([[[1, 3], [5, 100], [2, 2], [100, 100]]], np.complex64)
    weight = np.array([[[1, 1], [2, 0], [1, 3], [0, 0]]], np.float32)
    vis, out_weight = np.full((1, 3), 9, np.complex64), np.zeros((1, 3), np.float32)
    average_channels(data, weight, np.array([0, 0, 1, 2]), vis, out_weight)
    assert vis[0].tolist() == [(1 + 3 + 2 * 5) / 4, 2, 0]
    assert out_weight[0].tolist() == [4, 4, 0]


def test_the_noise_is_found_below_bright_sources_interference_and_unequal_weights() -> None:
    """240 000 numbers: the median absolute deviation is right to 0.3 % (1.17 / sqrt(2 n)), five times that allowed."""
    rng = np.random.default_rng(3)
    sigma_jy, shape = 2.4, (80, 768, 2)
    weight = rng.choice([1.0, 4.0], shape).astype(np.float32)
    noise = sigma_jy * (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(weight)
    sky = 20 * np.exp(2j * np.pi * 10e-9 * BAND_HZ)[:, None]  # 3 m of path
    data = (noise + sky).astype(np.complex64)
    data[:, 100:110] += 500
    weight[:, 300:320] = 0
    assert robust_sigma(second_differences(data, weight)) == pytest.approx(sigma_jy, rel=0.02)


def test_second_differences_skip_flagged_triples() -> None:
    weight = np.ones((1, 5, 1), np.float32)
    weight[0, 2] = 0
    assert second_differences(np.ones((1, 5, 1), np.complex64), weight).size == 0


def test_the_robust_deviation_ignores_what_is_not_finite_and_of_nothing_is_no_number() -> None:
    values = np.r_[np.random.default_rng(1).normal(size=100_000), np.nan, np.inf, np.full(1000, 1e6)]
    assert robust_sigma(values) == pytest.approx(1.0, rel=0.03)
    assert np.isnan(robust_sigma(np.array([np.nan])))
