"""Kernels of point sources in visibilities: the sums of their least-squares fit, and their exchange.

The signal of a source in direction (l, m), seen with the response A of the primary beam, is

    V = A(t, nu) (S + S' x) exp(2 pi i nu/c (u l + v m + w (n - 1))),   x = ln(nu / nu_0).                  (1)

Phasors follow from one channel to the next by a multiplication; where the channels are not equally spaced, or after a
run of channels, they are computed anew (`skymodel.channel_steps`).
"""

import numpy as np
from numba import prange

from dsa110_contimg.pipeline.averaging import Complexes, Doubles, Floats, Indices
from dsa110_contimg.pipeline.compiled import compiled
from dsa110_contimg.pipeline.skymodel import C_M_PER_S


@compiled(parallel=True)
def fit_sums(
    uvw_m: Doubles,
    freqs_hz: Doubles,
    steps_hz: Doubles,
    time_index: Indices,
    residual: Complexes,
    weight: Floats,
    response: Doubles,
    x: Doubles,
    lmn: Doubles,
    flux: Doubles,
) -> tuple[float, ...]:
    """Return the sums of the two normal equations over one group: five of the flux, five of the position."""
    f00, f01, f11, f0, f1 = 0.0, 0.0, 0.0, 0.0, 0.0
    p00, p01, p11, p0, p1 = 0.0, 0.0, 0.0, 0.0, 0.0
    n = lmn[2] + 1.0
    for row in prange(uvw_m.shape[0]):
        u, v, w = uvw_m[row, 0], uvw_m[row, 1], uvw_m[row, 2]
        turn = 2.0 * np.pi / C_M_PER_S * (u * lmn[0] + v * lmn[1] + w * lmn[2])
        per_l = 2.0 * np.pi / C_M_PER_S * (u - w * lmn[0] / n)
        per_m = 2.0 * np.pi / C_M_PER_S * (v - w * lmn[1] / n)
        phasor, step, step_hz = 1.0 + 0.0j, 1.0 + 0.0j, 0.0
        for k in range(freqs_hz.size):
            if steps_hz[k] == 0.0:
                phasor = np.exp(-1j * turn * freqs_hz[k])
            else:
                if steps_hz[k] != step_hz:
                    step_hz = steps_hz[k]
                    step = np.exp(-1j * turn * step_hz)
                phasor *= step
            a = response[time_index[row], k]
            turned = residual[row, k] * phasor
            wa = weight[row, k] * a
            f00 += wa * a
            f01 += wa * a * x[k]
            f11 += wa * a * x[k] * x[k]
            f0 += wa * turned.real
            f1 += wa * x[k] * turned.real
            q = (flux[0] + flux[1] * x[k]) * freqs_hz[k]
            p00 += wa * a * q * q * per_l * per_l
            p01 += wa * a * q * q * per_l * per_m
            p11 += wa * a * q * q * per_m * per_m
            p0 += wa * q * per_l * turned.imag
            p1 += wa * q * per_m * turned.imag
    return f00, f01, f11, f0, f1, p00, p01, p11, p0, p1


@compiled(parallel=True)
def exchange(
    uvw_m: Doubles,
    freqs_hz: Doubles,
    steps_hz: Doubles,
    time_index: Indices,
    residual: Complexes,
    x: Doubles,
    old: tuple[Doubles, Doubles, Doubles],
    new: tuple[Doubles, Doubles, Doubles],
) -> None:
    """Add eq. 1 of one source to the visibilities and subtract that of another, in place.

    A source is its direction (l, m, n - 1), its flux density and slope, and its response (time, chan).
    """
    (old_lmn, old_flux, old_response), (new_lmn, new_flux, new_response) = old, new
    for row in prange(uvw_m.shape[0]):
        u, v, w = uvw_m[row, 0], uvw_m[row, 1], uvw_m[row, 2]
        old_turn = 2.0 * np.pi / C_M_PER_S * (u * old_lmn[0] + v * old_lmn[1] + w * old_lmn[2])
        new_turn = 2.0 * np.pi / C_M_PER_S * (u * new_lmn[0] + v * new_lmn[1] + w * new_lmn[2])
        old_phasor, new_phasor, old_step, new_step = 1.0 + 0.0j, 1.0 + 0.0j, 1.0 + 0.0j, 1.0 + 0.0j
        step_hz = 0.0
        for k in range(freqs_hz.size):
            if steps_hz[k] == 0.0:
                old_phasor, new_phasor = np.exp(1j * old_turn * freqs_hz[k]), np.exp(1j * new_turn * freqs_hz[k])
            else:
                if steps_hz[k] != step_hz:
                    step_hz = steps_hz[k]
                    old_step, new_step = np.exp(1j * old_turn * step_hz), np.exp(1j * new_turn * step_hz)
                old_phasor *= old_step
                new_phasor *= new_step
            time = time_index[row]
            old_jy = old_response[time, k] * (old_flux[0] + old_flux[1] * x[k])
            new_jy = new_response[time, k] * (new_flux[0] + new_flux[1] * x[k])
            residual[row, k] += old_jy * old_phasor - new_jy * new_phasor
