"""Where on the sky the pixels of an image lie: its coordinates, and the part of it around a position.

A module of its own: what it imports takes as long as the drawing of most pictures, which need no coordinates.
"""

import re
from typing import Any

import numpy as np
from astropy.coordinates import Galactic, SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales, wcs_to_celestial_frame

from dsa110_contimg.api.batch.fits_file import Box, FitsError, FitsImage, number

_LARGEST_SIP_ORDER = 9  # of the convention: Shupe et al. 2005, ASP Conf. 347, 491
#: Cards of the coordinates, of the first and of alternate ones (papers I and II of the standard, and SIP).
_OF_COORDINATES = re.compile(
    r"(?:(?:CTYPE|CRPIX|CRVAL|CDELT|CUNIT|CROTA|PS|PV|CD|PC)\d{1,2}(?:_\d{1,2})?|LONPOLE|LATPOLE|RADE(?:C)?SYS|EQUINOX|WCSAXES)"
    r"[A-Z]?|(?:A|B|AP|BP)_(?:ORDER|\d_\d)|EPOCH"
)
_FLATTEST = 1e-6  # the area of a pixel over the product of its sides


def celestial(image: FitsImage) -> Any:
    """Return the coordinates of the two sky axes, which must be the first two; nothing is read of the others.

    Raises
    ------
    FitsError
        There are none, or they hold numbers that are none, or none of the sky.
    """
    _check_cards(image.header)
    try:
        found = WCS(image.header.readable(), fix=False, naxis=2).celestial
    except (ValueError, TypeError, KeyError, IndexError, MemoryError, AttributeError, fits.VerifyError) as error:
        raise FitsError(f"the coordinates cannot be read: {' '.join(str(error).split())}") from error
    if found.naxis != 2:
        raise FitsError("the image has no axes of right ascension and declination")
    numbers = [*found.wcs.crval, *found.wcs.crpix, *proj_plane_pixel_scales(found)]
    if not np.isfinite(numbers).all() or min(numbers[-2:]) <= 0:
        raise FitsError(f"the coordinates hold numbers that are none: {[float(one) for one in numbers]}")
    if abs(np.linalg.det(found.pixel_scale_matrix)) < _FLATTEST * numbers[-2] * numbers[-1]:
        raise FitsError("the coordinates fall on one line: CD, or PC and CDELT, are a singular matrix")
    if abs(found.wcs.crval[found.wcs.lng]) > 360 or abs(found.wcs.crval[found.wcs.lat]) > 90:
        raise FitsError(f"the coordinates are about {found.wcs.crval[0]:g}, {found.wcs.crval[1]:g} deg: nowhere")
    return found


def _check_cards(header: Any) -> None:
    """Refuse cards without a value and text for a number, which count as the default, and orders that take for ever."""
    for name in filter(_OF_COORDINATES.fullmatch, header.unreadable()):
        _ = header[name]  # raises
    for axis in (1, 2):
        for name in ("CRVAL", "CRPIX", "CDELT"):
            number(header, f"{name}{axis}", 0.0)
        for name in ("CD", "PC"):
            for other in (1, 2):
                number(header, f"{name}{axis}_{other}", 0.0)
    for name in ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER"):
        if number(header, name, 0.0) > _LARGEST_SIP_ORDER:
            raise FitsError(f"{name} is {header[name]}; polynomials of a distortion end at order {_LARGEST_SIP_ORDER}")


def box_around(image: FitsImage, ra_deg: float, dec_deg: float, width: float, height: float, unit: str) -> Box:
    """Return the part of the image within ``width`` x ``height`` (arcsec, arcmin or pixel) around a position (ICRS).

    Raises
    ------
    FitsError
        No pixel of the image lies there, or there are no coordinates, or none that belong to ICRS ones.
    """
    wcs = celestial(image)
    step_x, step_y = (1.0, 1.0) if unit == "pixel" else proj_plane_pixel_scales(wcs)
    degrees = {"arcsec": 1 / 3600, "arcmin": 1 / 60, "pixel": 1.0}[unit]
    x, y = _pixel_at(wcs, ra_deg, dec_deg)
    if not np.isfinite([x, y]).all():
        raise FitsError(f"the position {ra_deg:g}, {dec_deg:g} deg is not on this side of the sky")
    wide, high = max(1.0, width * degrees / step_x), max(1.0, height * degrees / step_y)
    rows, columns = image.shape[-2:]
    box = Box(*(_edge(value, bound) for value, bound in (
        (x - wide / 2 + 0.5, columns), (y - high / 2 + 0.5, rows), (x + wide / 2 + 0.5, columns),
        (y + high / 2 + 0.5, rows),
    )))  # fmt: skip
    if box.x0 >= box.x1 or box.y0 >= box.y1:
        raise FitsError(f"the position {ra_deg:g}, {dec_deg:g} deg lies outside the image")
    return box


def _pixel_at(wcs: Any, ra_deg: float, dec_deg: float) -> tuple[float, float]:
    """Return column and row (from 0) of a position (ICRS), whatever frame and order the coordinates have."""
    place = SkyCoord(ra_deg, dec_deg, unit="deg", frame="icrs").transform_to(_frame(wcs)).spherical
    world = [place.lon.deg, place.lat.deg] if wcs.wcs.lng == 0 else [place.lat.deg, place.lon.deg]
    x, y = wcs.world_to_pixel_values(*world)
    return float(x), float(y)


def _frame(wcs: Any) -> Any:
    """Return the frame of the coordinates: RADESYS and EQUINOX with the standard's defaults; of l and b, Galactic."""
    axes = (wcs.wcs.lngtyp.strip(), wcs.wcs.lattyp.strip())
    if axes == ("GLON", "GLAT"):
        return Galactic()
    if axes != ("RA", "DEC"):
        raise FitsError(f"the coordinates {' and '.join(axes)} cannot be found for a right ascension and declination")
    try:
        return wcs_to_celestial_frame(wcs)
    except ValueError as error:
        told = f"RADESYS {wcs.wcs.radesys!r}, EQUINOX {wcs.wcs.equinox:g}"
        raise FitsError(f"the coordinates are of a frame that is not known: {told}") from error


def _edge(value: float, bound: int) -> int:
    """Return the edge between pixels that is nearest to a place, the lower of two; the image has 0 to ``bound``."""
    return int(np.ceil(min(max(value, 0.0), float(bound)) - 0.5 - 1e-6))
