"""Interference and dead antennas in made-up visibilities."""

from dataclasses import replace

import numpy as np
import pytest

from dsa110_contimg.pipeline import antenna_health, rfi
from dsa110_contimg.pipeline.array import sample_noise_jy
from fixtures.arrays import MadeUp, make_up

NOISE_JY = sample_noise_jy()


@pytest.fixture(scope="module")
def noisy() -> MadeUp:
    """Sixteen antennas with the telescope's noise: the source of 8 Jy stands at 3.5 sigma of a sample."""
    return make_up(16, 24, 384, noise_jy=NOISE_JY)


def _dead(made: MadeUp, data: np.ndarray) -> np.ndarray:
    chunk = made.visibilities
    statistics = antenna_health.measure([replace(chunk, data=data)])
    return antenna_health.find_dead(statistics, chunk.antenna1, chunk.antenna2, len(made.gains))


def _of(made: MadeUp, antenna: int) -> np.ndarray:
    chunk = made.visibilities
    return (chunk.antenna1 == antenna) ^ (chunk.antenna2 == antenna)


def test_no_antenna_is_dead_without_a_fault(noisy: MadeUp) -> None:
    assert not _dead(noisy, noisy.visibilities.data).any()


def test_an_antenna_that_receives_noise_at_its_usual_level_is_dead(noisy: MadeUp) -> None:
    data = noisy.visibilities.data.copy()
    rng = np.random.default_rng(5)
    rows = _of(noisy, 6)
    level = np.abs(data[:, rows]).mean() / np.sqrt(np.pi / 2)
    shape = data[:, rows].shape
    data[:, rows] = level * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
    assert np.flatnonzero(_dead(noisy, data)).tolist() == [6]


@pytest.mark.parametrize("factor", [0.0, 0.05, 30.0], ids=["silent", "too weak", "too strong"])
def test_an_antenna_of_the_wrong_level_is_dead(noisy: MadeUp, factor: float) -> None:
    data = noisy.visibilities.data.copy()
    data[:, _of(noisy, 9)] *= factor
    assert np.flatnonzero(_dead(noisy, data)).tolist() == [9]


def test_an_antenna_with_one_dead_polarisation_is_dead(noisy: MadeUp) -> None:
    data = noisy.visibilities.data.copy()
    data[:, _of(noisy, 2), :, 1] *= 0.02
    assert np.flatnonzero(_dead(noisy, data)).tolist() == [2]


def test_strong_interference_makes_no_antenna_dead(noisy: MadeUp) -> None:
    data = noisy.visibilities.data.copy()
    data[:, :, 100:116] += 100 * np.abs(data).mean()
    assert not _dead(noisy, data).any()


def test_without_any_signal_antennas_of_equal_level_count_as_live() -> None:
    made = make_up(16, 6, 192)
    rng = np.random.default_rng(6)
    shape = made.visibilities.data.shape
    assert not _dead(made, (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)).any()


def _plant(made: MadeUp, strength_jy: float) -> tuple[np.ndarray, np.ndarray]:
    """Add a lasting carrier, a burst and a pulse to all baselines; return data and where it is, (time, channel)."""
    rng = np.random.default_rng(7)
    chunk = made.visibilities
    where = np.zeros((24, 384), np.bool_)
    where[:, 200] = where[5:7, 30:60] = where[15, 250:350] = True
    phase = np.exp(2j * np.pi * rng.uniform(size=(24, len(made.gains), 1)))
    whole = np.moveaxis(made.gains[:, :, None] * made.bandpass[:, None], 0, 1) * phase[..., None]
    added = strength_jy * whole[:, chunk.antenna1] * np.conj(whole[:, chunk.antenna2])
    return (chunk.data + added * where[:, None, :, None]).astype(np.complex64), where


def test_aoflagger_finds_planted_interference_and_little_else(noisy: MadeUp) -> None:
    data, where = _plant(noisy, 40.0)
    crosses = noisy.crosses[0]
    found = np.moveaxis(rfi.run_aoflagger(data, np.zeros(data.shape, np.bool_))[:, crosses], 1, 0)
    assert found[:, where].mean() > 0.9  # what it misses is where signal and interference happen to cancel
    # noise above the base threshold (1 %), and what the scale-invariant rank operator adds beside it
    assert found[:, ~where].mean() < 0.04


def test_aoflagger_leaves_known_bad_samples_out_of_what_it_finds(noisy: MadeUp) -> None:
    data, _ = _plant(noisy, 40.0)
    bad = np.zeros(data.shape, np.bool_)
    bad[:, :, 100:150] = True
    data[:, :, 100:150] = np.nan
    found = rfi.run_aoflagger(data, bad)
    assert not found[:, :, 100:150].any()
    assert found[:, 1, 160:].mean() < 0.2


def test_the_array_sees_what_no_baseline_sees() -> None:
    rng = np.random.default_rng(8)
    n_samples, noise_jy = 1500, 2.3
    count = np.full((24, 768), float(n_samples))
    usual = 2 * noise_jy**2 * (1 + 0.2 * np.sin(np.arange(768) / 90.0))
    power = usual * (1 + rng.normal(size=count.shape) / np.sqrt(n_samples))
    where = np.zeros(count.shape, np.bool_)
    where[:, 300:303] = where[4:6, 100:130] = where[11, 400:700] = True
    weak_jy = 2.0  # below the noise of one sample
    found = rfi.array_outliers(power + where * weak_jy**2, count)
    assert found[where].mean() == 1.0
    # 18 432 normal numbers, none beyond 6 sigma
    assert not found[~where].any()


def test_integrations_and_channels_without_samples_are_no_outliers() -> None:
    rng = np.random.default_rng(9)
    power = 10 * (1 + 0.02 * rng.normal(size=(6, 200)))
    power[2] = np.nan
    power[:, 50] = np.nan
    power[4, 120] = 20.0
    found = rfi.array_outliers(power, np.full(power.shape, 2500.0))
    assert np.argwhere(found).tolist() == [[4, 120]]
