"""Primary beam of a DSA-110 antenna: the Airy pattern of its dish.

Power response A = (2 J1(x) / x)^2 with x = pi D sin(theta) / lambda, theta the angle from the pointing direction
(Born & Wolf, section 8.5.2, for a uniformly lit circular aperture). Full width at half power 1.029 lambda / D: 2.7
degrees at 1405 MHz. Both polarisations are taken to be equal and the pattern round.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import j1

from dsa110_contimg.pipeline.array import DISH_DIAMETER_M, SPEED_OF_LIGHT_M_S

#: Argument of the Airy pattern at half power, over pi: FWHM = 2 * 0.514497 lambda / D.
_HALF_POWER = 0.514497


def power(separation_rad: npt.ArrayLike, frequency_hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the power response (1 on the axis) at an angle (rad) from the axis; the arguments broadcast."""
    sine = np.sin(np.asarray(separation_rad, dtype=np.float64))
    x = np.pi * DISH_DIAMETER_M * np.asarray(frequency_hz, dtype=np.float64) / SPEED_OF_LIGHT_M_S * sine
    small = np.abs(x) < 1e-6
    x = np.where(small, 1.0, x)
    return np.asarray(np.where(small, 1.0, (2.0 * j1(x) / x) ** 2), dtype=np.float64)


def half_power_width_rad(frequency_hz: float) -> float:
    """Return the full width at half power (rad)."""
    return 2.0 * float(np.arcsin(_HALF_POWER * SPEED_OF_LIGHT_M_S / (frequency_hz * DISH_DIAMETER_M)))


def separation_rad(
    ra1_rad: npt.ArrayLike, dec1_rad: npt.ArrayLike, ra2_rad: npt.ArrayLike, dec2_rad: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return the angle (rad) between directions, accurate at every distance (haversine); the arguments broadcast."""
    ra1, dec1, ra2, dec2 = (np.asarray(a, dtype=np.float64) for a in (ra1_rad, dec1_rad, ra2_rad, dec2_rad))
    haversine = np.sin((dec2 - dec1) / 2) ** 2 + np.cos(dec1) * np.cos(dec2) * np.sin((ra2 - ra1) / 2) ** 2
    return np.asarray(2.0 * np.arcsin(np.sqrt(np.clip(haversine, 0.0, 1.0))), dtype=np.float64)
