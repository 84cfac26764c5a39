"""Pictures of images: FITS in, a small PNG (JPEG, WebP, GIF) out, made in a process of its own.

``python -m dsa110_contimg.api.batch.thumbnails --fd 5 --ask '{"picture": {"side": 512}}'`` draws one image and writes
the picture on standard output. The API starts it so that it never imports astropy itself, and so that a hostile or
broken file ends a small process under limits of memory and time instead of the service.

Method. A plane is averaged in boxes to at most ``side`` pixels a side, weighted by its valid pixels. North is up and
east is left: rows and columns are turned by the signs of the WCS matrix. The scale is one of ``stretches.py``, the
colour map one of ``colours.py``. Pixels without a value are transparent (grey in JPEG). The synthesised beam stands in
the lower left corner.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import orjson
from PIL import Image

from dsa110_contimg.api.batch.beam_mark import draw_beam
from dsa110_contimg.api.batch.colours import named
from dsa110_contimg.api.batch.fits_file import UNUSABLE, Box, FitsError, FitsImage, Plane, number, open_image
from dsa110_contimg.api.batch.stretches import Curve, curve_for
from dsa110_contimg.api.picture_wish import PictureWish
from dsa110_contimg.pipeline.confinement import answer_confined

_BLANK_RGB = (96, 96, 96)
_PIL_NAMES = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}


def shrink(plane: Plane, side: int) -> Plane:
    """Return the plane averaged in boxes to at most ``side`` pixels on its longer side; never enlarged."""
    return _averaged(*_with_weights(plane), side)


def _with_weights(band: Plane) -> tuple[Image.Image, Image.Image]:
    """Return values, 0 where there is none, and 1 where there is one."""
    valid = np.isfinite(band)
    return Image.fromarray(np.where(valid, band, np.float32(0)), "F"), Image.fromarray(valid.astype(np.float32), "F")


def _averaged(values: Image.Image, weights: Image.Image, side: int) -> Plane:
    """Average boxes of values (already times their weights); blank where less than half of a box has a value."""
    factor = max(1.0, max(values.size) / side)
    size = (max(1, round(values.width / factor)), max(1, round(values.height / factor)))
    summed, weight = _resize(values, size), _resize(weights, size)
    return np.divide(summed, weight, out=np.full_like(summed, np.nan), where=weight >= 0.5)


def _resize(whole: Image.Image, size: tuple[int, int]) -> Plane:
    return np.asarray(whole.resize(size, Image.Resampling.BOX))


def read_small(image: FitsImage, plane: int, side: int) -> Plane:
    """Return a plane averaged to at most ``side`` pixels; less than four times as many a side are in memory at once.

    Squares of pixels are averaged first, as the rows come; those at the ends may be smaller.
    """
    height, width = image.shape[-2:]
    block = max(1, max(height, width) // (2 * side))
    size = (-(-width // block), -(-height // block))
    values, weights = Image.new("F", size), Image.new("F", size)
    row = 0
    for band in image.bands(plane, block * max(1, (1 << 22) // (block * width))):
        for whole, part in zip((values, weights), _with_weights(band), strict=True):
            whole.paste(part.reduce(block), (0, row))
        row += len(band) // block
    return _averaged(values, weights, side)


def north_up(plane: Plane, header: Any) -> Plane:
    """Turn a plane so that its first row is the northernmost and its first column the easternmost.

    A FITS image has its first row at the bottom. The declination step along rows and the right ascension step along
    columns are read from CDELT and PC or CROTA2, or CD; without them the usual ones (north up, east left) are assumed.
    """
    upright = math.cos(math.radians(number(header, "CROTA2", 0.0)))
    ra_step = number(header, "CD1_1", number(header, "CDELT1", -1.0) * number(header, "PC1_1", upright))
    dec_step = number(header, "CD2_2", number(header, "CDELT2", 1.0) * number(header, "PC2_2", upright))
    turned = plane[::-1] if dec_step >= 0 else plane
    return turned if ra_step <= 0 else turned[:, ::-1]


def paint(plane: Plane, curve: Curve, wish: PictureWish) -> Image.Image:
    """Return a plane (first row on top) in colours; palette entry 0 is for pixels without a value."""
    shade = curve(plane)
    shades = np.where(np.isnan(shade), 0, 1 + np.nan_to_num(shade) * 254).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(shades), "P")
    picture.putpalette([*_BLANK_RGB, *named(wish.colormap, 255).ravel().tolist()])
    return picture


def render(image: FitsImage, wish: PictureWish, box: Box | None = None) -> Image.Image:
    """Return the picture of a plane, or of a part of it.

    Raises
    ------
    FitsError
        There is no such plane, or it holds no value.
    """
    small = shrink(image.window(wish.plane, box), wish.side) if box else read_small(image, wish.plane, wish.side)
    plane = north_up(small, image.header)
    picture = paint(plane, curve_for(wish.scale, plane), wish)
    width = image.shape[-1] if box is None else box.x1 - box.x0
    return draw_beam(picture, image.header, picture.width / width) if wish.beam else picture


def encode(picture: Image.Image, wish: PictureWish) -> bytes:
    """Return the bytes of a picture in the wanted format."""
    stream = BytesIO()
    if wish.format == "png":
        picture.save(stream, "PNG", optimize=True, transparency=0)
    else:
        alpha = picture.convert("RGB") if wish.format == "jpg" else _with_alpha(picture)
        alpha.save(stream, _PIL_NAMES[wish.format], quality=wish.quality)
    return stream.getvalue()


def _with_alpha(picture: Image.Image) -> Image.Image:
    picture.info["transparency"] = 0
    return picture.convert("RGBA")


def animate(images: Sequence[FitsImage], wish: PictureWish, frames: int, fps: int) -> bytes:
    """Return a GIF: the planes of one image, or the images given; all shaded as suits the first with a value.

    Parameters
    ----------
    images
        In the order in which they are shown.
    frames : int
        Most frames; more planes than that are thinned out evenly.
    fps : int
        Frames per second.
    """
    first = images[0]
    shown = [(first, plane) for plane in range(first.n_planes)] if first.n_planes > 1 else [(one, 0) for one in images]
    picked = [shown[index] for index in np.unique(np.linspace(0, len(shown) - 1, min(frames, len(shown))).astype(int))]
    planes = [north_up(read_small(image, plane, wish.side), image.header) for image, plane in picked]
    curve = curve_for(wish.scale, next((plane for plane in planes if np.isfinite(plane).any()), planes[0]))
    pictures = [paint(plane, curve, wish) for plane in planes]
    stream = BytesIO()
    pictures[0].save(
        stream, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, transparency=0,
        disposal=2,
    )  # fmt: skip
    return stream.getvalue()


def answer(files: Sequence[BinaryIO], asked: dict[str, Any]) -> bytes:
    """Return what is asked: a picture of the first file, or an animation.

    Raises
    ------
    FitsError
        The first file cannot be used for it.
    """
    wish, first = PictureWish(**asked.get("picture", {})), open_image(files[0])
    if "frames" in asked:
        return animate([first, *_readable(files[1:])], wish, asked["frames"], asked["fps"])
    return encode(render(first, wish), wish)


def _readable(files: Sequence[BinaryIO]) -> Iterator[FitsImage]:
    """Open the others of a field; one that is no image is left out, as is one whose file is gone."""
    for file in files:
        try:
            yield open_image(file)
        except FitsError:
            continue


def serve(prog: str, answer: Callable[[Sequence[BinaryIO], dict[str, Any]], bytes]) -> int:
    """Write what is asked for; the exit code is 2 and standard error has the reason when it cannot be."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}")
    parser.add_argument("--fd", type=int, action="append", required=True, help="descriptor of a FITS file")
    parser.add_argument("--ask", type=orjson.loads, default={}, help="what is asked for, as JSON")
    options = parser.parse_args()
    return answer_confined(lambda: answer([os.fdopen(fd, "rb") for fd in options.fd], options.ask), UNUSABLE)


if __name__ == "__main__":
    sys.exit(serve("dsa110_contimg.api.batch.thumbnails", answer))
