"""Imaging weights and the noise that they lead to.

Method
------
Robust weighting (Briggs 1995, PhD thesis, New Mexico Tech, section 3.2): the natural weights w_i = 1/sigma_i^2 are
gridded onto cells of 1/(field of view), giving W_k per cell, and

    w_i' = w_i / (1 + W_k f^2),   f^2 = (5 * 10^-R)^2 / (sum_k W_k^2 / sum_i w_i).

R = 2 is close to natural, R = -2 to uniform weighting. A visibility and its conjugate fall into the same cell (the grid
is folded onto v >= 0).

The noise of an image sum(w_i' V_i)/sum(w_i') is, for independent real parts of variance sigma_i^2 = 1/w_i,

    sigma = sqrt(sum w_i'^2 / w_i) / sum w_i'

(propagation of errors; Briggs 1995, chapter 3).
"""

import numpy as np
from numba import prange

from dsa110_contimg.pipeline.averaging import AveragedVisibilities, Doubles, Floats, VisibilityGroup
from dsa110_contimg.pipeline.compiled import compiled
from dsa110_contimg.pipeline.skymodel import C_M_PER_S


@compiled()
def _cell_of(u: float, v: float, half: int) -> tuple[int, int]:
    """Return (row, column) of a spatial frequency given in cells; a negative v is mirrored."""
    if v < 0.0:
        u, v = -u, -v
    return int(np.floor(v + 0.5)), int(np.floor(u + 0.5)) + half


@compiled()
def _accumulate_weights(uvw_m: Doubles, scale: Doubles, weight: Floats, half: int, grid: Doubles) -> None:
    for row in range(uvw_m.shape[0]):
        for chan in range(scale.size):
            if weight[row, chan] > 0.0:
                j, i = _cell_of(uvw_m[row, 0] * scale[chan], uvw_m[row, 1] * scale[chan], half)
                grid[j, i] += weight[row, chan]


@compiled(parallel=True)
def _apply_density(
    uvw_m: Doubles, scale: Doubles, weight: Floats, half: int, grid: Doubles, f_squared: float, out: Floats
) -> None:
    for row in prange(uvw_m.shape[0]):
        for chan in range(scale.size):
            j, i = _cell_of(uvw_m[row, 0] * scale[chan], uvw_m[row, 1] * scale[chan], half)
            out[row, chan] = weight[row, chan] / (1.0 + grid[j, i] * f_squared)


def _scale(group: VisibilityGroup, field_of_view_rad: float) -> Doubles:
    """Return the factor from metres to cells for each channel."""
    return group.freqs_hz / C_M_PER_S * field_of_view_rad


def apply_briggs(visibilities: AveragedVisibilities, field_of_view_rad: float, robust: float) -> None:
    """Set ``imaging_weight`` of all groups to robust weights (formula in the module's description).

    Parameters
    ----------
    visibilities : with natural weights; changed in place.
    field_of_view_rad : side of the image, whose inverse is the size of a cell of the weight grid.
    robust : Briggs' R, -2 (uniform) to 2 (natural).
    """
    half = 2 + max(
        int(np.abs(group.uvw_m[:, :2]).max() * _scale(group, field_of_view_rad).max()) for group in visibilities.groups
    )
    grid = np.zeros((half + 1, 2 * half + 1))
    for group in visibilities.groups:
        _accumulate_weights(group.uvw_m, _scale(group, field_of_view_rad), group.weight, half, grid)
    f_squared = (5.0 * 10.0**-robust) ** 2 / (float((grid**2).sum()) / float(grid.sum()))
    for group in visibilities.groups:
        scale = _scale(group, field_of_view_rad)
        group.imaging_weight = np.empty_like(group.weight)
        _apply_density(group.uvw_m, scale, group.weight, half, grid, f_squared, group.imaging_weight)


def thermal_noise(visibilities: AveragedVisibilities) -> float:
    """Return the expected rms (Jy/beam) of an image made with the present imaging weights."""
    total, variance = 0.0, 0.0
    for group in visibilities.groups:
        used = group.weight > 0
        weight = group.imaging_weight[used].astype(np.float64)
        total += float(weight.sum())
        variance += float((weight**2 / group.weight[used]).sum())
    return float(np.sqrt(variance) / total)
