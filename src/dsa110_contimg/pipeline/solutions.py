"""From raw solutions to tables: normalisation, reference antenna, bad solutions, gaps, and what they are worth."""

import warnings
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from dsa110_contimg.pipeline.solver import Gains, refer_to
from dsa110_contimg.pipeline.visibilities import Bools, Complex

#: Outriggers in the order in which they are tried as reference antenna.
REFERENCE_ORDER = (*range(103, 117),)
#: An antenna may be the reference if it has at least this fraction of the solutions of the best one.
REFERENCE_HEALTH = 0.95
#: A channel whose amplitude is this far off the running median of its neighbours is no bandpass but interference.
ENVELOPE_LIMIT = 0.25
ENVELOPE_SIGMA = 6.0
ENVELOPE_CHANNELS = 15
#: Longest run of channels without a solution that is interpolated.
FILL_CHANNELS = 3


@dataclass(frozen=True)
class Quality:
    """What a pair of solutions is worth, over live antennas.

    Parameters
    ----------
    flagged_fraction_live : float
        Solutions that are missing, of bandpass and gains together.
    median_snr_bandpass, median_snr_gain : float
    phase_scatter_deg : float
        Median over antennas of the standard deviation of the gain's phase with time.
    amplitude_scatter : float
        The same of its amplitude, relative.
    amplitude_min, amplitude_max : float
        Range over antennas of the gain's median amplitude.
    """

    flagged_fraction_live: float
    median_snr_bandpass: float
    median_snr_gain: float
    phase_scatter_deg: float
    amplitude_scatter: float
    amplitude_min: float
    amplitude_max: float


def choose_reference(antenna_names: tuple[str, ...], *solutions: Gains) -> int:
    """Return the reference antenna: the first healthy outrigger, else the antenna with the most solutions.

    Health is the fraction of problems with a solution, the smaller of the two where there are two sets.
    """
    health = np.min([np.isfinite(one.values).mean(axis=(1, 2)) for one in solutions], axis=0)
    enough = REFERENCE_HEALTH * health.max()
    numbers = [int(name.rsplit("-", 1)[-1]) if name.rsplit("-", 1)[-1].isdigit() else -1 for name in antenna_names]
    for wanted in REFERENCE_ORDER:
        if wanted in numbers and health[numbers.index(wanted)] >= enough:
            return numbers.index(wanted)
    return int(np.argmax(health))


def normalise(bandpass: Gains, gains: Gains, reference: int) -> tuple[Gains, Gains]:
    """Give the bandpass a mean power of one per antenna and polarisation, and the reference antenna phase zero.

    What is taken from the bandpass goes into the gains: their product does not change, but for the phases common to
    all antennas, which no data can tell.
    """
    with np.errstate(invalid="ignore"):
        scale = np.sqrt(_mean_power(bandpass.values))[:, None, :]
        unit_values, unit_errors = bandpass.values / scale, bandpass.errors / scale
        scaled_values, scaled_errors = gains.values * scale, gains.errors * scale
    return (
        replace(bandpass, values=refer_to(unit_values, reference), errors=unit_errors.astype(np.float32)),
        replace(gains, values=refer_to(scaled_values, reference), errors=scaled_errors.astype(np.float32)),
    )


def _mean_power(values: Complex) -> NDArray[np.float32]:
    """Return the mean of |value|^2 over the problems that have a solution; NaN where none has."""
    found = np.isfinite(values)
    power = np.where(found, np.abs(values) ** 2, 0.0).sum(axis=1)
    count = found.sum(axis=1)
    return np.asarray(np.where(count > 0, power / np.maximum(count, 1), np.nan), np.float32)


def without(solutions: Gains, bad: Bools) -> Gains:
    """Return the solutions with some of them taken away."""
    return replace(
        solutions,
        values=np.where(bad, np.complex64(complex(np.nan, np.nan)), solutions.values),
        errors=np.where(bad, np.float32(np.nan), solutions.errors),
    )


def off_envelope(bandpass: Gains) -> Bools:
    """Tell which channels stand off the running median of their neighbours in amplitude.

    Both limits must be passed: `ENVELOPE_LIMIT` in itself and `ENVELOPE_SIGMA` standard errors, so that neither the
    steps of a healthy bandpass nor the noise of a weak antenna counts.
    """
    amplitude = np.abs(bandpass.values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the median of an antenna without solutions
        typical = np.nan_to_num(np.nanmedian(amplitude, axis=1, keepdims=True))
    filled = np.where(np.isfinite(amplitude), amplitude, typical)
    envelope = median_filter(filled, size=(1, min(ENVELOPE_CHANNELS, filled.shape[1]), 1), mode="nearest")
    with np.errstate(invalid="ignore"):
        distance = np.abs(amplitude - envelope)
        off: Bools = (distance > ENVELOPE_LIMIT * envelope) & (distance > ENVELOPE_SIGMA * bandpass.errors)
    return off


def fill_gaps(solutions: Gains, frequencies_hz: NDArray[np.float64]) -> Gains:
    """Interpolate runs of up to `FILL_CHANNELS` channels without a solution, linearly in amplitude and phase.

    A run at an end of the band, or next to a gap of the band, is left as it is.
    """
    values, errors = solutions.values.copy(), solutions.errors.copy()
    width = np.median(np.diff(frequencies_hz)) if len(frequencies_hz) > 1 else 0.0
    for antenna, pol in np.ndindex(values.shape[0], values.shape[2]):
        known = np.flatnonzero(np.isfinite(values[antenna, :, pol]))
        for left, right in pairwise(known):
            run = right - left
            contiguous = frequencies_hz[right] - frequencies_hz[left] < (run + 0.5) * width
            if 1 < run <= FILL_CHANNELS + 1 and contiguous:
                share = np.arange(1, run) / run
                ends = values[antenna, [left, right], pol]
                turn = np.angle(ends[1] * np.conj(ends[0]))
                amplitude = np.abs(ends[0]) * (1 - share) + np.abs(ends[1]) * share
                values[antenna, left + 1 : right, pol] = amplitude * np.exp(1j * (np.angle(ends[0]) + share * turn))
                errors[antenna, left + 1 : right, pol] = errors[antenna, [left, right], pol].max()
    return replace(solutions, values=values, errors=errors)


def assess(bandpass: Gains, gains: Gains, live: Bools) -> Quality:
    """Return what the solutions are worth."""
    flagged = np.concatenate([~np.isfinite(one.values[live]).reshape(-1) for one in (bandpass, gains)])
    own = gains.values[live]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a polarisation without solutions
        mean = np.nanmean(own, axis=1, keepdims=True)
        phase = np.angle(own * np.conj(mean))
        level = np.nanmedian(np.abs(own), axis=1)
        scatter = np.nanstd(np.abs(own), axis=1) / level
        phase_scatter = np.nanstd(phase, axis=1)
    return Quality(
        flagged_fraction_live=float(flagged.mean()),
        median_snr_bandpass=_median_snr(bandpass, live),
        median_snr_gain=_median_snr(gains, live),
        phase_scatter_deg=float(np.degrees(np.nanmedian(phase_scatter))),
        amplitude_scatter=float(np.nanmedian(scatter)),
        amplitude_min=float(np.nanmin(level)),
        amplitude_max=float(np.nanmax(level)),
    )


def _median_snr(solutions: Gains, live: Bools) -> float:
    """Return the median signal-to-noise ratio of the solutions of live antennas; 0 if there are none."""
    snr = solutions.snr[live][np.isfinite(solutions.values[live])]
    return float(np.median(snr)) if snr.size else 0.0
