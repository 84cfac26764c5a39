"""Sums over visibilities that a least-squares solution for antenna gains needs.

The measurement equation of one polarisation without leakage (Hamaker, Bregman & Sault 1996, A&AS 117, 137; scalar form)
is

    V_pq(t, nu) = g_p(t) b_p(nu) M_pq(t, nu) conj(g_q(t) b_q(nu)) + noise                                  (1)

One kernel makes the sums, one per baseline and *problem*: one channel, all integrations, for the bandpass b; or one
integration, all channels, for the gains g. What is known of the other factor goes into the model M:

    R_pq = sum w V conj(M),   Q_pq = sum w |M|^2,   S_pq = sum w |V|^2,   N_pq = number of samples         (2)

Arrays over baselines are (n_baselines, n_problems, n_polarisations).
"""

from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.pipeline.compiled import compiled
from dsa110_contimg.pipeline.skymodel import PointSources, channel_steps, predict_row
from dsa110_contimg.pipeline.visibilities import Bools, Complex, Floats, Indices, Visibilities


@dataclass(frozen=True)
class NormalSums:
    """Sums of eq. 2, each (n_baselines, n_problems, n_polarisations)."""

    cross: Complex
    power: Floats
    data: Floats
    count: Floats

    @classmethod
    def zeros(cls, n_baselines: int, n_problems: int, n_polarisations: int) -> "NormalSums":
        """Return empty sums."""
        shape = (n_baselines, n_problems, n_polarisations)
        return cls(np.zeros(shape, np.complex64), *(np.zeros(shape, np.float32) for _ in range(3)))


@compiled(parallel=True)
def _accumulate(
    cross: Complex,
    power: Floats,
    data_power: Floats,
    count: Floats,
    data: Complex,
    flags: Bools,
    weights: Floats,
    uvw_m: NDArray[np.float64],
    antenna1: Indices,
    antenna2: Indices,
    use: Bools,
    lmn: NDArray[np.float64],
    flux_jy: Floats,
    frequencies_hz: NDArray[np.float64],
    steps_hz: NDArray[np.float64],
    gains: Complex,
    bandpass: Complex,
    per_time: int,
    per_channel: int,
    first_time: int,
) -> None:
    n_times, n_baselines, n_channels, n_pols = data.shape
    for baseline in prange(n_baselines):
        p, q = antenna1[baseline], antenna2[baseline]
        model = np.empty(n_channels, np.complex128)
        for time in range(n_times):
            if not use[time, baseline]:
                continue
            predict_row(model, uvw_m[time, baseline], lmn, flux_jy[:, first_time + time], frequencies_hz, steps_hz)
            for channel in range(n_channels):
                problem = per_time * (first_time + time) + per_channel * channel
                for pol in range(n_pols):
                    weight = weights[time, baseline, channel, pol]
                    if flags[time, baseline, channel, pol] or not weight > 0.0:
                        continue
                    known = (
                        gains[p, first_time + time, pol]
                        * bandpass[p, channel, pol]
                        * np.conj(gains[q, first_time + time, pol] * bandpass[q, channel, pol])
                    )
                    expected = np.complex64(model[channel]) * known
                    expected_power = expected.real**2 + expected.imag**2
                    # NaN in a known factor makes the power NaN: the comparison drops the sample
                    if not expected_power > 0.0:
                        continue
                    value = data[time, baseline, channel, pol]
                    cross[baseline, problem, pol] += weight * value * np.conj(expected)
                    power[baseline, problem, pol] += weight * expected_power
                    data_power[baseline, problem, pol] += weight * (value.real**2 + value.imag**2)
                    count[baseline, problem, pol] += 1.0


def accumulate(
    sums: NormalSums,
    chunk: Visibilities,
    use: Bools,
    sources: PointSources,
    gains: Complex,
    bandpass: Complex,
    *,
    by: str,
    first_time: int = 0,
) -> None:
    """Add a run of integrations to the sums of eq. 2.

    Parameters
    ----------
    use : ndarray (n_times, n_baselines) of bool
        Rows that take part.
    gains, bandpass : ndarray (n_antennas, n_all_times, n_pols), (n_antennas, n_channels, n_pols) of complex64
        What is known so far (ones at first); a sample with NaN among its factors takes no part.
    by : {"channel", "time", "all"}
        What makes a problem: each channel (bandpass), each integration (gains), or everything together.
    first_time : int
        Index of the run's first integration within ``gains`` and ``sources``.
    """
    _accumulate(
        sums.cross, sums.power, sums.data, sums.count,
        chunk.data, chunk.flags, chunk.weights, chunk.uvw_m, chunk.antenna1, chunk.antenna2, use,
        sources.lmn, sources.apparent_flux_jy, chunk.frequencies_hz, channel_steps(chunk.frequencies_hz),
        gains, bandpass, int(by == "time"), int(by == "channel"), first_time,
    )  # fmt: skip


@compiled(parallel=True)
def _residual_power(
    power: Floats,
    count: Floats,
    data: Complex,
    weights: Floats,
    uvw_m: NDArray[np.float64],
    antenna1: Indices,
    antenna2: Indices,
    use: Bools,
    lmn: NDArray[np.float64],
    flux_jy: Floats,
    frequencies_hz: NDArray[np.float64],
    steps_hz: NDArray[np.float64],
    gains: Complex,
    bandpass: Complex,
    first_time: int,
) -> None:
    n_times, n_baselines, n_channels, n_pols = data.shape
    for baseline in prange(n_baselines):
        p, q = antenna1[baseline], antenna2[baseline]
        model = np.empty(n_channels, np.complex128)
        for time in range(n_times):
            if not use[time, baseline]:
                continue
            predict_row(model, uvw_m[time, baseline], lmn, flux_jy[:, first_time + time], frequencies_hz, steps_hz)
            for channel in range(n_channels):
                for pol in range(n_pols):
                    weight = weights[time, baseline, channel, pol]
                    known = (
                        gains[p, first_time + time, pol]
                        * bandpass[p, channel, pol]
                        * np.conj(gains[q, first_time + time, pol] * bandpass[q, channel, pol])
                    )
                    size = known.real**2 + known.imag**2
                    # NaN in a known factor fails the comparison
                    if weight > 0.0 and size > 0.0:
                        residual = data[time, baseline, channel, pol] / known - np.complex64(model[channel])
                        power[baseline, time, channel] += residual.real**2 + residual.imag**2
                        count[baseline, time, channel] += 1.0


def residual_power(
    chunk: Visibilities, use: Bools, sources: PointSources, gains: Complex, bandpass: Complex, first_time: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of |V / (g_p conj(g_q)) - M|^2 over baselines and polarisations, and its number of samples.

    Flags are not looked at: they were found on single baselines, and what they hide there is what shows here.

    Parameters
    ----------
    As of `accumulate`.

    Returns
    -------
    mean, count : ndarray (n_times, n_channels)
        Jy^2, and a number; NaN and 0 where no sample has a solution.
    """
    n_times, n_baselines, n_channels, _ = chunk.data.shape
    power, count = (np.zeros((n_baselines, n_times, n_channels), np.float32) for _ in range(2))
    _residual_power(
        power, count,
        chunk.data, chunk.weights, chunk.uvw_m, chunk.antenna1, chunk.antenna2, use,
        sources.lmn, sources.apparent_flux_jy, chunk.frequencies_hz, channel_steps(chunk.frequencies_hz),
        gains, bandpass, first_time,
    )  # fmt: skip
    samples = count.sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return power.sum(axis=0, dtype=np.float64) / samples, samples
