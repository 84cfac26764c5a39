"""Association of positions on the sphere.

Distances come from the chord between unit vectors: exact at any separation that matters for association, without a
special case at right ascension 0 or at the poles. Pure Python, so that the wings that move records need no numerics.
"""

from collections.abc import Iterable
from math import asin, cos, degrees, dist, radians, sin
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


def unit_vector(ra_deg: float, dec_deg: float) -> tuple[float, float, float]:
    """Return the unit vector (x, y, z) towards a direction."""
    ra_rad, dec_rad = radians(ra_deg), radians(dec_deg)
    return cos(dec_rad) * cos(ra_rad), cos(dec_rad) * sin(ra_rad), sin(dec_rad)


def separation_deg(ra1_deg: float, dec1_deg: float, ra2_deg: float, dec2_deg: float) -> float:
    """Return the angle between two directions: 2 asin(chord / 2)."""
    chord = dist(unit_vector(ra1_deg, dec1_deg), unit_vector(ra2_deg, dec2_deg))
    return degrees(2 * asin(min(1.0, chord / 2)))


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
