"""From fluxes to shades: the scales of pictures. Each gives 0 to 1 for dark to light; NaN stays NaN.

``asinh``
    Linear in the noise, logarithmic in the sources (Lupton et al. 2004, PASP 116, 133). Background b is the median,
    noise s = 1.4826 times the median absolute deviation; x is drawn at asinh((x - b + 2s) / 3s), from 0 at b - 2s to 1
    at the 99.95th percentile (at least b + 20s).
``zscale``
    Linear between the limits of IRAF's zscale, which follow the bulk of the pixels.
``linear``, ``sqrt``, ``log``
    Of the part between the 1st and the 99.5th percentile; log is log(1 + 1000 t) / log(1001).
"""

from collections.abc import Callable, Mapping

import numpy as np
from astropy.visualization import ZScaleInterval

from dsa110_contimg.api.batch.fits_file import FitsError, Plane

Curve = Callable[[Plane], Plane]


def curve_for(scale: str, plane: Plane) -> Curve:
    """Return the function that shades planes as suits this one.

    Raises
    ------
    FitsError
        The plane holds no value.
    """
    values = plane[np.isfinite(plane)]
    if values.size == 0:
        raise FitsError(
            "no pixel of the picture has a value: more than half of what each shows is blank; draw it larger"
        )
    return _CURVES[scale](values)


def _asinh(values: Plane) -> Curve:
    background = float(np.median(values))
    noise = 1.4826 * float(np.median(np.abs(values - background))) or float(np.ptp(values)) / 100 or 1.0
    top = max(float(np.percentile(values, 99.95)), background + 20 * noise)

    def shade(plane: Plane) -> Plane:
        scaled = np.arcsinh((plane - background + 2 * noise) / (3 * noise))
        shaded: Plane = np.clip(scaled / np.arcsinh((top - background + 2 * noise) / (3 * noise)), 0.0, 1.0)
        return shaded

    return shade


def _between(low: float, high: float, bend: Callable[[Plane], Plane]) -> Curve:
    span = (high - low) or 1.0
    return lambda plane: bend(np.clip((plane - low) / span, 0.0, 1.0))


def _percentiles(bend: Callable[[Plane], Plane]) -> Callable[[Plane], Curve]:
    return lambda values: _between(float(np.percentile(values, 1.0)), float(np.percentile(values, 99.5)), bend)


def _zscale(values: Plane) -> Curve:
    low, high = (float(limit) for limit in ZScaleInterval().get_limits(values))
    return _between(low, high, lambda part: part)


#: Scales by name; the names are those of ``PictureScale``.
_CURVES: Mapping[str, Callable[[Plane], Curve]] = {
    "asinh": _asinh,
    "zscale": _zscale,
    "linear": _percentiles(lambda part: part),
    "sqrt": _percentiles(np.sqrt),
    "log": _percentiles(lambda part: np.log1p(1000 * part) / np.log(1001.0)),
}
