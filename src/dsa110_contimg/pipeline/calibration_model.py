"""The sky that a calibration was solved against: which sources, how bright, and what they look like from the array.

The model travels as text inside the calibration tables (`caltable.CalibrationTable.model`), so that whoever
applies them can tell what their flux scale rests on and check corrected data against it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline import calibrators
from dsa110_contimg.pipeline.beam_calibrators import CalibratorInBeam, calibrators_in_beam
from dsa110_contimg.pipeline.errors import BadInputError, DataQualityError
from dsa110_contimg.pipeline.response import drifting_beam
from dsa110_contimg.pipeline.skymodel import PointSources, direction_cosines
from dsa110_contimg.pipeline.visibilities import Layout


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A point source: S(nu) = ``flux_jy`` (nu / ``reference_hz``) ** ``spectral_index``, on flux scale ``origin``."""

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float
    spectral_index: float
    reference_hz: float
    origin: str

    def spectrum_jy(self, frequencies_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the flux density at these frequencies."""
        return np.asarray(self.flux_jy * (frequencies_hz / self.reference_hz) ** self.spectral_index, np.float64)


def to_text(sources: Sequence[ModelSource]) -> str:
    """Return a model as the text of a table's keyword."""
    return json.dumps([asdict(source) for source in sources])


def from_text(text: str) -> tuple[ModelSource, ...]:
    """Return the model that `to_text` wrote."""
    try:
        return tuple(ModelSource(**fields) for fields in json.loads(text))
    except (ValueError, TypeError) as error:
        raise BadInputError(f"the model inside a calibration table is unreadable ({error}): solve again") from error


def choose_calibrator(layout: Layout, name: str | None, min_apparent_jy: float) -> ModelSource:
    """Return the calibrator of an observation.

    Parameters
    ----------
    name : str or None
        Calibrator to use; None takes the one of the catalogue with the highest apparent flux density.
    min_apparent_jy : float
        What it must reach through the primary beam.

    Raises
    ------
    DataQualityError
        If no calibrator in the beam is that bright, or the named one is not.
    """
    ra_deg, dec_deg = np.degrees([layout.centre_ra_rad, layout.centre_dec_rad])
    seen = calibrators_in_beam(float(ra_deg), float(dec_deg))
    if name is not None:
        wanted = calibrators.find(name)
        seen = [one for one in seen if one.calibrator == wanted]
    if not seen or seen[0].apparent_flux_jy < min_apparent_jy:
        raise DataQualityError(_no_calibrator(layout.path, (ra_deg, dec_deg), name, seen, min_apparent_jy))
    chosen = seen[0].calibrator
    return ModelSource(
        name=chosen.name,
        ra_deg=chosen.ra_deg,
        dec_deg=chosen.dec_deg,
        flux_jy=chosen.flux_1400_jy,
        spectral_index=chosen.spectral_index,
        reference_hz=calibrators.REFERENCE_HZ,
        origin=chosen.scale,
    )


def _no_calibrator(
    path: str,
    pointing_deg: tuple[float, float],
    name: str | None,
    seen: list[CalibratorInBeam],
    min_apparent_jy: float,
) -> str:
    """Say why an observation has no calibrator."""
    wanted = f"calibrator {name}" if name else "the brightest calibrator of the catalogue"
    found = f"has {seen[0].apparent_flux_jy:.2f} Jy through the beam" if seen else "is not in the beam"
    place = f"RA {pointing_deg[0]:.3f} Dec {pointing_deg[1]:.3f} deg"
    return (
        f"{path}: {wanted} {found} at {place}, and {min_apparent_jy:g} Jy are needed: apply tables that were solved on "
        "another observation of the same declination"
    )


def point_sources(sources: Sequence[ModelSource], layout: Layout) -> PointSources:
    """Return a model as the prediction kernels take it: seen from an observation, through its drifting beam."""
    centre = layout.centre_ra_rad, layout.centre_dec_rad
    places_deg = np.array([[source.ra_deg, source.dec_deg] for source in sources]).reshape(-1, 2)
    lmn = direction_cosines(np.radians(places_deg[:, 0]), np.radians(places_deg[:, 1]), *centre)
    beam = drifting_beam(layout.times_mjd, *centre)
    apparent_jy = np.zeros((len(sources), layout.n_times, len(layout.frequencies_hz)), np.float32)
    for index, source in enumerate(sources):
        response = beam.power(lmn[index, 0], lmn[index, 1], layout.frequencies_hz)
        apparent_jy[index] = source.spectrum_jy(layout.frequencies_hz) * response
    return PointSources(lmn, apparent_jy)
