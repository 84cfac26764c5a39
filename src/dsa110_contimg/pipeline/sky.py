"""A simulated piece of sky: point sources of known position and flux density, and what each antenna receives of them.

Flux densities follow a truncated power law of the source counts, N(>S) ~ S**-0.8, sampled at equal steps of its
distribution, so that the faintest and the brightest value always occur. Positions are random in a disc about the
pointing direction, no two closer than a few synthesised beams.

The voltage of antenna a from source s is sqrt(S A) exp(2 pi i w_a nu / c), with A the power response of the primary
beam and w_a the path (m) towards the source minus that towards the phase centre. The visibility of antennas 1 and 2
is the sum over the sources of V2 conj(V1) = S A exp(2 pi i (w_2 - w_1) nu / c), the convention of UVH5 files
(baseline from 1 to 2).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsa110_contimg.pipeline import beam, coordinates
from dsa110_contimg.pipeline.array import BAND_CENTRE_HZ, SPEED_OF_LIGHT_M_S
from dsa110_contimg.pipeline.errors import BadInputError

Floats = npt.NDArray[np.float64]
_COUNTS_SLOPE = 0.8
_PLACEMENTS = 3_000


@dataclass(frozen=True, slots=True)
class Source:
    """A point source; ``flux_jy`` is its flux density at the centre of the band, 1405 MHz."""

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float
    spectral_index: float


@dataclass(frozen=True, slots=True)
class Drift:
    """The meridian at the times of an observation.

    Attributes
    ----------
    jd_utc : ndarray, float64, shape (time,)
        Centres of the integrations.
    dec_rad : float
        Apparent declination of the pointing, hour angle 0.
    """

    jd_utc: Floats
    dec_rad: float


def random_field(
    rng: np.random.Generator,
    centre_deg: tuple[float, float],
    n_sources: int,
    avoid: Source,
    *,
    radius_deg: float = 1.35,
    separation_deg: float = 0.1,
    min_jy: float = 0.02,
    max_jy: float = 5.0,
) -> list[Source]:
    """Return sources about a centre (ICRS, deg), apart from each other and twice as far from the one to avoid."""
    step = np.linspace(0.0, 1.0, n_sources) if n_sources > 1 else np.zeros(n_sources)
    low, high = min_jy**-_COUNTS_SLOPE, max_jy**-_COUNTS_SLOPE
    flux_jy = (high + step * (low - high)) ** (-1.0 / _COUNTS_SLOPE)
    spectral_index = rng.normal(-0.7, 0.2, n_sources)
    places_deg = [(avoid.ra_deg, avoid.dec_deg)]
    for _ in range(_PLACEMENTS):
        if len(places_deg) > n_sources:
            break
        place_deg = _random_place(rng, centre_deg, radius_deg)
        apart_deg = _separations_deg(place_deg, places_deg)
        if apart_deg[0] > 2.0 * separation_deg and apart_deg.min() > separation_deg:
            places_deg.append(place_deg)
    else:
        raise BadInputError(f"{n_sources} sources do not fit {separation_deg} deg apart; ask for fewer")
    return [
        Source(f"sim{k:03d}", ra_deg, dec_deg, float(flux_jy[k]), float(spectral_index[k]))
        for k, (ra_deg, dec_deg) in enumerate(places_deg[1:])
    ]


def apparent_flux_jy(sources: list[Source], drift: Drift, frequency_hz: Floats) -> Floats:
    """Return flux density times primary beam, shape (source, time, channel), Jy."""
    flux = np.array([s.flux_jy for s in sources])[:, None]
    slope = np.array([s.spectral_index for s in sources])[:, None]
    spectrum_jy = flux * (frequency_hz / BAND_CENTRE_HZ) ** slope
    hour_angle_rad, dec_rad = _apparent_places(sources, drift)
    offset_rad = beam.separation_rad(hour_angle_rad, dec_rad, 0.0, drift.dec_rad)
    return np.asarray(spectrum_jy[:, None, :] * beam.power(offset_rad[..., None], frequency_hz), dtype=np.float64)


def paths_m(sources: list[Source], drift: Drift, positions_m: Floats) -> Floats:
    """Return the paths (m) towards each source minus those towards the meridian, shape (source, time, antenna)."""
    towards = coordinates.direction(*_apparent_places(sources, drift))
    centre = coordinates.direction(0.0, drift.dec_rad)
    return np.asarray((towards - centre) @ coordinates.local_equatorial_m(positions_m).T, dtype=np.float64)


def voltages(path_m: Floats, flux_jy: Floats, frequency_hz: Floats) -> npt.NDArray[np.complex64]:
    """Return what each antenna receives, shape (time, source, antenna, channel), sqrt(Jy).

    Parameters
    ----------
    path_m : ndarray, shape (source, time, antenna)
    flux_jy : ndarray, shape (source, time, channel)
    frequency_hz : ndarray, shape (channel,)
    """
    n_sources, n_times, n_antennas = path_m.shape
    out = np.empty((n_times, n_sources, n_antennas, frequency_hz.size), dtype=np.complex64)
    wavenumber = 2j * np.pi * frequency_hz / SPEED_OF_LIGHT_M_S
    for t in range(n_times):
        amplitude = np.sqrt(flux_jy[:, t, None, :])
        out[t] = amplitude * np.exp(path_m[:, t, :, None] * wavenumber)
    return out


def _apparent_places(sources: list[Source], drift: Drift) -> tuple[Floats, Floats]:
    ra_rad = np.radians([[s.ra_deg] for s in sources])
    dec_rad = np.radians([[s.dec_deg] for s in sources])
    return coordinates.hour_angle_dec(ra_rad, dec_rad, drift.jd_utc)


def _random_place(rng: np.random.Generator, centre_deg: tuple[float, float], radius_deg: float) -> tuple[float, float]:
    radius, angle = radius_deg * np.sqrt(rng.uniform()), rng.uniform(0.0, 2.0 * np.pi)
    dec_deg = centre_deg[1] + radius * np.cos(angle)
    ra_deg = centre_deg[0] + radius * np.sin(angle) / np.cos(np.radians(dec_deg))
    return float(ra_deg) % 360.0, float(dec_deg)


def _separations_deg(one: tuple[float, float], others: list[tuple[float, float]]) -> Floats:
    (ra_rad, dec_rad), others_rad = np.radians(one), np.radians(others)
    apart_rad = beam.separation_rad(ra_rad, dec_rad, others_rad[:, 0], others_rad[:, 1])
    return np.asarray(np.degrees(apart_rad), dtype=np.float64)
