"""Association of positions on the sphere.

Pure Python, so that the wings that move records need no numerics.
"""

from collections.abc import Iterable
from math import atan2, cos, degrees, hypot, radians, sin
from typing import Protocol, TypeVar


class HasPosition(Protocol):
    """Anything at a place on the sky (ICRS, deg)."""

    @property
    def ra_deg(self) -> float:
        """Right ascension."""

    @property
    def dec_deg(self) -> float:
        """Declination."""


Candidate = TypeVar("Candidate", bound=HasPosition)


def separation_deg(ra1_deg: float, dec1_deg: float, ra2_deg: float, dec2_deg: float) -> float:
    """Return the angle between two directions, degrees.

    By Vincenty's formula for a sphere (1975, Survey Review 23, 88), which is exact for small and for large angles.
    """
    dec1, dec2 = radians(dec1_deg), radians(dec2_deg)
    d_ra = radians(ra2_deg - ra1_deg)
    across = cos(dec2) * sin(d_ra)
    along = cos(dec1) * sin(dec2) - sin(dec1) * cos(dec2) * cos(d_ra)
    inward = sin(dec1) * sin(dec2) + cos(dec1) * cos(dec2) * cos(d_ra)
    return degrees(atan2(hypot(across, along), inward))


def nearest_within(
    ra_deg: float, dec_deg: float, candidates: Iterable[Candidate], radius_deg: float
) -> Candidate | None:
    """Return the candidate nearest to a position, or None if none is within the radius (inclusive).

    Of two at the same distance the first one wins, so that the answer does not depend on chance.
    """
    best, best_deg = None, radius_deg
    for candidate in candidates:
        away_deg = separation_deg(ra_deg, dec_deg, candidate.ra_deg, candidate.dec_deg)
        if away_deg < best_deg or (best is None and away_deg <= radius_deg):
            best, best_deg = candidate, away_deg
    return best
