"""The colour map of pictures: from dark violet over red to pale yellow in steps that look equal to the eye.

The path is drawn in Oklab (Ottosson 2020, "A perceptual color space for image processing"), a space in which equal
distances look equally different: lightness rises evenly, hue turns from violet (285 degrees) over red to yellow (100
degrees), chroma rises and falls in between. Colours are taken at equal lengths along it, and turned into sRGB (IEC
61966-2-1).
"""

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
    hue_rad = np.radians(285.0 + 175.0 * along)
    chroma = 0.145 * np.sin(np.pi * along**0.9) ** 0.8
    fine = np.stack([0.16 + 0.82 * along, chroma * np.cos(hue_rad), chroma * np.sin(hue_rad)])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(fine), axis=0))])
    at = np.linspace(0.0, length[-1], steps)
    return np.stack([np.interp(at, length, axis) for axis in fine], axis=1)


def linear_rgb(lab: Colours) -> Colours:
    """Return linear sRGB (rows of R, G, B; 0 to 1 where the screen can show the colour) of rows of Oklab."""
    rgb: Colours = (lab @ _LMS_OF_LAB.T) ** 3 @ _RGB_OF_LMS.T
    return rgb


def colour_map(steps: int) -> npt.NDArray[np.uint8]:
    """Return the map, dark to light, as rows of R, G, B from 0 to 255."""
    rgb = np.clip(linear_rgb(path(steps)), 0.0, 1.0)
    encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return np.round(255.0 * encoded).astype(np.uint8)
