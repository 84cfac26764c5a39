"""How noisy each antenna is, from the visibilities themselves; so that weights are inverse variances.

The correlator's weights count samples and know nothing of noise. In raw units the noise of a baseline is proportional
to the electronic gains of both antennas, which differ by more than an order of magnitude over the array; in Jy it is
the geometric mean of their system-equivalent flux densities. So it is measured.

The second difference of three neighbouring channels, d = V_1 - 2 V_2 + V_3, holds no signal to second order in the turn
of the fringe from channel to channel, and has the variance sigma_pq^2 (1/w_1 + 4/w_2 + 1/w_3) in each part. Its squared
modulus is distributed exponentially: the median, which interference does not carry away, is 2 ln 2 times that. By the
radiometer equation (Thompson, Moran & Swenson 2017, eq. 6.50) sigma_pq^2 is a product of what belongs to p and what
belongs to q,

    ln sigma_pq^2 = a_p + a_q,                                                                             (1)

which is solved by least squares over all baselines.
"""

from dataclasses import replace

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.pipeline.compiled import compiled
from dsa110_contimg.pipeline.visibilities import Bools, Complex, Floats, Visibilities

#: Integrations that are looked at: with 768 channels they give a baseline's noise to 2 %, an antenna's far better.
INTEGRATIONS = 4


@compiled(parallel=True)
def _medians(medians: NDArray[np.float64], data: Complex, flags: Bools, weights: Floats) -> None:
    n_times, n_baselines, n_channels, n_pols = data.shape
    for baseline in prange(n_baselines):
        for pol in range(n_pols):
            squares = np.empty(n_times * n_channels)
            count = 0
            for time in range(n_times):
                for channel in range(1, n_channels - 1):
                    variance = 0.0
                    for offset in range(-1, 2):
                        weight = weights[time, baseline, channel + offset, pol]
                        if flags[time, baseline, channel + offset, pol] or not weight > 0.0:
                            variance = np.inf
                        else:
                            variance += (4.0 if offset == 0 else 1.0) / weight
                    if variance < np.inf:
                        left, right = data[time, baseline, channel - 1, pol], data[time, baseline, channel + 1, pol]
                        difference = left - 2.0 * data[time, baseline, channel, pol] + right
                        squares[count] = (difference.real**2 + difference.imag**2) / variance
                        count += 1
            if count > 0:
                medians[baseline, pol] = np.median(squares[:count])


def antenna_variances(chunk: Visibilities, n_antennas: int) -> NDArray[np.float64]:
    """Return exp(a_p) of eq. 1: the variance of a sample of unit weight is the product of both antennas' values.

    Parameters
    ----------
    chunk : Visibilities
        A run of integrations, of which the first `INTEGRATIONS` are used; autocorrelations are left out.

    Returns
    -------
    ndarray (n_antennas, n_polarisations)
        In units of the data; 1 for an antenna without unflagged samples, and everywhere if the data hold no noise.
    """
    some = slice(0, INTEGRATIONS)
    medians = np.zeros((chunk.data.shape[1], chunk.data.shape[3]))
    _medians(medians, chunk.data[some], chunk.flags[some], chunk.weights[some])
    variances = np.ones((n_antennas, medians.shape[1]))
    crosses = chunk.antenna1 != chunk.antenna2
    for pol in range(medians.shape[1]):
        measured = np.flatnonzero(crosses & (medians[:, pol] > 0))
        design = np.zeros((len(measured), n_antennas))
        rows = np.arange(len(measured))
        design[rows, chunk.antenna1[measured]] = design[rows, chunk.antenna2[measured]] = 1.0
        logarithms = np.log(medians[measured, pol] / (2.0 * np.log(2.0)))
        variances[:, pol] = np.exp(np.linalg.lstsq(design, logarithms, rcond=None)[0])
    return variances


def with_inverse_variances(chunk: Visibilities, variances: NDArray[np.float64]) -> Visibilities:
    """Return the visibilities with weights that are inverse variances of each of their real components."""
    product = variances[chunk.antenna1] * variances[chunk.antenna2]
    return replace(chunk, weights=(chunk.weights / product[None, :, None, :]).astype(np.float32))
