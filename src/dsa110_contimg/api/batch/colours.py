"""The colour map of pictures: from dark violet over red to pale yellow in steps that look equal to the eye.

The path is drawn in Oklab (Ottosson 2020, "A perceptual color space for image processing"), a space in which equal
distances look equally different: lightness rises evenly, hue turns from violet (285 degrees) over red to yellow (100
degrees), chroma rises and falls in between. Colours are taken at equal lengths along it, and turned into sRGB (IEC
61966-2-1).
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Colours = npt.NDArray[np.float64]

_LMS_OF_LAB = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)
_RGB_OF_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_FINE = 4096


def path(steps: int) -> Colours:
    """Return ``steps`` colours as rows of Oklab coordinates (L, a, b), equally far from each other."""
    along = np.linspace(0.0, 1.0, _FINE)
    chroma = 0.145 * np.sin(np.pi * along**0.9) ** 0.8
    return _even(steps, 0.16 + 0.82 * along, 285.0 + 175.0 * along, chroma)


def _violet_to_yellow(steps: int) -> Colours:
    """Return the other path: violet (305 degrees) over blue and green to yellow (110 degrees)."""
    along = np.linspace(0.0, 1.0, _FINE)
    return _even(steps, 0.26 + 0.65 * along, 305.0 - 195.0 * along, 0.10 + 0.06 * along**2)


def _even(steps: int, lightness: Colours, hue_deg: Colours, chroma: Colours) -> Colours:
    """Return colours at equal lengths along a path."""
    hue_rad = np.radians(hue_deg)
    fine = np.stack([lightness, chroma * np.cos(hue_rad), chroma * np.sin(hue_rad)])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(fine), axis=0))])
    at = np.linspace(0.0, length[-1], steps)
    return np.stack([np.interp(at, length, axis) for axis in fine], axis=1)


def linear_rgb(lab: Colours) -> Colours:
    """Return linear sRGB (rows of R, G, B; 0 to 1 where the screen can show the colour) of rows of Oklab."""
    rgb: Colours = (lab @ _LMS_OF_LAB.T) ** 3 @ _RGB_OF_LMS.T
    return rgb


def colour_map(steps: int) -> npt.NDArray[np.uint8]:
    """Return the map, dark to light, as rows of R, G, B from 0 to 255."""
    return _encoded(path(steps))


def _grey(steps: int) -> npt.NDArray[np.uint8]:
    return np.repeat(np.round(np.linspace(0, 255, steps)).astype(np.uint8)[:, None], 3, axis=1)


#: Colour maps by name; each takes a number of steps. The names are those of ``COLOUR_MAPS`` of ``picture_wish``.
MAPS: Mapping[str, Callable[[int], npt.NDArray[np.uint8]]] = {
    "dsa": colour_map,
    "gray": _grey,
    "gray_r": lambda steps: _grey(steps)[::-1],
    "viridis": lambda steps: _encoded(_violet_to_yellow(steps)),
}


def named(name: str, steps: int) -> npt.NDArray[np.uint8]:
    """Return the colour map of a name as rows of R, G, B from 0 to 255."""
    return MAPS[name](steps)


def _encoded(lab: Colours) -> npt.NDArray[np.uint8]:
    rgb: Colours = np.clip(linear_rgb(lab), 0.0, 1.0)
    encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    colours: npt.NDArray[np.uint8] = np.round(255.0 * encoded).astype(np.uint8)
    return colours
