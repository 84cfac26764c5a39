"""Parts of images around a position, as FITS files or as pictures, made in a process of its own.

``python -m dsa110_contimg.api.batch.cutouts --fd 5 --ask '{"cutout": {"ra": 188.5, "dec": 42.0}}'`` writes the part on
standard output, under the same limits as ``thumbnails``.
"""

import dataclasses
import sys
from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits

from dsa110_contimg.api.batch.fits_file import Box, FitsError, FitsImage, number, open_image
from dsa110_contimg.api.batch.sky_places import box_around
from dsa110_contimg.api.batch.thumbnails import encode, render, serve
from dsa110_contimg.api.picture_wish import CutoutWish, PictureWish

MAX_CUTOUT_PIXELS = 2048 * 2048
_LOST_BY_CUTTING = ("BSCALE", "BZERO", "BLANK", "CHECKSUM", "DATASUM", "DATAMIN", "DATAMAX")


def cut(image: FitsImage, box: Box, plane: int) -> bytes:
    """Return a part of a plane as a FITS file of its own, with as many axes as before and right coordinates."""
    if (pixels := (box.x1 - box.x0) * (box.y1 - box.y0)) > MAX_CUTOUT_PIXELS:
        raise FitsError(f"a cutout of {pixels} pixels is too large: at most {MAX_CUTOUT_PIXELS}; ask for less")
    header = image.header.readable()
    for name in image.header.unreadable():
        header.add_comment(f"{name} held no value of the standard and was left out")
    for name in _LOST_BY_CUTTING:
        header.remove(name, ignore_missing=True)
    upper = np.unravel_index(plane, image.shape[:-2] or (1,))
    firsts = [box.x0, box.y0, *reversed([int(index) for index in upper])]
    for axis, index in enumerate(firsts[: len(image.shape)], start=1):
        alternate = [name for name in header if name[:-1] == f"CRPIX{axis}" and name[-1:].isalpha()]
        for name in (f"CRPIX{axis}", *alternate):
            header[name] = number(header, name, 0.0) - index
    pixels_cut = image.window(plane, box).reshape((1,) * (len(image.shape) - 2) + (box.y1 - box.y0, box.x1 - box.x0))
    stream = BytesIO()
    fits.PrimaryHDU(pixels_cut.astype(">f4"), header).writeto(stream, output_verify="fix")
    return stream.getvalue()


def answer(files: Sequence[BinaryIO], asked: dict[str, Any]) -> bytes:
    """Return the part that is asked for of the first file.

    Raises
    ------
    FitsError
        The file cannot be used for it.
    """
    image, part, wish = open_image(files[0]), CutoutWish(**asked["cutout"]), PictureWish(**asked.get("picture", {}))
    box = box_around(image, part.ra, part.dec, part.width, part.height, part.unit)
    if part.format == "fits":
        return cut(image, box, wish.plane)
    wish = dataclasses.replace(wish, format=part.format)
    return encode(render(image, wish, box), wish)


if __name__ == "__main__":
    sys.exit(serve("dsa110_contimg.api.batch.cutouts", answer))
