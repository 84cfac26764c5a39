"""Whether a FITS image keeps the standard as far as its readers rely on it; no pixel is read.

``python -m dsa110_contimg.api.batch.fits_validation --fd 5`` writes JSON on standard output.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from astropy import units

from dsa110_contimg.api.batch.fits_file import BLOCK_BYTES, FitsError, FitsImage, beam_axes_deg, open_image
from dsa110_contimg.api.batch.fits_reports import Report, serve, text_of
from dsa110_contimg.api.batch.sky_places import celestial


def validation_report(image: FitsImage, size_bytes: int) -> Report:
    """Return whether the file keeps the standard as far as its readers rely on it, and what is wrong."""
    problems = list(_problems(image, size_bytes))
    return {"valid": not problems, "problems": problems, "shape": list(image.shape), "n_bytes": size_bytes}


def _problems(image: FitsImage, size_bytes: int) -> Iterator[str]:
    header = image.header
    names = ["SIMPLE", "BITPIX", "NAXIS", *(f"NAXIS{n + 1}" for n in range(len(image.shape)))]
    if list(header)[: len(names)] != names:
        yield f"the header must begin with {', '.join(names)}, in this order"
    if size_bytes % BLOCK_BYTES:
        yield f"the file has {size_bytes} bytes, no multiple of {BLOCK_BYTES}"
    try:
        celestial(image)
    except FitsError as error:
        yield str(error)
    yield from _unit_problems(header)
    if any(name in header for name in ("BMAJ", "BMIN")) and beam_axes_deg(header) is None:
        yield f"the beam is {header.get('BMAJ')!r} x {header.get('BMIN')!r} deg; both must be numbers above 0"


def _unit_problems(header: Any) -> Iterator[str]:
    unit = text_of(header.get("BUNIT"))
    if not unit:
        yield "there is no BUNIT: nobody knows what the pixels are"
        return
    try:
        units.Unit(unit.replace("JY", "Jy").replace("BEAM", "beam"), format="fits")
    except ValueError:
        yield f"BUNIT {unit!r} is no unit of the standard"


def report(file: BinaryIO, _: Report) -> Report:
    """Return the report on a file.

    Raises
    ------
    FitsError
        It is no image at all.
    """
    return validation_report(open_image(file), os.fstat(file.fileno()).st_size)


if __name__ == "__main__":
    sys.exit(serve("dsa110_contimg.api.batch.fits_validation", report))
