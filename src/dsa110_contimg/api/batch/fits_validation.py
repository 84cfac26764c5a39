"""Whether a FITS image keeps the standard as far as its readers rely on it; no pixel is read.

``python -m dsa110_contimg.api.batch.fits_validation --fd 5`` writes JSON on standard output.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from dsa110_contimg.api.batch.fits_file import (
    BLOCK_BYTES,
    FitsError,
    FitsImage,
    beam_axes_deg,
    broken_cards,
    number,
    open_image,
)
from dsa110_contimg.api.batch.fits_reports import COMMENTARY, Report, serve, text_of, unit_of
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
    named = Counter(name for name in header if name not in COMMENTARY)
    for name in (name for name, count in named.items() if count > 1):
        yield f"{name} is there {named[name]} times; only one can be meant"
    broken = broken_cards(header)
    yield from broken
    if not broken:  # what rests on a card without a value is not judged
        yield from _meaning_problems(image)


def _meaning_problems(image: FitsImage) -> Iterator[str]:
    header = image.header
    needed = [partial(number, header, "BSCALE", 1.0), partial(number, header, "BZERO", 0.0), partial(celestial, image)]
    for look in needed:
        try:
            look()
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
    if unit_of(unit.replace("JY", "Jy").replace("BEAM", "beam")) is None:
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
