"""Pictures of rasters: values in, a PNG with axes and a colour bar out, made in a process of its own.

``python -m dsa110_contimg.api.batch.rasters --fd 5 --width 800 --height 600 --xaxis time --yaxis amp`` reads the
``.npz`` of ``pipeline.ms_reports`` from a descriptor and writes the PNG on standard output. Colours run from the 1st to
the 99th percentile, of phases from -180 to 180 degrees; pixels without data are grey.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dsa110_contimg.api.batch.colours import named
from dsa110_contimg.api.picture_wish import COLOUR_MAPS
from dsa110_contimg.pipeline.confinement import answer_confined

_BLANK_RGB = (96, 96, 96)
_INK = (30, 30, 30)
_LEFT, _TOP, _RIGHT, _BOTTOM = 72, 28, 96, 40
_BAR_WIDTH, _BAR_GAP = 14, 12
_TICKS = 5

#: What stands at the axes and at the colour bar.
_ACROSS = {"time": "time (s)", "baseline": "baseline", "frequency": "frequency (MHz)"}
_DOWN = {"time": "baseline", "baseline": "time (s)", "frequency": "time (s)"}
_UNITS = {"amp": "amplitude", "phase": "phase (deg)", "real": "real part", "imag": "imaginary part"}


@dataclass(frozen=True, slots=True)
class Style:
    """How a raster is drawn; sizes in pixels."""

    xaxis: str
    yaxis: str
    colormap: str = "viridis"
    width: int = 800
    height: int = 600


def limits(values: npt.NDArray[np.float32], yaxis: str) -> tuple[float, float]:
    """Return the values of the darkest and the lightest colour."""
    known = values[np.isfinite(values)]
    if yaxis == "phase":
        return -180.0, 180.0
    if known.size == 0:
        return 0.0, 1.0
    low, high = (float(one) for one in np.percentile(known, (1, 99)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def draw(
    values: npt.NDArray[np.float32], across: npt.NDArray[np.float64], down: npt.NDArray[np.float64], style: Style
) -> Image.Image:
    """Return the picture of a raster.

    Parameters
    ----------
    values : ndarray (down, across)
        NaN where there is no data.
    across, down : ndarray (2,)
        First and last value of each axis.
    style : Style
    """
    low, high = limits(values, style.yaxis)
    colours = named(style.colormap, 256)
    shade = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1)
    pixels = colours[np.round(255 * shade).astype(np.uint8)]
    pixels[~np.isfinite(values)] = _BLANK_RGB
    size = (style.width - _LEFT - _RIGHT, style.height - _TOP - _BOTTOM)
    picture = Image.new("RGB", (style.width, style.height), "white")
    picture.paste(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST), (_LEFT, _TOP))
    bar = Image.fromarray(colours[::-1, None].repeat(_BAR_WIDTH, axis=1)).resize((_BAR_WIDTH, size[1]))
    picture.paste(bar, (_LEFT + size[0] + _BAR_GAP, _TOP))
    _write_axes(ImageDraw.Draw(picture), size, (across, down, np.array([high, low])), style)
    return picture


def _write_axes(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], ends: tuple[npt.NDArray[np.float64], ...], style: Style
) -> None:
    across, down, colours = ends
    right, bottom = _LEFT + size[0], _TOP + size[1]
    pen.rectangle((_LEFT - 1, _TOP - 1, right, bottom), outline=_INK)
    for share, label in ticks(across, counted=style.xaxis == "baseline"):
        x = _LEFT + share * size[0]
        pen.line((x, bottom, x, bottom + 4), fill=_INK)
        pen.text((x, bottom + 6), label, fill=_INK, anchor="ma")
    for share, label in ticks(down, counted=style.xaxis == "time"):
        y = _TOP + share * size[1]
        pen.line((_LEFT - 5, y, _LEFT - 1, y), fill=_INK)
        pen.text((_LEFT - 8, y), label, fill=_INK, anchor="rm")
    for share, label in ticks(colours):
        pen.text((right + _BAR_GAP + _BAR_WIDTH + 5, _TOP + share * size[1]), label, fill=_INK, anchor="lm")
    pen.text(((_LEFT + right) / 2, bottom + 22), _ACROSS[style.xaxis], fill=_INK, anchor="ma")
    title = f"{_UNITS[style.yaxis]}, {_DOWN[style.xaxis]} downwards"
    pen.text((_LEFT, _TOP - 8), title, fill=_INK, anchor="ls")


def ticks(ends: npt.NDArray[np.float64], *, counted: bool = False) -> list[tuple[float, str]]:
    """Return where an axis has its marks (0 to 1) and what is written there.

    Parameters
    ----------
    ends : ndarray (2,)
        First and last value.
    counted : bool
        The values number things, each as wide as the others: whole numbers, each at the middle of its thing.
    """
    if not counted:
        return [(float(share), f"{ends[0] + share * (ends[1] - ends[0]):.4g}") for share in np.linspace(0, 1, _TICKS)]
    numbers = np.unique(np.linspace(ends[0], ends[1], _TICKS).round().astype(int))
    return [(float((number - ends[0] + 0.5) / (ends[1] - ends[0] + 1)), str(number)) for number in numbers]


def main() -> int:
    """Draw; the exit code is 2 and standard error has the reason when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m dsa110_contimg.api.batch.rasters")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the .npz")
    parser.add_argument("--width", type=int, default=800)
    parser.add_argument("--height", type=int, default=600)
    parser.add_argument("--xaxis", choices=sorted(_ACROSS), required=True)
    parser.add_argument("--yaxis", choices=sorted(_UNITS), required=True)
    parser.add_argument("--colormap", choices=COLOUR_MAPS, default="viridis")
    options = parser.parse_args()
    style = Style(options.xaxis, options.yaxis, options.colormap, options.width, options.height)

    def make() -> bytes:
        held, stream = np.load(os.fdopen(options.fd, "rb"), allow_pickle=False), BytesIO()
        draw(held["values"], held["across"], held["down"], style).save(stream, "PNG")
        return stream.getvalue()

    return answer_confined(make, (OSError, ValueError, KeyError, MemoryError))


if __name__ == "__main__":
    sys.exit(main())
