"""Gains of antennas from visibilities and a model: least squares, one independent problem per channel or integration.

From the sums R, Q, S and N of `normal_sums`, `stefcal` (Salvini & Wijnholds 2014, A&A 571, A97, algorithm 1) repeats,
for all antennas of a problem,

    g_p = sum_q R_pq g_q / sum_q Q_pq |g_q|^2                                                              (1)

averaging with the previous value on every second turn, until the relative change is below a tolerance. The error of
g_p comes from the problem's own residual: with chi^2 = sum (S - 2 Re(conj(g_p) R g_q) + Q |g_p|^2 |g_q|^2) over n
complex samples and k antennas, the variance of each real component is chi^2 / (2 n - 2 k) / sum_q Q_pq |g_q|^2.

Arrays over baselines are (n_baselines, n_problems, n_polarisations); gains are (n_antennas, n_problems,
n_polarisations), NaN where there is no solution.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.pipeline.compiled import compiled
from dsa110_contimg.pipeline.normal_sums import NormalSums
from dsa110_contimg.pipeline.visibilities import Bools, Complex, Floats, Indices


@dataclass(frozen=True)
class Gains:
    """Solutions of many problems.

    Parameters
    ----------
    values, errors : ndarray (n_antennas, n_problems, n_polarisations)
        Complex gains and the standard error of each of their real components; NaN where there is no solution.
    iterations : ndarray (n_problems, n_polarisations) of int32
        Turns of eq. 1 that were needed; 0 where a problem had nothing to solve.
    converged : ndarray (n_problems, n_polarisations) of bool
        Whether the change fell below the tolerance.
    """

    values: Complex
    errors: Floats
    iterations: Indices
    converged: Bools

    @property
    def snr(self) -> Floats:
        """Amplitude over its standard error; 0 where there is no solution, 1e9 where there is no error."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(np.abs(self.values) / self.errors, nan=0.0, posinf=1e9).astype(np.float32)


@compiled()
def _usable_antennas(usable: Bools, power: Floats, antenna1: Indices, antenna2: Indices, minimum: int) -> int:
    """Mark the antennas that share at least ``minimum`` measured baselines with other marked ones; return how many."""
    usable[:] = True
    left, before = usable.shape[0], -1
    while left != before:
        before = left
        partners = np.zeros(usable.shape[0], np.int32)
        for baseline in range(power.shape[0]):
            p, q = antenna1[baseline], antenna2[baseline]
            if power[baseline] > 0.0 and usable[p] and usable[q]:
                partners[p] += 1
                partners[q] += 1
        left = 0
        for antenna in range(usable.shape[0]):
            usable[antenna] = partners[antenna] >= minimum
            left += usable[antenna]
    return int(left)


@compiled()
def _iterate(
    gains: NDArray[np.complex128],
    usable: Bools,
    cross: Complex,
    power: Floats,
    antenna1: Indices,
    antenna2: Indices,
    tolerance: float,
    max_iterations: int,
) -> int:
    """Turn eq. 1 until it converges; return the number of turns, negative if the limit was reached."""
    n_antennas = gains.shape[0]
    numerator = np.empty(n_antennas, np.complex128)
    denominator = np.empty(n_antennas, np.float64)
    for iteration in range(1, max_iterations + 1):
        numerator[:] = 0.0
        denominator[:] = 0.0
        for baseline in range(power.shape[0]):
            p, q = antenna1[baseline], antenna2[baseline]
            if power[baseline] > 0.0 and usable[p] and usable[q]:
                numerator[p] += cross[baseline] * gains[q]
                numerator[q] += np.conj(cross[baseline]) * gains[p]
                denominator[p] += power[baseline] * (gains[q].real ** 2 + gains[q].imag ** 2)
                denominator[q] += power[baseline] * (gains[p].real ** 2 + gains[p].imag ** 2)
        change, size = 0.0, 0.0
        for antenna in range(n_antennas):
            if not usable[antenna]:
                continue
            new = numerator[antenna] / denominator[antenna]
            if iteration % 2 == 0:
                new = 0.5 * (new + gains[antenna])
            step = new - gains[antenna]
            change += step.real**2 + step.imag**2
            size += new.real**2 + new.imag**2
            gains[antenna] = new
        # only the averaged turns are compared: the others swing about the solution
        if iteration % 2 == 0 and change <= tolerance**2 * size:
            return iteration
    return -max_iterations


@compiled()
def _component_variances(
    variances: NDArray[np.float64],
    gains: NDArray[np.complex128],
    usable: Bools,
    cross: Complex,
    power: Floats,
    data_power: Floats,
    count: Floats,
    antenna1: Indices,
    antenna2: Indices,
) -> None:
    """Write the variance of each real component of each gain, from the problem's residual."""
    chi_squared, samples = 0.0, 0.0
    information = np.zeros(gains.shape[0])
    for baseline in range(power.shape[0]):
        p, q = antenna1[baseline], antenna2[baseline]
        if power[baseline] > 0.0 and usable[p] and usable[q]:
            size_p = gains[p].real ** 2 + gains[p].imag ** 2
            size_q = gains[q].real ** 2 + gains[q].imag ** 2
            agreement = (np.conj(gains[p]) * cross[baseline] * gains[q]).real
            chi_squared += data_power[baseline] - 2.0 * agreement + power[baseline] * size_p * size_q
            samples += count[baseline]
            information[p] += power[baseline] * size_q
            information[q] += power[baseline] * size_p
    freedom = max(2.0 * samples - 2.0 * usable.sum(), 1.0)
    for antenna in range(gains.shape[0]):
        if usable[antenna]:
            variances[antenna] = max(chi_squared, 0.0) / freedom / information[antenna]


@compiled(parallel=True)
def _stefcal(
    values: Complex,
    errors: Floats,
    iterations: Indices,
    cross: Complex,
    power: Floats,
    data_power: Floats,
    count: Floats,
    antenna1: Indices,
    antenna2: Indices,
    minimum_baselines: int,
    tolerance: float,
    max_iterations: int,
) -> None:
    n_antennas, n_problems, n_pols = values.shape
    for index in prange(n_problems * n_pols):
        problem, pol = index // n_pols, index % n_pols
        # one problem's sums side by side: the iteration reads them some tens of times
        problem_cross = cross[:, problem, pol].copy()
        problem_power = power[:, problem, pol].copy()
        usable = np.empty(n_antennas, np.bool_)
        n_usable = _usable_antennas(usable, problem_power, antenna1, antenna2, minimum_baselines)
        if n_usable == 0:
            continue
        gains = np.empty(n_antennas, np.complex128)
        start = np.abs(problem_cross).sum() / problem_power.sum()
        gains[:] = math.sqrt(max(start, 1e-30))
        iterations[problem, pol] = _iterate(
            gains, usable, problem_cross, problem_power, antenna1, antenna2, tolerance, max_iterations
        )
        variances = np.empty(n_antennas, np.float64)
        _component_variances(
            variances, gains, usable, problem_cross, problem_power,
            data_power[:, problem, pol].copy(), count[:, problem, pol].copy(), antenna1, antenna2,
        )  # fmt: skip
        for antenna in range(n_antennas):
            if usable[antenna]:
                values[antenna, problem, pol] = gains[antenna]
                errors[antenna, problem, pol] = math.sqrt(variances[antenna])


def stefcal(
    sums: NormalSums,
    antenna1: Indices,
    antenna2: Indices,
    n_antennas: int,
    *,
    minimum_baselines: int = 4,
    tolerance: float = 1e-5,
    max_iterations: int = 200,
) -> Gains:
    """Solve every problem of the sums by eq. 1, each from a flat start.

    Parameters
    ----------
    antenna1, antenna2 : ndarray (n_baselines,) of int32
        Antennas of each baseline of the sums.
    minimum_baselines : int
        An antenna with fewer measured baselines in a problem gets no solution there.
    tolerance : float
        Relative change of the gains, root sum square over antennas, at which a problem is solved.
    """
    _, n_problems, n_pols = sums.power.shape
    values = np.full((n_antennas, n_problems, n_pols), np.nan + 1j * np.nan, np.complex64)
    errors = np.full((n_antennas, n_problems, n_pols), np.nan, np.float32)
    iterations = np.zeros((n_problems, n_pols), np.int32)
    _stefcal(
        values, errors, iterations, sums.cross, sums.power, sums.data, sums.count, antenna1, antenna2,
        minimum_baselines, tolerance, max_iterations,
    )  # fmt: skip
    return Gains(values, errors, np.abs(iterations), iterations > 0)


def refer_to(gains: Complex, reference: int) -> Complex:
    """Rotate every problem so that the reference antenna has phase zero.

    Where the reference antenna itself has no solution, the problem is left without solutions: its phases could not be
    compared with those of other problems.
    """
    with np.errstate(invalid="ignore"):
        phasor = gains[reference] / np.abs(gains[reference])
    referred: Complex = (gains * np.conj(phasor)).astype(np.complex64)
    return referred
