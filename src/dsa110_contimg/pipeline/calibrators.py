"""Calibrators of known position and flux density at 1.4 GHz.

``data/calibrators.csv`` holds the entries of the VLA calibrator list that have a flux density at 20 cm, with the
spectral index between 20 cm and 6 cm where both are known. The primary calibrators 3C48, 3C138, 3C147, 3C196, 3C286 and
3C295 carry the scale of Perley & Butler (2017, ApJS 230, 7, table 6) at 1.4 GHz and its local slope instead. Sources
without a flux density at 20 cm are not in the list: none is ever assumed. This module needs nothing but Python.
"""

import csv
import difflib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from dsa110_contimg.pipeline.errors import BadInputError

REFERENCE_HZ = 1.4e9
RADIUS_DEG = 30 / 3600  # what is found nearer is the calibrator: less than a synthesised beam of the array's core
#: Used where the list has no flux density at 6 cm; over our band an error of 0.5 in it changes a flux by 3 % at most.
_TYPICAL_SPECTRAL_INDEX = -0.5
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A compact source of known flux density.

    Attributes
    ----------
    name, alternate_name : str
        IAU J2000 name (``0521+166``) and a common one (``3C138``; may be empty).
    ra_deg, dec_deg : float
        ICRS position.
    flux_1400_jy : float
        Flux density at 1.4 GHz.
    spectral_index : float
        S ~ frequency ** spectral_index.
    quality : str
        VLA codes for configurations A to D: P under 3 % amplitude closure error, S 3 to 10 %, W more, X not to be used.
    scale : str
        ``PB2017`` or ``VLA``.
    """

    name: str
    alternate_name: str
    ra_deg: float
    dec_deg: float
    flux_1400_jy: float
    spectral_index: float
    quality: str
    scale: str

    def flux_jy(self, frequency_hz: float) -> float:
        """Return the flux density (Jy) at a frequency (Hz)."""
        return float(self.flux_1400_jy * (frequency_hz / REFERENCE_HZ) ** self.spectral_index)


@cache
def load() -> tuple[Calibrator, ...]:
    """Return all calibrators in order of right ascension."""
    text = files("dsa110_contimg.pipeline").joinpath("data/calibrators.csv").read_text(encoding="ascii")
    return tuple(_calibrator(row) for row in csv.DictReader(text.splitlines()))


def find(name: str) -> Calibrator:
    """Return the calibrator of this name (IAU or common, upper or lower case).

    Raises
    ------
    BadInputError
        No calibrator of the list has the name.
    """
    wanted = name.casefold().replace(" ", "")
    for calibrator in load():
        if wanted in (calibrator.name.casefold(), calibrator.alternate_name.casefold()):
            return calibrator
    names = [one for calibrator in load() for one in (calibrator.name, calibrator.alternate_name) if one]
    near = difflib.get_close_matches(wanted.upper()[:_LONGEST_NAME], names, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise BadInputError(
        f"calibrator {name[:_LONGEST_NAME]!r} is not in the catalogue; {meant}"
        "give a J2000 name such as 0521+166 or 3C138"
    )


def _calibrator(row: dict[str, str]) -> Calibrator:
    return Calibrator(
        name=row["name"],
        alternate_name=row["alternate_name"],
        ra_deg=float(row["ra_deg"]),
        dec_deg=float(row["dec_deg"]),
        flux_1400_jy=float(row["flux_1400_jy"]),
        spectral_index=float(row["spectral_index"] or _TYPICAL_SPECTRAL_INDEX),
        quality=row["quality"],
        scale=row["scale"],
    )
