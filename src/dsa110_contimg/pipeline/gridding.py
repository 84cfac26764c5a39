"""Between visibilities and images: the w-gridder of ducc0 (Arras et al. 2021, A&A 646, A58) in our orientation.

An image is an array [y, x] of an even number of pixels a side; x grows to the west (CDELT1 < 0), y to the north, and
the phase centre is pixel [n//2, n//2] (CRPIX = n//2 + 1). With the UVW of a Measurement Set a point source of S Jy at
direction cosines (l, m) is V = S exp(2 pi i nu/c (u l + v m + w (n - 1))), n = sqrt(1 - l^2 - m^2); ducc0 computes
the same with its second axis turned (``flip_v``). Images are not divided by n: a pixel is the flux density of a point
source.
"""

import os
from dataclasses import dataclass

import numpy as np
from ducc0 import wgridder
from numpy.typing import NDArray

from dsa110_contimg.pipeline.averaging import AveragedVisibilities, Complexes, Floats, VisibilityGroup

EPSILON = 1e-4  # relative error of the gridder: 10 uJy in a field of 0.1 Jy of sidelobes, far below the noise


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """A square image: pixels a side (even) and the size of a pixel at the phase centre (rad)."""

    n_pixels: int
    cell_rad: float

    @property
    def field_of_view_rad(self) -> float:
        """Side of the image."""
        return self.n_pixels * self.cell_rad


def thread_count() -> int:
    """Return how many threads this process may use: its cores."""
    return len(os.sched_getaffinity(0))


def _grid(group: VisibilityGroup, vis: Complexes, weight: Floats, grid: ImageGrid, wide: bool) -> NDArray[np.float32]:
    image: NDArray[np.float32] = wgridder.vis2dirty(
        uvw=group.uvw_m,
        freq=group.freqs_hz,
        vis=vis,
        wgt=weight,
        npix_x=grid.n_pixels,
        npix_y=grid.n_pixels,
        pixsize_x=grid.cell_rad,
        pixsize_y=grid.cell_rad,
        epsilon=EPSILON,
        do_wgridding=wide,
        nthreads=thread_count(),
        flip_v=True,
        divide_by_n=False,
    )
    return image


def dirty_image(visibilities: AveragedVisibilities, residual: list[Complexes], grid: ImageGrid) -> NDArray[np.float32]:
    """Return the dirty image (Jy/beam) of ``residual``, one (row, chan) array a group, with the imaging weights."""
    total = np.zeros((grid.n_pixels, grid.n_pixels), np.float32)
    for group, vis in zip(visibilities.groups, residual, strict=True):
        total += _grid(group, vis, group.imaging_weight, grid, True)
    total /= np.float32(visibilities.imaging_weight_sum)
    return np.ascontiguousarray(total.T)


def point_spread_function(
    visibilities: AveragedVisibilities, grid: ImageGrid, wide: bool = True
) -> NDArray[np.float32]:
    """Return the dirty image of a source of 1 Jy at the phase centre.

    Parameters
    ----------
    wide : False leaves the w term out, which is right near the centre and faster.
    """
    total = np.zeros((grid.n_pixels, grid.n_pixels), np.float32)
    for group in visibilities.groups:
        total += _grid(group, np.ones_like(group.vis), group.imaging_weight, grid, wide)
    total /= np.float32(visibilities.imaging_weight_sum)
    return np.ascontiguousarray(total.T)


def predict(group: VisibilityGroup, model: NDArray[np.float32], grid: ImageGrid) -> Complexes:
    """Return the visibilities (row, chan) of a model image [y, x] in Jy/pixel."""
    vis: Complexes = wgridder.dirty2vis(
        uvw=group.uvw_m,
        freq=group.freqs_hz,
        dirty=np.ascontiguousarray(model.T),
        pixsize_x=grid.cell_rad,
        pixsize_y=grid.cell_rad,
        epsilon=EPSILON,
        do_wgridding=True,
        nthreads=thread_count(),
        flip_v=True,
        divide_by_n=False,
    )
    return vis
