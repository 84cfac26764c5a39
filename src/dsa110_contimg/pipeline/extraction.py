"""Stage source-finding: a catalogue of the sources of one image.

Method: islands of pixels above `island_sigma` of the local noise that contain one above `peak_sigma`, in the flat-noise
image (there one threshold means the same everywhere), fitted with Gaussians by PyBDSF (Mohan & Rafferty 2015, ASCL
1502.007), which groups the Gaussians of one source and gives errors by Condon (1997, PASP 109, 166). Flux densities and
their errors are then divided by the response of the primary beam at the source, which is the quotient of the flat-noise
and the corrected image. Sources where the corrected image is blank are left out.

Columns of the catalogue, a CSV file with one heading line (fluxes corrected for the primary beam; errors are 1 sigma):

===================  =========  =======================================================================================
name                            JHHMMSS.s+DDMMSS, truncated as the IAU recommends
ra_deg, dec_deg      deg        ICRS position, and its errors ra_err_deg (on the sky, times cos dec) and dec_err_deg
peak_jyb             Jy/beam    peak of the fit, and its error peak_err_jyb
flux_jy              Jy         integrated flux density, and its error flux_err_jy
snr                             peak / local_rms
local_rms            Jy/beam    noise about the source, corrected for the primary beam as the peak is
major/minor_arcsec   arcsec     fitted widths (FWHM, not deconvolved); pa_deg: position angle, north through east
sep_from_center_deg  deg        distance from the phase centre
response                        of the primary beam, mean over the observation
flags                           sum of 1 (several Gaussians), 2 (response below `EDGE_RESPONSE`)
===================  =========  =======================================================================================
"""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import floor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bdsf
import numpy as np

from dsa110_contimg.pipeline import calibrators
from dsa110_contimg.pipeline.beam_calibrators import calibrators_in_beam
from dsa110_contimg.pipeline.choices import ExtractChoices
from dsa110_contimg.pipeline.crossmatch import nearest_within, separation_deg
from dsa110_contimg.pipeline.errors import BadInputError, DataQualityError
from dsa110_contimg.pipeline.fitsimage import FitsImage, read_image
from dsa110_contimg.pipeline.products import written_aside
from dsa110_contimg.pipeline.progress import Progress, silent

FLAG_SEVERAL_GAUSSIANS = 1
FLAG_BEAM_EDGE = 2
EDGE_RESPONSE = 0.2  # below it an error of 1 % of the beam's width is one of 5 % of the flux
#: PyBDSF drops a Gaussian of axis ratio above 2 when an end of its ellipse falls on a pixel outside its island. With a
#: long and narrow beam and islands a few pixels wide that takes sources at 20 sigma away; the size is still bounded by
#: the island's and by 25 beams.
UNCHECKED = 0.0
RMS_BOX_BEAMS = 15  # side of the box of the noise map: 200 independent beams, 5 % error of the rms


@dataclass(frozen=True, slots=True)
class ExtractOptions(ExtractChoices):
    """What to search.

    Parameters
    ----------
    image_path, flat_noise_path : images with and without correction for the primary beam.
    catalogue_path : CSV file to write.
    """

    image_path: str
    flat_noise_path: str
    catalogue_path: str


@dataclass(frozen=True, slots=True)
class FoundSource:
    """One source; the module's description gives meaning and unit of each field."""

    name: str
    ra_deg: float
    dec_deg: float
    ra_err_deg: float
    dec_err_deg: float
    peak_jyb: float
    peak_err_jyb: float
    flux_jy: float
    flux_err_jy: float
    snr: float
    local_rms: float
    major_arcsec: float
    minor_arcsec: float
    pa_deg: float
    sep_from_center_deg: float
    response: float
    flags: int


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The sources of one image, brightest first.

    ``n_unfitted`` counts the islands of bright pixels that no Gaussian could be fitted to: nothing of them is in the
    catalogue. ``calibrators`` has those of the list of calibrators, by their names here.
    """

    catalogue_path: str
    n_sources: int
    n_unfitted: int
    sources: tuple[FoundSource, ...]
    calibrators: dict[str, str]
    files: tuple[str, ...]
    inputs: tuple[str, ...]


def extract(options: ExtractOptions, progress: Progress = silent) -> Catalogue:
    """Find the sources of an image and write their catalogue.

    Raises
    ------
    BadInputError
        If an image is missing, damaged, or the two do not belong together.
    DataQualityError
        If the image has no noise that a threshold could be set by.
    RetryableError
        If the disk is full.
    """
    progress(0.0, "reading the images")
    flat, corrected = read_image(Path(options.flat_noise_path)), read_image(Path(options.image_path))
    if flat.pixels.shape != corrected.pixels.shape:
        raise BadInputError(
            f"{options.flat_noise_path} has {flat.pixels.shape} pixels, {options.image_path} {corrected.pixels.shape}: "
            "give the two images of one observation"
        )
    progress(0.1, "fitting Gaussians")
    fits, n_unfitted = _fitted(options, flat)
    measured = [found for fit in fits if (found := _source(fit, flat, corrected)) is not None]
    measured.sort(key=lambda source: -source.flux_jy)
    progress(0.9, f"writing {len(measured)} sources")
    write_catalogue(Path(options.catalogue_path), measured)
    return Catalogue(
        catalogue_path=options.catalogue_path,
        n_sources=len(measured),
        n_unfitted=n_unfitted,
        sources=tuple(measured),
        calibrators=_calibrators(flat, measured),
        files=(options.catalogue_path,),
        inputs=(options.image_path, options.flat_noise_path),
    )


def _calibrators(image: FitsImage, measured: Sequence[FoundSource]) -> dict[str, str]:
    """Return the calibrators among the sources of an image: the name that each has here, and that of the list."""
    known = [seen.calibrator for seen in calibrators_in_beam(*map(float, image.wcs.wcs.crval))]
    found = ((nearest_within(one.ra_deg, one.dec_deg, measured, calibrators.RADIUS_DEG), one.name) for one in known)
    return {source.name: name for source, name in found if source is not None}


def _fitted(options: ExtractOptions, flat: FitsImage) -> tuple[list[Any], int]:
    """Return the sources that PyBDSF finds, and the number of islands without any.

    Its log and its temporary files vanish with their directory.
    """
    missing = [key for key in ("BMAJ", "BMIN", "BPA") if key not in flat.header]
    if missing:
        raise BadInputError(f"{options.flat_noise_path} has no {', '.join(missing)} in its header: image again")
    if not np.nanstd(flat.pixels) > 0:
        raise DataQualityError(f"{options.flat_noise_path} is blank: nothing can be found in it")
    box = int(RMS_BOX_BEAMS * float(flat.header["BMAJ"]) / abs(float(flat.header["CDELT2"])))
    with TemporaryDirectory(prefix="source-finding-") as directory:
        image = Path(directory) / "image.fits"
        image.symlink_to(Path(options.flat_noise_path).resolve())
        try:
            result = bdsf.process_image(
                str(image),
                quiet=True,
                outdir=directory,
                ncores=1,
                thresh="hard",
                thresh_isl=options.island_sigma,
                thresh_pix=options.peak_sigma,
                rms_box=(box, box // 3),
                flag_maxsize_fwhm=UNCHECKED,
            )
        except RuntimeError as error:
            raise DataQualityError(f"{options.flat_noise_path}: the search for sources failed ({error})") from error
    islands = getattr(result, "islands", [])
    return list(getattr(result, "sources", [])), sum(not island.gaul for island in islands)


def _source(fit: Any, flat: FitsImage, corrected: FitsImage) -> FoundSource | None:
    """Return a fitted source with its fluxes corrected for the primary beam; None where that is too faint."""
    ra_deg, dec_deg = (float(value) for value in fit.posn_sky_centroid)
    ra_deg %= 360
    x, y = (round(float(value)) for value in flat.wcs.world_to_pixel_values(ra_deg, dec_deg))
    inside = 0 <= y < flat.pixels.shape[0] and 0 <= x < flat.pixels.shape[1]
    response = float(flat.pixels[y, x] / corrected.pixels[y, x]) if inside else float("nan")
    if not response > 0:
        return None
    center_ra_deg, center_dec_deg = (float(value) for value in flat.wcs.wcs.crval)
    peak_jyb, rms_jyb = float(fit.peak_flux_max), float(fit.rms_isl)
    major_deg, minor_deg, pa_deg = (float(value) for value in fit.size_sky)
    several = FLAG_SEVERAL_GAUSSIANS if fit.code != "S" else 0
    return FoundSource(
        name=iau_name(ra_deg, dec_deg),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        ra_err_deg=float(fit.posn_sky_centroidE[0]),
        dec_err_deg=float(fit.posn_sky_centroidE[1]),
        peak_jyb=peak_jyb / response,
        peak_err_jyb=float(fit.peak_flux_maxE) / response,
        flux_jy=float(fit.total_flux) / response,
        flux_err_jy=float(fit.total_fluxE) / response,
        snr=peak_jyb / rms_jyb,
        local_rms=rms_jyb / response,
        major_arcsec=3600 * major_deg,
        minor_arcsec=3600 * minor_deg,
        pa_deg=pa_deg,
        sep_from_center_deg=separation_deg(ra_deg, dec_deg, center_ra_deg, center_dec_deg),
        response=response,
        flags=several + (FLAG_BEAM_EDGE if response < EDGE_RESPONSE else 0),
    )


def iau_name(ra_deg: float, dec_deg: float) -> str:
    """Return ``JHHMMSS.s+DDMMSS``; digits that do not fit are cut off, not rounded, as the IAU recommends.

    A millionth of a second is added before the cut, so that a position written with the name's digits keeps them.
    """
    tenths = floor(ra_deg % 360 / 15 * 36000 + 1e-5)
    seconds = floor(abs(dec_deg) * 3600 + 1e-6)
    hours = f"{tenths // 36000 % 24:02d}{tenths // 600 % 60:02d}{tenths // 10 % 60:02d}.{tenths % 10}"
    sign = "-" if dec_deg < 0 else "+"
    return f"J{hours}{sign}{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"


def write_catalogue(path: Path, sources: list[FoundSource]) -> None:
    """Write a catalogue beside its final name and rename it."""
    columns = [column.name for column in fields(FoundSource)]
    with written_aside(path) as partial, partial.open("x", encoding="ascii", newline="") as stream:
        rows = csv.DictWriter(stream, columns, lineterminator="\n")
        rows.writeheader()
        rows.writerows(asdict(source) for source in sources)


def read_catalogue(path: Path) -> list[FoundSource]:
    """Read a catalogue.

    Raises
    ------
    BadInputError
        If the file is missing or is no catalogue of this pipeline.
    """
    try:
        with path.open(encoding="ascii", newline="") as stream:
            return [_parsed(row) for row in csv.DictReader(stream)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read as a catalogue ({error}): find the sources again") from error


def _parsed(row: dict[str, str]) -> FoundSource:
    numbers = {column.name: float(row[column.name]) for column in fields(FoundSource) if column.type is float}
    return FoundSource(name=row["name"], flags=int(row["flags"]), **numbers)
