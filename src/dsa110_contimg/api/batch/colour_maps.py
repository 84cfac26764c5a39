"""Colour maps by their names.

``dsa`` is the map of ``colours.py``; ``viridis`` a polynomial fit of degree six in sRGB to the map of that name
(S. van der Walt and N. Smith, 2015), within 0.02 of it; ``gray`` rises evenly in sRGB. Each ``…_r`` runs from light to
dark.
"""

import numpy as np
import numpy.typing as npt

from dsa110_contimg.api.batch.colours import colour_map
from dsa110_contimg.api.colour_map_names import MAP_NAMES

#: Coefficients of R, G, B by rising power.
_VIRIDIS = np.array(
    [
        [0.2777273272234177, 0.005407344544966578, 0.3340998053353061],
        [0.1050930431085774, 1.404613529898575, 1.384590162594685],
        [-0.3308618287255563, 0.214847559468213, 0.09509516302823659],
        [-4.634230498983486, -5.799100973351585, -19.33244095627987],
        [6.228269936347081, 14.17993336680509, 56.69055260068105],
        [4.776384997670288, -13.74514537774601, -65.35303263337234],
        [-5.435455855934631, 4.645852612178535, 26.3124352495832],
    ]
)


def named(name: str, steps: int) -> npt.NDArray[np.uint8]:
    """Return a map, dark to light, as rows of R, G, B from 0 to 255; one of ``MAP_NAMES``.

    Raises
    ------
    ValueError
        There is no map of this name.
    """
    if name not in MAP_NAMES:
        raise ValueError(f"there is no colour map {name!r}; choose one of {', '.join(MAP_NAMES)}")
    base = name.removesuffix("_r")
    along = np.linspace(0.0, 1.0, steps)
    if base == "dsa":
        colours = colour_map(steps)
    elif base == "gray":
        colours = np.round(255 * np.stack([along] * 3, axis=1)).astype(np.uint8)
    else:
        rgb = (along[:, None] ** np.arange(len(_VIRIDIS))) @ _VIRIDIS
        colours = np.round(255 * np.clip(rgb, 0.0, 1.0)).astype(np.uint8)
    return colours[::-1] if name.endswith("_r") else colours
