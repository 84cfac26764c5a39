"""Which antennas are dead, from uncalibrated visibilities: before anything is solved, and without any model.

Two figures are made of every baseline, over its unflagged samples of all times, channels and polarisations:

- the mean logarithm of the amplitude, a geometric mean: interference on a few per cent of the samples moves it little;
- the coherence between neighbouring channels, |mean of u_c conj(u_{c+1})| with u = V / |V|. Noise has none; the signal
  of any source has, because its phase hardly turns from one channel to the next, and since amplitudes do not enter,
  interference on a fraction f of the samples cannot raise it by more than about f.

An antenna's figure is the median over its baselines. One whose amplitude is far from the median of all antennas, or
whose coherence is far below it where the others see coherent signal, takes no part in the array.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.pipeline.compiled import compiled
from dsa110_contimg.pipeline.visibilities import Visibilities

#: An antenna is dead if its amplitude differs from the median antenna's by this factor, either way. Live gains of the
#: telescope spread by a factor of about 2.
AMPLITUDE_FACTOR = 6.0
#: An antenna is dead if its coherence is below this fraction of the median antenna's ...
COHERENCE_FRACTION = 0.2
#: ... provided that the median stands this many times above what pure noise gives.
COHERENCE_SIGNIFICANCE = 8.0


@dataclass(frozen=True)
class BaselineStatistics:
    """Sums over the samples of each baseline and polarisation, (n_baselines, n_polarisations).

    Parameters
    ----------
    log_amplitude : ndarray of float64
        Sum of ln |V|, V in the data's units.
    products : ndarray of complex128
        Sum of u_c conj(u_{c+1}) over pairs of unflagged neighbouring channels.
    samples, pairs : ndarray of float64
        Numbers of samples and of pairs.
    """

    log_amplitude: NDArray[np.float64]
    products: NDArray[np.complex128]
    samples: NDArray[np.float64]
    pairs: NDArray[np.float64]


@compiled(parallel=True)
def _add_statistics(
    log_amplitude: NDArray[np.float64],
    products: NDArray[np.complex128],
    samples: NDArray[np.float64],
    pairs: NDArray[np.float64],
    data: NDArray[np.complex64],
    flags: NDArray[np.bool_],
) -> None:
    n_times, n_baselines, n_channels, n_pols = data.shape
    for baseline in prange(n_baselines):
        for pol in range(n_pols):
            for time in range(n_times):
                previous = 0.0 + 0.0j
                for channel in range(n_channels):
                    value = data[time, baseline, channel, pol]
                    amplitude = abs(value)
                    if flags[time, baseline, channel, pol] or not amplitude > 0.0:
                        previous = 0.0 + 0.0j
                        continue
                    phasor = value / amplitude
                    log_amplitude[baseline, pol] += np.log(amplitude)
                    samples[baseline, pol] += 1.0
                    if previous != 0.0:
                        products[baseline, pol] += phasor * np.conj(previous)
                        pairs[baseline, pol] += 1.0
                    previous = phasor


def measure(chunks: Iterable[Visibilities]) -> BaselineStatistics:
    """Sum the statistics of every baseline over runs of integrations."""
    total: BaselineStatistics | None = None
    for chunk in chunks:
        if total is None:
            shape = (chunk.data.shape[1], chunk.data.shape[3])
            total = BaselineStatistics(
                np.zeros(shape), np.zeros(shape, np.complex128), np.zeros(shape), np.zeros(shape)
            )
        _add_statistics(total.log_amplitude, total.products, total.samples, total.pairs, chunk.data, chunk.flags)
    if total is None:
        raise ValueError("no integrations to measure")
    return total


def _median_over_baselines(
    figures: NDArray[np.float64], antenna1: NDArray[np.int32], antenna2: NDArray[np.int32], n_antennas: int
) -> NDArray[np.float64]:
    """Return each antenna's median over its cross baselines; NaN where it has none measured."""
    medians = np.full((n_antennas, figures.shape[1]), np.nan)
    for antenna in range(n_antennas):
        own = ((antenna1 == antenna) | (antenna2 == antenna)) & (antenna1 != antenna2)
        rows = figures[own]
        for pol in range(figures.shape[1]):
            measured = rows[np.isfinite(rows[:, pol]), pol]
            if len(measured):
                medians[antenna, pol] = np.median(measured)
    return medians


def find_dead(
    statistics: BaselineStatistics, antenna1: NDArray[np.int32], antenna2: NDArray[np.int32], n_antennas: int
) -> NDArray[np.bool_]:
    """Tell which antennas are dead in at least one polarisation.

    An antenna without a single unflagged sample counts as dead; whether it has rows at all is the caller's to know.

    Returns
    -------
    ndarray (n_antennas,) of bool
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_amplitude = statistics.log_amplitude / statistics.samples
        coherence = np.abs(statistics.products) / statistics.pairs
        noise_coherence = np.sqrt(1.0 / statistics.pairs)
    amplitude = _median_over_baselines(log_amplitude, antenna1, antenna2, n_antennas)
    coherence = _median_over_baselines(coherence, antenna1, antenna2, n_antennas)
    floor = _median_over_baselines(noise_coherence, antenna1, antenna2, n_antennas)
    if not np.isfinite(amplitude).any():
        return np.ones(n_antennas, np.bool_)
    typical = np.nanmedian(coherence, axis=0)
    seen = typical > COHERENCE_SIGNIFICANCE * np.nanmedian(floor, axis=0)
    incoherent = seen & (coherence < COHERENCE_FRACTION * typical)
    outlying = np.abs(amplitude - np.nanmedian(amplitude, axis=0)) > np.log(AMPLITUDE_FACTOR)
    silent = ~np.isfinite(amplitude)
    dead: NDArray[np.bool_] = (incoherent | outlying | silent).any(axis=1)
    return dead
