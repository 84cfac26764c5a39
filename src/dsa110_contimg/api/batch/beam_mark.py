"""The synthesised beam, drawn into the lower left corner of a picture."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dsa110_contimg.api.batch.fits_file import beam_axes_deg, known

_MARGIN_PIXELS = 4.0
_CORNERS = 48
_LARGEST_PART = 0.5  # of a picture's shorter side; a beam larger than that hides what it stands in


def ellipse(major: float, minor: float, angle_deg: float) -> tuple[list[float], list[float]]:
    """Return the corners of an ellipse about 0, 0 (x to the right, y down); east is left, so angles turn leftwards."""
    at = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    north, east = major / 2 * np.cos(at), minor / 2 * np.sin(at)
    angle = np.radians(angle_deg)
    up = north * np.cos(angle) - east * np.sin(angle)
    left = north * np.sin(angle) + east * np.cos(angle)
    return list(-left), list(-up)


def draw_beam(picture: Image.Image, header: Any, zoom: float) -> Image.Image:
    """Draw the beam (light, with a dark edge) when the header has one that fits in; ``zoom``: drawn per image pixel."""
    beam = beam_axes_deg(header)
    step_deg = known(header, "CDELT2" if "CDELT2" in header else "CD2_2")
    if beam is None or not step_deg:
        return picture
    major, minor = (max(3.0, axis / abs(step_deg) * zoom) for axis in beam[:2])
    if major > _LARGEST_PART * min(picture.size):
        return picture
    x, y = ellipse(major, minor, beam[2])
    left, low = _MARGIN_PIXELS - min(x), picture.height - _MARGIN_PIXELS - max(y)
    corners = [(left + a, low + b) for a, b in zip(x, y, strict=True)]
    palette = np.asarray(picture.getpalette() or [], np.int64).reshape(-1, 3)[1:256].sum(axis=1)
    light, dark = 1 + int(palette.argmax()), 1 + int(palette.argmin())
    ImageDraw.Draw(picture).polygon(corners, fill=light, outline=dark)
    return picture
