"""Calibrators of the list as a pointing sees them, through the primary beam."""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.pipeline import beam
from dsa110_contimg.pipeline.array import BAND_CENTRE_HZ
from dsa110_contimg.pipeline.calibrators import Calibrator, load

_MIN_RESPONSE = 0.1  # power of the beam at the centre of the band


@dataclass(frozen=True, slots=True)
class CalibratorInBeam:
    """A calibrator as seen through the primary beam, at the centre of the band."""

    calibrator: Calibrator
    separation_deg: float
    apparent_flux_jy: float


def calibrators_in_beam(ra_deg: float, dec_deg: float) -> list[CalibratorInBeam]:
    """Return the calibrators in the main lobe of the primary beam, brightest apparent flux density first.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Pointing direction (ICRS).
    """
    ra_rad, dec_rad = np.radians([[c.ra_deg, c.dec_deg] for c in load()]).T
    separation_rad = beam.separation_rad(np.radians(ra_deg), np.radians(dec_deg), ra_rad, dec_rad)
    in_main_lobe = separation_rad < beam.half_power_width_rad(BAND_CENTRE_HZ)
    response = np.where(in_main_lobe, beam.power(separation_rad, BAND_CENTRE_HZ), 0.0)
    seen = [
        CalibratorInBeam(c, float(np.degrees(s)), c.flux_jy(BAND_CENTRE_HZ) * float(a))
        for c, s, a in zip(load(), separation_rad, response, strict=True)
        if a >= _MIN_RESPONSE
    ]
    return sorted(seen, key=lambda c: -c.apparent_flux_jy)
