"""What a client may ask of a picture: the words that the API and the process that draws have in common."""

from dataclasses import dataclass
from typing import Literal, get_args

ColourMap = Literal["gray", "gray_r", "dsa", "viridis"]
PictureScale = Literal["linear", "log", "sqrt", "asinh", "zscale"]
PictureFormat = Literal["png", "jpg", "webp"]
CutoutFormat = Literal["fits", "png", "jpg", "webp"]
CutoutUnit = Literal["arcsec", "arcmin", "pixel"]

COLOUR_MAPS: tuple[str, ...] = get_args(ColourMap)
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "fits": "application/fits"}
SMALLEST_SIDE, USUAL_SIDE, LARGEST_SIDE = 32, 512, 2048


@dataclass(frozen=True, slots=True)
class PictureWish:
    """How an image is drawn.

    Attributes
    ----------
    side : int
        Longest side, pixels; an image is never enlarged.
    colormap, scale, format
        See the literals.
    quality : int
        1 to 100, of the formats that lose something.
    plane : int
        Which plane, from 0.
    beam : bool
        Draw the synthesised beam into the lower left corner.
    """

    side: int = USUAL_SIDE
    colormap: ColourMap = "dsa"
    scale: PictureScale = "asinh"
    format: PictureFormat = "png"
    quality: int = 90
    plane: int = 0
    beam: bool = True


@dataclass(frozen=True, slots=True)
class CutoutWish:
    """A part of an image around a position (ICRS, degrees), and its form; pictures are drawn by ``picture``."""

    ra: float
    dec: float
    width: float = 60.0
    height: float = 60.0
    unit: CutoutUnit = "arcsec"
    format: CutoutFormat = "fits"
