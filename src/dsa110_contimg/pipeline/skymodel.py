"""Visibilities that a handful of point sources would give, seen through the primary beam, with perfect antennas.

For a baseline with coordinates (u, v, w) in metres, as a Measurement Set stores them, a source at direction cosines
(l, m, n) from the phase centre contributes to the channel of frequency nu

    M(t, nu) = A(t, nu) exp(2 pi i (u l + v m + w (n - 1)) nu / c)                                         (1)

(the sign is that of a Measurement Set, whose UVW are those of antenna 1 minus those of antenna 2). A is the apparent
flux density: the true one times the beam, which stands on the meridian while the sky drifts through it, so A changes.
Point-source form of Smirnov 2011, A&A 527, A106, eq. 10, without the direction-independent gains.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline.array import SPEED_OF_LIGHT_M_S
from dsa110_contimg.pipeline.compiled import compiled

C_M_PER_S = SPEED_OF_LIGHT_M_S
#: Channels after which the phasor recurrence starts anew from an exact phase: rounding stays below 1e-13.
RECURRENCE_LENGTH = 64


@dataclass(frozen=True)
class PointSources:
    """Point sources as the prediction kernels take them.

    Parameters
    ----------
    lmn : ndarray (n_sources, 3) of float64
        Direction cosines l, m, and n - 1 from the phase centre.
    apparent_flux_jy : ndarray (n_sources, n_times, n_channels) of float32
        Flux density times primary beam at each integration and channel.
    """

    lmn: NDArray[np.float64]
    apparent_flux_jy: NDArray[np.float32]


def direction_cosines(ra_rad: Any, dec_rad: Any, centre_ra_rad: float, centre_dec_rad: float) -> NDArray[np.float64]:
    """Return l, m and n - 1 of directions relative to a phase centre, stacked in the last axis.

    n - 1 is computed without cancellation, as -2 sin^2(separation / 2).
    """
    ra, dec = np.asarray(ra_rad, np.float64), np.asarray(dec_rad, np.float64)
    delta = ra - centre_ra_rad
    l_cosine = np.cos(dec) * np.sin(delta)
    m_cosine = np.sin(dec) * np.cos(centre_dec_rad) - np.cos(dec) * np.sin(centre_dec_rad) * np.cos(delta)
    haversine = np.sin((dec - centre_dec_rad) / 2) ** 2 + np.cos(dec) * np.cos(centre_dec_rad) * np.sin(delta / 2) ** 2
    return np.stack(np.broadcast_arrays(l_cosine, m_cosine, -2 * haversine), axis=-1)


def channel_steps(frequencies_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the frequency step into each channel where the phasor recurrence may use it, and 0 where it must restart.

    It restarts at the first channel, after every gap in the band (a missing subband), and every ``RECURRENCE_LENGTH``
    channels.
    """
    steps = np.zeros(len(frequencies_hz))
    if len(frequencies_hz) > 1:
        differences = np.diff(frequencies_hz)
        usual = np.median(differences)
        steps[1:] = np.where(np.abs(differences - usual) < 1e-6 * abs(usual), usual, 0.0)
    steps[::RECURRENCE_LENGTH] = 0.0
    return steps


@compiled()
def predict_row(
    model: NDArray[np.complex128],
    uvw_m: NDArray[np.float64],
    lmn: NDArray[np.float64],
    flux_jy: NDArray[np.float32],
    frequencies_hz: NDArray[np.float64],
    steps_hz: NDArray[np.float64],
) -> None:
    """Write eq. 1, summed over the sources, for one baseline and one integration into ``model``.

    Parameters
    ----------
    model : ndarray (n_channels,) of complex128
        Overwritten, Jy.
    uvw_m : ndarray (3,)
        Baseline in metres.
    lmn, flux_jy : ndarray (n_sources, 3), (n_sources, n_channels)
        Directions and apparent flux densities at this integration.
    frequencies_hz, steps_hz : ndarray (n_channels,)
        Channel centres and what `channel_steps` made of them.
    """
    model[:] = 0.0
    for source in range(lmn.shape[0]):
        path_m = uvw_m[0] * lmn[source, 0] + uvw_m[1] * lmn[source, 1] + uvw_m[2] * lmn[source, 2]
        turn = 2.0 * math.pi * path_m / C_M_PER_S
        phasor = 1.0 + 0.0j
        step_hz = 0.0
        step_phasor = 1.0 + 0.0j
        for channel in range(model.shape[0]):
            if steps_hz[channel] == 0.0:
                angle = turn * frequencies_hz[channel]
                phasor = complex(math.cos(angle), math.sin(angle))
            else:
                if steps_hz[channel] != step_hz:
                    step_hz = steps_hz[channel]
                    step_phasor = complex(math.cos(turn * step_hz), math.sin(turn * step_hz))
                phasor *= step_phasor
            model[channel] += flux_jy[source, channel] * phasor
