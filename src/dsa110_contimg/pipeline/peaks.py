"""Positions of the brightest sources of a dirty image, found by peeling it in the image plane.

The brightest peak is placed between the pixels by a parabola in each axis, the point spread function is subtracted
there (bilinear between pixels), and so on, as CLEAN with a gain of 1. What limits it is the change of a source's
apparent flux during the observation, which makes its own point spread function differ from the mean one; so it stops at
`DEPTH` of the brightest peak, and the caller comes again with a better residual.
"""

import numpy as np
from numba import prange

from dsa110_contimg.pipeline.averaging import Floats
from dsa110_contimg.pipeline.compiled import compiled

DEPTH = 0.02  # 20 % change of the response x sidelobes of 0.1; a sidelobe taken for a source falls at its first fit
_TURNS = 3  # how often a source may come up until it is below the limit


def peel(
    image: Floats, psf: Floats, floor_jyb: float, min_distance: float, max_count: int
) -> list[tuple[float, float]]:
    """Return positions (x, y) in pixels, brightest first.

    Parameters
    ----------
    image, psf : [y, x] of the same size; the point spread function has its peak, 1, at [n//2, n//2].
    floor_jyb : height of the faintest peak.
    min_distance : smallest distance (pixels) of two positions.
    max_count : largest number of positions.
    """
    left = image.copy()
    limit_jyb = max(floor_jyb, DEPTH * float(image.max()))
    found: list[tuple[float, float]] = []
    for _ in range(_TURNS * max_count):
        core = left[1:-1, 1:-1]
        y, x = (int(i) + 1 for i in np.unravel_index(np.argmax(core), core.shape))
        if left[y, x] < limit_jyb or len(found) == max_count:
            break
        dx, dy = vertex(left[y, x - 1 : x + 2]), vertex(left[y - 1 : y + 2, x])
        _subtract(left, psf, x, y, dx, dy)
        if all(np.hypot(x + dx - known_x, y + dy - known_y) > min_distance for known_x, known_y in found):
            found.append((x + dx, y + dy))
    return found


def vertex(values: Floats) -> float:
    """Return the vertex of the parabola through three neighbouring pixels, relative to the middle one."""
    before, at, after = (float(value) for value in values)
    bend = before - 2 * at + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


@compiled(parallel=True)
def _subtract(left: Floats, psf: Floats, x: int, y: int, dx: float, dy: float) -> None:
    """Subtract the point spread function at (x + dx, y + dy) so that pixel (x, y) becomes 0; in place.

    Outside of its square, where the far sidelobes are, nothing is subtracted.
    """
    half, size = psf.shape[0] // 2, left.shape[0]
    step_x, step_y = int(np.floor(-dx)), int(np.floor(-dy))
    right, up = np.float32(-dx - step_x), np.float32(-dy - step_y)
    at = half + step_y, half + step_x
    lower = psf[at[0], at[1]] * (1 - right) + psf[at[0], at[1] + 1] * right
    upper = psf[at[0] + 1, at[1]] * (1 - right) + psf[at[0] + 1, at[1] + 1] * right
    scale = left[y, x] / (lower * (1 - up) + upper * up)
    for row in prange(max(0, y - half + 1), min(size, y + size - half - 1)):
        p = row - y + half + step_y
        for column in range(max(0, x - half + 1), min(size, x + size - half - 1)):
            q = column - x + half + step_x
            lower = psf[p, q] * (1 - right) + psf[p, q + 1] * right
            upper = psf[p + 1, q] * (1 - right) + psf[p + 1, q + 1] * right
            left[row, column] -= scale * (lower * (1 - up) + upper * up)
