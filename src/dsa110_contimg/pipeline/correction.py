"""Kernel that divides visibilities by the gains of their antennas."""

import numpy as np
from numba import prange

from dsa110_contimg.pipeline.compiled import compiled
from dsa110_contimg.pipeline.visibilities import Bools, Complex, Floats, Indices


@compiled(parallel=True)
def correct(
    data: Complex,
    flags: Bools,
    weights: Floats,
    antenna1: Indices,
    antenna2: Indices,
    gains: Complex,
    bandpass: Complex,
    first_time: int,
) -> None:
    """Divide visibilities by their gains in place, and give each the weight that it then deserves.

    V is divided by g_p b_p conj(g_q b_q), its weight multiplied by the squared modulus of the same; a sample without a
    solution is flagged, set to zero and given no weight. Arrays as in `Visibilities`; ``first_time`` is the index of
    the first integration within ``gains``.
    """
    n_times, n_baselines, n_channels, n_pols = data.shape
    for baseline in prange(n_baselines):
        p, q = antenna1[baseline], antenna2[baseline]
        for time in range(n_times):
            for channel in range(n_channels):
                for pol in range(n_pols):
                    factor = (
                        gains[p, first_time + time, pol]
                        * bandpass[p, channel, pol]
                        * np.conj(gains[q, first_time + time, pol] * bandpass[q, channel, pol])
                    )
                    power = factor.real**2 + factor.imag**2
                    if power > 0.0:
                        data[time, baseline, channel, pol] /= factor
                        weights[time, baseline, channel, pol] *= power
                    else:
                        data[time, baseline, channel, pol] = 0.0
                        weights[time, baseline, channel, pol] = 0.0
                        flags[time, baseline, channel, pol] = True
