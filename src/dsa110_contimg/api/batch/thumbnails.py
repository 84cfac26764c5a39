"""Pictures of images: FITS in, a small PNG out, made in a process of its own.

``python -m dsa110_contimg.api.batch.thumbnails --fd 5 --output picture.png`` renders one image. The API starts it so
that it never imports astropy itself, and so that a hostile or broken file ends a small process under limits of memory
and time instead of the service.

Method. The first plane is averaged in boxes to at most 512 pixels a side, weighted by its valid pixels. North is up and
east is left: rows and columns are turned by the signs of the WCS matrix. Background b is the median, noise s = 1.4826
times the median absolute deviation. Pixel x is drawn at asinh((x - b + 2s) / 3s), from 0 at b - 2s to 1 at the 99.95th
percentile (at least b + 20s): linear in the noise, logarithmic in the sources (Lupton et al. 2004, PASP 116, 133). The
colour map of ``colours.py`` has steps that look equal to the eye. Pixels without a value are grey.
"""

import argparse
import os
import resource
import sys
import uuid
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from PIL import Image

from dsa110_contimg.api.batch.colours import colour_map

Plane = npt.NDArray[np.float32]

SIDE_PIXELS = 512
MAX_PIXELS = 1 << 28  # 1 GiB of float32
_BLANK_RGB = (96, 96, 96)
_MEMORY_BYTES = 6 << 30  # address space; arrays of MAX_PIXELS in two copies and the libraries fit in
_CPU_S = 25


class PictureError(Exception):
    """No picture can be made of the file; the message says why."""


def read_plane(file: BinaryIO) -> tuple[Plane, Any]:
    """Return the first plane of a FITS image (rows by columns, float32, NaN where there is no value) and its header.

    Raises
    ------
    PictureError
        The file is no FITS image, is larger than what its size allows, or is too large for a picture.
    """
    if file.read(9) != b"SIMPLE  =":
        raise PictureError("the file does not begin as FITS does")
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with fits.open(file, memmap=False, lazy_load_hdus=True) as units:
            header = units[0].header
            _require_honest(header, size_bytes)
            plane = np.asarray(units[0].section[(0,) * (header["NAXIS"] - 2)], np.float32)
            return plane, header
    except (OSError, ValueError, TypeError, KeyError, fits.VerifyError) as error:
        raise PictureError(f"the FITS file cannot be read: {error}") from error


def _require_honest(header: Any, size_bytes: int) -> None:
    """Refuse an image that is none, or claims more pixels than its file holds."""
    axes = [header.get(f"NAXIS{n + 1}", 0) for n in range(header.get("NAXIS", 0))]
    if len(axes) < 2 or min(axes) < 1:
        raise PictureError(f"the primary unit is no image (axes {axes})")
    pixels = int(np.prod(axes, dtype=object))
    if pixels * abs(header["BITPIX"]) // 8 > size_bytes:
        raise PictureError(f"the header claims {pixels} pixels, the file has {size_bytes} bytes")
    if axes[0] * axes[1] > MAX_PIXELS:
        raise PictureError(f"{axes[0]} x {axes[1]} pixels are more than {MAX_PIXELS}")


def shrink(plane: Plane, side: int = SIDE_PIXELS) -> Plane:
    """Return the plane averaged in boxes to at most ``side`` pixels on its longer side; never enlarged."""
    valid = np.isfinite(plane)
    factor = max(1.0, max(plane.shape) / side)
    shape = (max(1, round(plane.shape[1] / factor)), max(1, round(plane.shape[0] / factor)))
    summed = _resize(np.where(valid, plane, np.float32(0)), shape)
    weight = _resize(valid.astype(np.float32), shape)
    return np.divide(summed, weight, out=np.full_like(summed, np.nan), where=weight >= 0.5)


def _resize(plane: Plane, shape: tuple[int, int]) -> Plane:
    return np.asarray(Image.fromarray(plane, "F").resize(shape, Image.Resampling.BOX))


def north_up(plane: Plane, header: Any) -> Plane:
    """Turn a plane so that its first row is the northernmost and its first column the easternmost.

    A FITS image has its first row at the bottom. The declination step along rows and the right ascension step along
    columns are read from CDELT and PC, or CD; without them the usual ones (north up, east left) are assumed.
    """
    ra_step = header.get("CD1_1", header.get("CDELT1", -1.0) * header.get("PC1_1", 1.0))
    dec_step = header.get("CD2_2", header.get("CDELT2", 1.0) * header.get("PC2_2", 1.0))
    turned = plane[::-1] if dec_step >= 0 else plane
    return turned if ra_step <= 0 else turned[:, ::-1]


def stretch(plane: Plane) -> Plane:
    """Return the plane on a scale of 0 to 1 (see the module's text); NaN stays NaN."""
    values = plane[np.isfinite(plane)]
    if values.size == 0:
        raise PictureError("the image holds no value at all")
    background = float(np.median(values))
    noise = 1.4826 * float(np.median(np.abs(values - background))) or float(np.ptp(values)) / 100 or 1.0
    top = max(float(np.percentile(values, 99.95)), background + 20 * noise)
    scaled = np.arcsinh((plane - background + 2 * noise) / (3 * noise))
    shade: Plane = np.clip(scaled / np.arcsinh((top - background + 2 * noise) / (3 * noise)), 0.0, 1.0)
    return shade


def render(file: BinaryIO, side: int = SIDE_PIXELS) -> Image.Image:
    """Return the picture of a FITS image.

    Raises
    ------
    PictureError
        See :func:`read_plane`; or the image holds no value.
    """
    plane, header = read_plane(file)
    shade = stretch(north_up(shrink(plane, side), header))
    picture = Image.fromarray(np.where(np.isnan(shade), 0, 1 + np.nan_to_num(shade) * 254).astype(np.uint8), "P")
    picture.putpalette([*_BLANK_RGB, *colour_map(255).ravel().tolist()])
    return picture


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG beside its final name and rename it: nobody sees half a picture."""
    partial = path.with_name(f"{path.name}.partial-{uuid.uuid4().hex}")
    try:
        picture.save(partial, "PNG", optimize=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main() -> int:
    """Render the image behind a descriptor; the exit code is 2 and standard error has the reason when it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m dsa110_contimg.api.batch.thumbnails")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the FITS file, open for reading")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    parser.add_argument("--side", type=int, default=SIDE_PIXELS, help="longest side of the picture, pixels")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with os.fdopen(options.fd, "rb") as file:
            save(render(file, options.side), options.output)
    except (PictureError, OSError, MemoryError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
