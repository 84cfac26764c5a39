"""Sums, gains and correction on made-up visibilities whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from dsa110_contimg.pipeline.correction import correct
from dsa110_contimg.pipeline.normal_sums import NormalSums, accumulate, residual_power
from dsa110_contimg.pipeline.skymodel import C_M_PER_S, channel_steps, direction_cosines, predict_row
from dsa110_contimg.pipeline.solver import Gains, refer_to, stefcal
from fixtures.arrays import FLUX_JY, MadeUp, frequencies_hz, make_up

#: Data and sums are complex64, relative rounding 6e-8, and the iteration stops at 1e-5 of its last step.
SINGLE_PRECISION = 2e-5


def _solve(made: MadeUp, by: str, gains: np.ndarray, bandpass: np.ndarray, **options: float) -> Gains:
    chunk = made.visibilities
    n_times, n_baselines, n_channels, n_pols = chunk.data.shape
    sums = NormalSums.zeros(n_baselines, n_times if by == "time" else n_channels, n_pols)
    accumulate(sums, chunk, made.crosses, made.sources, gains, bandpass, by=by)
    return stefcal(sums, chunk.antenna1, chunk.antenna2, len(made.gains), **options)


def test_the_model_of_a_row_is_the_sum_over_its_sources_across_a_gap_in_the_band() -> None:
    band_hz = frequencies_hz(200)
    lmn = direction_cosines(np.array([0.02, -0.01]), np.array([0.5, 0.52]), 0.0, 0.51)
    flux_jy = np.array([[2.0], [0.5]], np.float32) * np.linspace(1, 2, 200, dtype=np.float32)
    uvw_m = np.array([812.0, -1431.0, 377.0])
    model = np.empty(200, np.complex128)
    predict_row(model, uvw_m, lmn, flux_jy, band_hz, channel_steps(band_hz))
    direct = (flux_jy * np.exp(2j * np.pi * (lmn @ uvw_m)[:, None] * band_hz / C_M_PER_S)).sum(axis=0)
    # phases of 1e3 turns in double precision, 64 recurrences of 1e-16 each
    assert np.abs(model - direct).max() < 1e-10


def test_direction_cosines_keep_their_precision_near_the_phase_centre() -> None:
    l_cosine, m_cosine, n_less_one = direction_cosines(0.1 + 1e-6, 0.4, 0.1, 0.4)
    assert l_cosine == pytest.approx(1e-6 * np.cos(0.4), rel=1e-9)
    assert m_cosine == pytest.approx(1e-12 * np.sin(0.4) * np.cos(0.4) / 2, rel=1e-3)
    assert n_less_one == pytest.approx(-(l_cosine**2 + m_cosine**2) / 2, rel=1e-6)


def test_a_bandpass_is_recovered_to_rounding_where_the_gains_are_known() -> None:
    made = make_up()
    solved = _solve(made, "channel", made.gains, made.unit_bandpass, tolerance=1e-7)
    assert solved.converged.all()
    expected = refer_to(made.bandpass, 0)
    assert np.abs(refer_to(solved.values, 0) / expected - 1).max() < SINGLE_PRECISION


def test_bandpass_and_gains_are_recovered_together_in_two_turns() -> None:
    made = make_up()
    gains = made.unit_gains
    for _ in range(2):
        bandpass = _solve(made, "channel", gains, made.unit_bandpass, tolerance=1e-7).values
        gains = _solve(made, "time", made.unit_gains, bandpass, tolerance=1e-7).values
    whole = gains[:, :, None] * bandpass[:, None]
    expected = made.gains[:, :, None] * made.bandpass[:, None]
    relative = whole / expected
    relative *= np.conj(relative[:1] / np.abs(relative[:1]))
    # the second turn starts from a bandpass that had taken a part of the drift (5 %, 0.1 rad), squared: 1e-5 is left
    assert np.abs(relative - 1).max() < 5e-5


def test_the_errors_of_noisy_gains_are_those_that_theory_gives() -> None:
    noise_jy, n_antennas, n_times, n_channels = 2.0, 20, 10, 400
    made = make_up(n_antennas, n_times, n_channels, noise_jy=noise_jy)
    chunk = made.visibilities
    whole = np.moveaxis(np.abs(made.gains[:, :, None] * made.bandpass[:, None]), 0, 1)
    chunk.weights[...] = (whole[:, chunk.antenna1] * whole[:, chunk.antenna2]) ** -2
    solved = _solve(made, "channel", made.gains, made.unit_bandpass)
    size = np.abs(made.bandpass)
    # one real component of a gain in units of the gain: noise / (S sqrt(baselines x times)); the gains of the other
    # antennas are not known either, which adds 1.4 % (inverse of the Fisher matrix (N - 2) I + J of the amplitudes)
    expected = noise_jy / (FLUX_JY * np.sqrt((n_antennas - 1) * n_times))
    relative = np.abs(solved.values) / size - 1
    # 16 000 numbers: 0.6 %
    assert relative.std() == pytest.approx(1.014 * expected, rel=0.03)
    assert np.median(solved.errors / size) == pytest.approx(expected, rel=0.03)
    assert np.median(solved.snr) == pytest.approx(1 / expected, rel=0.03)


def test_an_antenna_with_too_few_baselines_gets_no_solution_and_the_others_keep_theirs() -> None:
    made = make_up()
    chunk = made.visibilities
    of_seven = (chunk.antenna1 == 7) | (chunk.antenna2 == 7)
    with_the_first = of_seven & ((chunk.antenna1 < 3) | (chunk.antenna2 < 3))
    chunk.flags[:, of_seven & ~with_the_first] = True
    solved = _solve(made, "time", made.unit_gains, made.bandpass)
    others = np.arange(len(made.gains)) != 7
    assert np.isnan(solved.values[7]).all()
    expected = refer_to(made.gains, 0)[others]
    assert np.abs(refer_to(solved.values, 0)[others] / expected - 1).max() < SINGLE_PRECISION


def test_a_channel_without_data_has_no_solution_and_needs_no_iteration() -> None:
    made = make_up()
    made.visibilities.flags[:, :, 11] = True
    made.visibilities.weights[:, :, 12] = 0.0
    solved = _solve(made, "channel", made.gains, made.unit_bandpass)
    assert np.isnan(solved.values[:, 11:13]).all()
    assert (solved.iterations[11:13] == 0).all()
    assert not solved.converged[11:13].any()
    assert (solved.snr[:, 11:13] == 0).all()
    assert np.isfinite(solved.values[:, 13:]).all()


def test_a_solution_that_is_stopped_early_is_not_called_converged() -> None:
    made = make_up()
    solved = _solve(made, "channel", made.gains, made.unit_bandpass, max_iterations=2)
    assert not solved.converged.any()
    assert (solved.iterations == 2).all()


def test_a_sample_without_a_known_gain_takes_no_part() -> None:
    made = make_up()
    known = made.gains.copy()
    known[3, 2] = np.nan
    chunk = made.visibilities
    sums = NormalSums.zeros(chunk.data.shape[1], chunk.data.shape[2], 2)
    accumulate(sums, chunk, made.crosses, made.sources, known, made.unit_bandpass, by="channel")
    of_three = (chunk.antenna1 == 3) ^ (chunk.antenna2 == 3)
    others = (chunk.antenna1 != chunk.antenna2) & (chunk.antenna1 != 3) & (chunk.antenna2 != 3)
    assert (sums.count[of_three] == chunk.data.shape[0] - 1).all()
    assert (sums.count[others] == chunk.data.shape[0]).all()
    assert np.isfinite(sums.cross).all()


def test_a_problem_without_the_reference_antenna_is_left_without_solutions() -> None:
    gains = make_up().gains
    gains[4, 2] = np.nan
    referred = refer_to(gains, 4)
    assert np.isnan(referred[:, 2]).all()
    assert np.abs(np.angle(referred[4, :2])).max() < 1e-6


def test_corrected_visibilities_are_the_model_with_the_weights_of_their_gains() -> None:
    made = make_up()
    chunk = made.visibilities
    gains = made.gains.copy()
    gains[5, 1] = np.nan
    correct(chunk.data, chunk.flags, chunk.weights, chunk.antenna1, chunk.antenna2, gains, made.bandpass, 0)
    lost = (chunk.antenna1 == 5) | (chunk.antenna2 == 5)
    assert chunk.flags[1, lost].all()
    assert (chunk.data[1, lost] == 0).all()
    assert (chunk.weights[1, lost] == 0).all()
    assert not chunk.flags[:, ~lost].any()
    kept = chunk.data[0]
    assert np.abs(kept).mean() == pytest.approx(FLUX_JY, rel=1e-6)
    p, q = chunk.antenna1[10], chunk.antenna2[10]
    modulus = np.abs(made.gains[p, 0] * made.bandpass[p] * made.gains[q, 0] * made.bandpass[q])
    np.testing.assert_allclose(chunk.weights[0, 10], modulus**2, rtol=1e-5)


def test_the_residual_power_is_the_variance_of_the_noise_plus_what_is_not_in_the_model() -> None:
    noise_jy, stranger_jy = 1.5, 4.0
    made = make_up(16, 4, 200, noise_jy=noise_jy)
    chunk = made.visibilities
    whole = made.gains[:, 2, None] * made.bandpass
    chunk.data[2, :, 50] += stranger_jy * (whole[chunk.antenna1] * np.conj(whole[chunk.antenna2]))[:, 50]
    power, count = residual_power(chunk, made.crosses, made.sources, made.gains, made.bandpass)
    assert (count == 2 * made.crosses[0].sum()).all()
    clean = np.delete(power[2], 50)
    # 240 samples a mean, exponentially distributed: 6 % each; the mean of 199 means to 0.5 %, tested at 4 sigma
    assert clean.mean() == pytest.approx(2 * noise_jy**2, rel=0.02)
    assert power[2, 50] == pytest.approx(2 * noise_jy**2 + stranger_jy**2, rel=0.15)


def test_flags_do_not_hide_residual_power() -> None:
    made = make_up()
    flagged = replace(made.visibilities, flags=np.ones_like(made.visibilities.flags))
    _, count = residual_power(flagged, made.crosses, made.sources, made.gains, made.bandpass)
    assert (count > 0).all()
