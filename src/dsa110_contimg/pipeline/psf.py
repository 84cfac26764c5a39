"""The synthesised beam: one rule for its size, and restoring with it.

Rule: the restoring beam is the elliptical Gaussian, of height 1 at the centre, that fits the point spread function
best (least squares) where its central lobe is above `FIT_LEVEL`. The beam of a T-shaped array is not Gaussian; this
rule uses its core, to which the fluxes of cleaned sources do not react.

Restoring adds the components, convolved with that Gaussian of unit height, to the residual image. The residual keeps
its own unit, Jy per dirty beam: it is not rescaled to the volume of the restoring beam (no "JvM" factor; Casassus &
Carcamo 2022, MNRAS 513, 5790 show what that factor does to the noise). A source that was not cleaned has therefore
the right peak, but an integrated flux density that depends on the dirty beam.
"""

from dataclasses import dataclass

import numpy as np
from ducc0 import fft
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.optimize import least_squares

from dsa110_contimg.pipeline.averaging import Doubles, Floats
from dsa110_contimg.pipeline.errors import DataQualityError
from dsa110_contimg.pipeline.gridding import ImageGrid, thread_count

FIT_LEVEL = 0.4  # above it the lobe is close to a Gaussian, and at 4 pixels a beam some 20 pixels take part
FWHM_TO_SIGMA = 1.0 / np.sqrt(8.0 * np.log(2.0))
_TRUNCATION = 5.5  # sigma at which a restored point is cut off: 3e-7 of its peak


@dataclass(frozen=True, slots=True)
class Beam:
    """Elliptical Gaussian: full widths at half maximum (rad), and position angle (rad) from north through east."""

    major_rad: float
    minor_rad: float
    pa_rad: float

    def curvature(self) -> Doubles:
        """Return the symmetric 2 x 2 matrix C, with exp(-d^T C d / 2) at the offset d = (west, north) in rad."""
        west, north = -np.sin(self.pa_rad), np.cos(self.pa_rad)
        axes = np.array([[west, north], [-north, west]])
        inverse = np.array([self.major_rad, self.minor_rad]) * FWHM_TO_SIGMA
        return np.asarray(axes.T @ np.diag(inverse**-2.0) @ axes)


def _beam_of(curvature: Doubles) -> Beam:
    """Return the beam of a curvature matrix, the inverse of `Beam.curvature`."""
    values, vectors = np.linalg.eigh(curvature)
    west, north = vectors[:, 0]  # the smallest curvature belongs to the longest axis
    widths = values**-0.5 / FWHM_TO_SIGMA
    return Beam(float(widths[0]), float(widths[1]), float(np.arctan2(-west, north) % np.pi))


def _central_lobe(psf: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    lobes, _ = label(psf > FIT_LEVEL)
    y, x = np.nonzero(lobes == lobes[psf.shape[0] // 2, psf.shape[1] // 2])
    return y, x


def fit_beam(psf: Floats, cell_rad: float) -> Beam:
    """Fit the restoring beam by the rule above.

    Parameters
    ----------
    psf : point spread function [y, x], 1 at pixel [n//2, n//2].
    cell_rad : size of a pixel.

    Raises
    ------
    DataQualityError
        If the central lobe covers too few pixels, or is no peak.
    """
    y, x = _central_lobe(psf)
    if min(np.ptp(x), np.ptp(y)) < 2:  # three pixels across at least, or the width is not determined
        cell_arcsec = np.degrees(cell_rad) * 3600.0
        raise DataQualityError(
            f"the synthesised beam covers {len(y)} pixels of {cell_arcsec:.4g} arcsec: choose smaller pixels"
        )
    dx, dy = (x - psf.shape[1] // 2).astype(float), (y - psf.shape[0] // 2).astype(float)
    values = psf[y, x].astype(float)

    def misfit(c: Doubles) -> Doubles:
        return np.asarray(np.exp(-(c[0] * dx**2 + 2 * c[1] * dx * dy + c[2] * dy**2) / 2) - values)

    width = 8.0 * np.log(2.0) / len(y)
    fit = least_squares(misfit, [width, 0.0, width], x_scale="jac", ftol=1e-12, xtol=1e-12, gtol=1e-12)
    curvature = np.array([[fit.x[0], fit.x[1]], [fit.x[1], fit.x[2]]]) / cell_rad**2
    if not fit.success or np.linalg.eigvalsh(curvature)[0] <= 0:
        raise DataQualityError("no Gaussian fits the synthesised beam: the baselines cover one direction only")
    return _beam_of(curvature)


def convolve(model: Floats, beam: Beam, cell_rad: float) -> Floats:
    """Return the model (Jy/pixel) convolved with a Gaussian of unit height (Jy/beam), through its Fourier transform."""
    n_y, n_x = model.shape
    v = np.fft.fftfreq(n_y)[:, None]
    u = np.fft.rfftfreq(n_x)[None, :]
    inverse = np.linalg.inv(beam.curvature() * cell_rad**2)
    exponent = -2 * np.pi**2 * (inverse[0, 0] * u**2 + 2 * inverse[0, 1] * u * v + inverse[1, 1] * v**2)
    transfer = (2 * np.pi * np.sqrt(np.linalg.det(inverse)) * np.exp(exponent)).astype(np.float32)
    spectrum = fft.r2c(model, nthreads=thread_count()) * transfer
    return np.asarray(fft.c2r(spectrum, lastsize=n_x, forward=False, inorm=2, nthreads=thread_count()), np.float32)


def add_points(
    image: Floats, x_pixel: Doubles, y_pixel: Doubles, peak_jyb: Doubles, beam: Beam, cell_rad: float
) -> None:
    """Add Gaussians of the beam's shape at positions between the pixels; in place.

    Parameters
    ----------
    image : [y, x], Jy/beam.
    x_pixel, y_pixel : (source,) zero-based positions in pixels.
    peak_jyb : (source,) heights.
    """
    curvature = beam.curvature() * cell_rad**2
    reach = int(np.ceil(_TRUNCATION * beam.major_rad * FWHM_TO_SIGMA / cell_rad))
    for x, y, peak in zip(x_pixel, y_pixel, peak_jyb, strict=True):
        rows = slice(max(0, round(y) - reach), min(image.shape[0], round(y) + reach + 1))
        columns = slice(max(0, round(x) - reach), min(image.shape[1], round(x) + reach + 1))
        dy, dx = np.mgrid[rows, columns]
        dy, dx = dy - y, dx - x
        exponent = curvature[0, 0] * dx**2 + 2 * curvature[0, 1] * dx * dy + curvature[1, 1] * dy**2
        image[rows, columns] += peak * np.exp(-exponent / 2)


def pixel_grid_for(beam: Beam, radius_rad: float, pixels_per_beam: float) -> ImageGrid:
    """Return a grid that covers ``radius_rad`` on each side with ``pixels_per_beam`` across the beam's minor axis.

    The pixel is rounded down to a quarter of an arcsecond, the side up to an even length that transforms fast.
    """
    quarter_arcsec = np.radians(0.25 / 3600)
    cell_rad = max(1.0, np.floor(beam.minor_rad / pixels_per_beam / quarter_arcsec)) * quarter_arcsec
    half = int(np.ceil(radius_rad / cell_rad))
    return ImageGrid(2 * int(fft.good_size(half, True)), float(cell_rad))
