"""FITS images as this pipeline writes and reads them.

Four axes (RA, Dec, FREQ, STOKES), SIN projection, ICRS, north up and east to the left, one plane, float32. Pixels
outside the primary beam are NaN. Besides the keywords of FITS and WCS the header carries

========  ==============================================================================================================
BMAJ...   restoring beam: BMAJ, BMIN (deg, full width at half maximum), BPA (deg, north through east)
MJD-AVG   middle of the observation (MJD UTC); DATE-OBS and EXPTIME (s) its start and length
WEIGHT    weighting, and ROBUST its parameter
NOISE     rms of the flat-noise image (Jy/beam); THERMAL the rms that the weights and the visibilities' noise lead to
PBCUT     response below which a corrected image is blank
NITER     minor iterations of CLEAN; NMAJOR major cycles; NPOINT sources fitted to the visibilities; CONVERGD
NCHAN     channels with data; MISSBAND subbands without (numbers, "none" if complete)
NTILES    observations in the image (1); MSFILE where the visibilities are from; PIPEVER version of this package
========  ==============================================================================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray

from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.products import written_aside

Card = str | int | float | bool
_COMMENTS = {
    "BMAJ": "[deg] restoring beam, major axis (FWHM)",
    "BMIN": "[deg] restoring beam, minor axis (FWHM)",
    "BPA": "[deg] position angle, north through east",
    "MJD-AVG": "[d] middle of the observation, UTC",
    "EXPTIME": "[s] length of the observation",
    "NOISE": "[Jy/beam] rms of the flat-noise image",
    "THERMAL": "[Jy/beam] expected thermal rms",
    "PBCUT": "primary-beam response of the blanking",
    "NTILES": "observations in this image",
    "NCHAN": "channels with data",
    "MISSBAND": "subbands without data",
    "NPOINT": "sources fitted to the visibilities",
    "NITER": "minor iterations of CLEAN",
    "NMAJOR": "major cycles of CLEAN",
    "CONVERGD": "CLEAN reached its threshold",
}


@dataclass(frozen=True, slots=True)
class ImageGeometry:
    """Where an image lies on the sky, in frequency and in time.

    Attributes
    ----------
    n_pixels : pixels a side.
    cell_deg : size of a pixel.
    center_ra_deg, center_dec_deg : ICRS position of pixel [n//2, n//2].
    freq_hz, bandwidth_hz : middle and width of the band.
    start_mjd, integration_s : start (UTC) and length of the observation.
    """

    n_pixels: int
    cell_deg: float
    center_ra_deg: float
    center_dec_deg: float
    freq_hz: float
    bandwidth_hz: float
    start_mjd: float
    integration_s: float

    @property
    def mid_mjd(self) -> float:
        """Middle of the observation (UTC)."""
        return self.start_mjd + self.integration_s / 2 / 86400


@dataclass(frozen=True, slots=True)
class FitsImage:
    """One plane of an image with its celestial coordinates and all cards of its header."""

    pixels: NDArray[np.float32]
    wcs: WCS
    header: Mapping[str, Card]


def celestial_wcs(geometry: ImageGeometry) -> WCS:
    """Return the coordinates of the two sky axes."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [geometry.center_ra_deg, geometry.center_dec_deg]
    wcs.wcs.crpix = [geometry.n_pixels // 2 + 1] * 2
    wcs.wcs.cdelt = [-geometry.cell_deg, geometry.cell_deg]
    wcs.wcs.radesys = "ICRS"
    return wcs


def _header(geometry: ImageGeometry, cards: Mapping[str, Card]) -> fits.Header:
    header = celestial_wcs(geometry).to_header()
    header["WCSAXES"] = 4
    for axis, (name, unit, value, step) in {
        3: ("FREQ", "Hz", geometry.freq_hz, geometry.bandwidth_hz),
        4: ("STOKES", "", 1.0, 1.0),
    }.items():
        header[f"CTYPE{axis}"], header[f"CUNIT{axis}"] = name, unit
        header[f"CRPIX{axis}"], header[f"CRVAL{axis}"], header[f"CDELT{axis}"] = 1.0, value, step
    header["SPECSYS"] = "TOPOCENT"
    header["BUNIT"] = "JY/BEAM"
    header["BTYPE"] = "Intensity"
    header["TELESCOP"] = "DSA-110"
    header["TIMESYS"] = "UTC"
    header["DATE-OBS"] = Time(geometry.start_mjd, format="mjd", scale="utc").isot
    header["MJD-OBS"] = geometry.start_mjd
    own: dict[str, Card] = {"MJD-AVG": geometry.mid_mjd, "EXPTIME": geometry.integration_s}
    for name, card in (own | dict(cards)).items():
        header[name] = (card, _COMMENTS.get(name, ""))
    return header


def write_image(path: Path, pixels: NDArray[np.float32], geometry: ImageGeometry, cards: Mapping[str, Card]) -> None:
    """Write an image beside its final name and rename it.

    Parameters
    ----------
    path : final name.
    pixels : [y, x], north up, west to the right.
    geometry : place of the image.
    cards : further cards of the header.

    Raises
    ------
    RetryableError
        If the disk is full or fails.
    """
    hdu = fits.PrimaryHDU(pixels[None, None].astype(">f4"), _header(geometry, cards))
    with written_aside(path) as partial:
        hdu.writeto(partial)


def read_image(path: Path) -> FitsImage:
    """Read the first plane of an image.

    Raises
    ------
    BadInputError
        If the file is missing, damaged, or no image with celestial coordinates.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            header, data = hdus[0].header, hdus[0].data
    except (OSError, TypeError) as error:
        raise BadInputError(f"{path} cannot be read as FITS ({error}): make the image again") from error
    wcs = WCS(header).celestial
    if data is None or data.ndim < 2 or wcs.naxis != 2:
        raise BadInputError(f"{path} holds no image with right ascension and declination: give a FITS image")
    plane = np.ascontiguousarray(data.reshape(-1, *data.shape[-2:])[0], dtype=np.float32)
    return FitsImage(plane, wcs, {key: value for key, value in header.items() if key not in ("", "COMMENT", "HISTORY")})
