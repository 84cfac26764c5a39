"""CLEAN with a guard: major cycles on the visibilities, minor cycles by radler, and a memory of the best model.

Minor cycles: Clark-like sub-minor iterations of radler (the deconvolution of WSClean; Offringa & Smirnov 2017, MNRAS
471, 301), down to `AUTO_THRESHOLD_SIGMA` inside an automatic mask of what exceeded `AUTO_MASK_SIGMA`. Major cycles: the
model is predicted by the w-gridder and the residual is made anew from the visibilities.

The guard: CLEAN can diverge, next to bright sources above all, and then says nothing. So the model whose residual image
had the smallest rms is kept, and the cycle ends when the rms rises above it by more than `RISE`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Protocol

import radler

from dsa110_contimg.pipeline.averaging import AveragedVisibilities, Complexes, Floats
from dsa110_contimg.pipeline.gridding import ImageGrid, dirty_image, predict, thread_count
from dsa110_contimg.pipeline.progress import Progress
from dsa110_contimg.pipeline.psf import Beam

AUTO_MASK_SIGMA = 5.0
AUTO_THRESHOLD_SIGMA = 1.0
MINOR_LOOP_GAIN = 0.1
MAJOR_LOOP_GAIN = 0.85
RISE = 0.01  # rounding and the mask's steps move the rms by 0.1 %; divergence doubles it
MAX_MAJOR_CYCLES = 12
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deconvolved:
    """The best model that was met, and its residual image.

    Attributes
    ----------
    model : [y, x], Jy/pixel.
    residual : [y, x], Jy/beam, of that model.
    n_major_cycles : how often the visibilities were compared with a model.
    converged : the threshold was reached; False if the guard or the limit of cycles ended it.
    """

    model: Floats
    residual: Floats
    n_major_cycles: int
    converged: bool


class MinorCycle(Protocol):
    """Moves flux from the residual to the model, both changed in place."""

    def perform(self, cycle: int) -> bool:
        """Do the minor cycles of one major cycle; True while another major cycle is wanted."""


class Major(Protocol):
    """Makes residual images of models."""

    def __call__(self, model: Floats) -> Floats:
        """Return the residual image of a model."""


@contextmanager
def printed_to_log() -> Iterator[None]:
    """Let what is printed to standard output meanwhile, by radler above all, go to the log instead."""
    printed = StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        if printed.getvalue():
            _log.debug("%s", printed.getvalue().strip())


class RadlerMinorCycle:
    """Minor cycles of radler, which keeps views of the three images: they live as long as this object."""

    def __init__(
        self, psf: Floats, residual: Floats, model: Floats, grid: ImageGrid, beam: Beam, max_minor: int
    ) -> None:
        settings = radler.Settings()
        settings.algorithm_type = radler.AlgorithmType.generic_clean
        settings.trimmed_image_width = settings.trimmed_image_height = grid.n_pixels
        settings.pixel_scale.x = settings.pixel_scale.y = grid.cell_rad
        settings.minor_iteration_count = max_minor
        settings.minor_loop_gain = MINOR_LOOP_GAIN
        settings.major_loop_gain = MAJOR_LOOP_GAIN
        settings.auto_threshold_sigma = AUTO_THRESHOLD_SIGMA
        settings.auto_mask_sigma = AUTO_MASK_SIGMA
        settings.thread_count = thread_count()
        self._images = (psf, residual, model)
        with printed_to_log():
            self._radler = radler.Radler(settings, psf, residual, model, beam.major_rad)

    @property
    def n_iterations(self) -> int:
        """Minor iterations so far."""
        return int(self._radler.iteration_number)

    def perform(self, cycle: int) -> bool:
        """Do the minor cycles of one major cycle."""
        with printed_to_log():
            return bool(self._radler.perform(cycle))


def guarded_clean(residual: Floats, model: Floats, minor: MinorCycle, major: Major, progress: Progress) -> Deconvolved:
    """Alternate minor and major cycles; return the model with the smallest residual rms.

    Parameters
    ----------
    residual, model : [y, x], shared with ``minor`` and changed in place; the dirty image and zeros at first.
    minor, major : the two halves of a cycle.
    """
    best = Deconvolved(model.copy(), residual.copy(), 0, True)
    best_rms = float(residual.std())
    for cycle in range(1, MAX_MAJOR_CYCLES + 1):
        wants_more = minor.perform(cycle)
        residual[...] = major(model)
        rms = float(residual.std())
        progress(cycle / MAX_MAJOR_CYCLES, f"cleaning: major cycle {cycle}, residual rms {1e3 * rms:.3f} mJy/beam")
        if not rms <= (1 + RISE) * best_rms:  # so that NaN ends it too
            return Deconvolved(best.model, best.residual, cycle, False)
        if rms < best_rms:
            best, best_rms = Deconvolved(model.copy(), residual.copy(), cycle, True), rms
        if not wants_more:
            return Deconvolved(best.model, best.residual, cycle, True)
    return Deconvolved(best.model, best.residual, MAX_MAJOR_CYCLES, False)


def residual_of(visibilities: AveragedVisibilities, data: list[Complexes], model: Floats, grid: ImageGrid) -> Floats:
    """Return the residual image of ``data``, one (row, chan) array a group, under a model (Jy/pixel)."""
    left = [vis - predict(group, model, grid) for group, vis in zip(visibilities.groups, data, strict=True)]
    return dirty_image(visibilities, left, grid)
