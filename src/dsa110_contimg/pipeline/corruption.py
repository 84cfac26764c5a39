"""What the instrument and its surroundings do to simulated visibilities: gains, bandpass, noise, interference.

The visibility of antennas 1 and 2 becomes g_1 conj(g_2) (V + n), with the gain of an antenna a product of an amplitude
(10 % scatter about that of the real, uncalibrated data), a random phase with a slow drift of up to 8 degrees, and a
bandpass in the shape of the subbands. Interference enters as one more source whose voltages have random phases; it lies
above the noise of a single visibility, in persistent channels, in bursts, and in one broadband pulse.
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from dsa110_contimg.pipeline.array import SUBBAND_CHANNELS
from dsa110_contimg.pipeline.compiled import compiled

Floats = npt.NDArray[np.float64]
Voltages = npt.NDArray[np.complex64]

#: Median gain amplitude of the real, uncalibrated data (square root of raw units per Jy).
GAIN_AMPLITUDE = 0.068
_DRIFT_RAD = np.radians(8.0)
_PERSISTENT, _BROADBAND = 0.010, 0.016
_MEDIAN_RFI_JY, _FAINTEST_RFI_JY = 80.0, 15.0


@dataclass(frozen=True, slots=True)
class Gains:
    """True gains in the convention of the UVH5 file (those of a Measurement Set are their complex conjugates).

    Attributes
    ----------
    gain : ndarray, complex128, shape (antenna, polarisation)
        At mid time, without the bandpass.
    drift_rad : ndarray, float64, shape (time, antenna)
        Phase added to it; zero on average.
    bandpass : ndarray, complex128, shape (antenna, channel, polarisation)
        Channels in ascending frequency; amplitude one on average.
    """

    gain: npt.NDArray[np.complex128]
    drift_rad: Floats
    bandpass: npt.NDArray[np.complex128]

    def at(self, channels: npt.NDArray[np.int64]) -> Voltages:
        """Return the whole gain for some channels, shape (time, antenna, channel, polarisation)."""
        slow = self.gain[None] * np.exp(1j * self.drift_rad)[:, :, None]
        return np.asarray(slow[:, :, None, :] * self.bandpass[None, :, channels, :], dtype=np.complex64)


def random_gains(rng: np.random.Generator, shape: tuple[int, int, int], *, gains: bool, bandpass: bool) -> Gains:
    """Return random gains for (time, antenna, channel); a part that is switched off is one."""
    n_times, n_antennas, n_channels = shape
    gain = np.ones((n_antennas, 2), dtype=np.complex128)
    drift_rad = np.zeros((n_times, n_antennas))
    spectrum = np.ones((n_antennas, n_channels, 2), dtype=np.complex128)
    if gains:
        amplitude = GAIN_AMPLITUDE * (1.0 + 0.1 * np.clip(rng.normal(size=gain.shape), -2.5, 2.5))
        gain = amplitude * np.exp(2j * np.pi * rng.uniform(size=gain.shape))
        turns = np.linspace(-0.5, 0.5, n_times)[:, None] * rng.uniform(0.3, 1.0, n_antennas)
        drift_rad = _DRIFT_RAD * np.sin(2 * np.pi * (turns + rng.uniform(size=n_antennas)))
        drift_rad -= drift_rad.mean(axis=0)
    if bandpass:
        spectrum = _random_bandpass(rng, n_antennas, n_channels)
    return Gains(gain, drift_rad, spectrum)


def _random_bandpass(rng: np.random.Generator, n_antennas: int, n_channels: int) -> npt.NDArray[np.complex128]:
    channel = np.arange(n_channels)
    edge = ((channel % SUBBAND_CHANNELS) - (SUBBAND_CHANNELS - 1) / 2) / (SUBBAND_CHANNELS / 2)
    filter_shape = 1.0 - 0.25 * edge**8
    x = channel / n_channels
    cycles, start = rng.uniform(1.0, 4.0, (2, n_antennas, 1, 2)), rng.uniform(size=(2, n_antennas, 1, 2))
    ripple = np.sin(2 * np.pi * (cycles * x[:, None] + start))
    amplitude = filter_shape[:, None] * (1.0 + 0.06 * ripple[0])
    amplitude /= amplitude.mean(axis=1, keepdims=True)
    slope_rad = rng.normal(0.0, np.radians(10.0), (n_antennas, 1, 2)) * (x[:, None] - 0.5)
    return np.asarray(amplitude * np.exp(1j * (np.radians(6.0) * ripple[1] + slope_rad)), dtype=np.complex128)


def random_rfi_jy(rng: np.random.Generator, n_times: int, n_channels: int, fraction: float) -> Floats:
    """Return the strength (Jy) of interference, zero where there is none, shape (time, channel ascending)."""
    strength_jy = np.zeros((n_times, n_channels))
    total = fraction * n_times * n_channels

    def burst(times: slice, channels: npt.NDArray[np.int64]) -> None:
        peak_jy = _MEDIAN_RFI_JY * np.exp(0.8 * rng.normal())
        spread = np.exp(0.3 * rng.normal(size=(n_times, n_channels)))
        block = np.maximum(peak_jy * spread, _FAINTEST_RFI_JY)
        strength_jy[times, channels] = block[times, channels]

    persistent = rng.choice(n_channels, round(_PERSISTENT * n_channels), replace=False)
    burst(slice(None), persistent)
    width = min(n_channels, round(_BROADBAND * n_channels * n_times))
    first, when = rng.integers(n_channels - width + 1), rng.integers(n_times)
    burst(slice(when, when + 1), np.arange(first, first + width))
    while np.count_nonzero(strength_jy) < total:
        width, length = int(rng.integers(8, 40)), int(rng.integers(1, 4))
        first, when = rng.integers(n_channels - width), rng.integers(n_times)
        burst(slice(when, when + length), np.arange(first, first + width))
    return strength_jy


def rfi_voltages(rng: np.random.Generator, strength_jy: Floats, n_antennas: int) -> Voltages:
    """Return what each antenna receives of the interference, shape (time, 1, antenna, channel), sqrt(Jy)."""
    n_times = strength_jy.shape[0]
    phase = np.exp(2j * np.pi * rng.uniform(size=(n_times, n_antennas, 1)))
    coupling = phase * np.exp(0.3 * rng.normal(size=(n_times, n_antennas, 1)))
    return np.asarray((coupling * np.sqrt(strength_jy)[:, None, :])[:, None], dtype=np.complex64)


@compiled(parallel=True)
def observe(
    voltage: Voltages,
    gain: Voltages,
    noise: Voltages,
    antenna_1: npt.NDArray[np.int64],
    antenna_2: npt.NDArray[np.int64],
    noise_jy: float,
    system_jy: float,
    out: Voltages,
) -> None:
    """Correlate the voltages of all sources and corrupt the result.

    Parameters
    ----------
    voltage : complex64, (time, source, antenna, channel), sqrt(Jy)
    gain : complex64, (time, antenna, channel, polarisation)
    noise : complex64, (time, baseline, channel, polarisation)
        Normal with unit variance in each part.
    antenna_1, antenna_2 : int64, (baseline,)
    noise_jy : float
        Standard deviation of the real and of the imaginary part of a cross-correlation.
    system_jy : float
        Level of an autocorrelation without a source.
    out : complex64, (time, baseline, channel, polarisation)
        Filled with gain_1 conj(gain_2) (sum of voltage_2 conj(voltage_1) + noise), raw units.
    """
    n_times, n_sources, _, n_channels = voltage.shape
    n_baselines = antenna_1.size
    sigma, level = np.float32(noise_jy), np.float32(system_jy)
    for row in numba.prange(n_times * n_baselines):
        t, b = row // n_baselines, row % n_baselines
        p, q = antenna_1[b], antenna_2[b]
        total = np.zeros(n_channels, dtype=np.complex64)
        for s in range(n_sources):
            one, two = voltage[t, s, p], voltage[t, s, q]
            for c in range(n_channels):
                total[c] += two[c] * np.conj(one[c])
        for c in range(n_channels):
            for k in range(2):
                if p == q:
                    value = np.complex64(total[c].real + level + np.float32(1.4142135) * sigma * noise[t, b, c, k].real)
                else:
                    value = np.complex64(total[c] + sigma * noise[t, b, c, k])
                out[t, b, c, k] = gain[t, p, c, k] * np.conj(gain[t, q, c, k]) * value
