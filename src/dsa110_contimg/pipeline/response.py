"""The primary beam as an observation saw it: a beam fixed on the meridian, through which the field drifts.

Directions are unit vectors (l, m, n) in the frame of the phase centre: l to the east, m to the north. The response at
(l, m) to integration t and frequency nu is A = airy(angle between (l, m, n) and the beam axis at t, nu), see `beam`. An
image is the weighted mean of all its visibilities, so its *effective* response is

    A_eff(l, m) = sum W(t, nu) A(l, m, t, nu) / sum W(t, nu),                                               (1)

W being the sum of the imaging weights of integration and channel. Flat-noise image / A_eff = image corrected for the
primary beam, right for a source without spectral slope and without change during the observation.
"""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.pipeline import beam
from dsa110_contimg.pipeline.averaging import AveragedVisibilities, Doubles, Floats
from dsa110_contimg.pipeline.coordinates import hour_angle_dec, meridian_icrs, mjd_to_jd
from dsa110_contimg.pipeline.gridding import ImageGrid
from dsa110_contimg.pipeline.skymodel import direction_cosines

COARSE_PIXELS = 16  # the beam is computed on every 16th pixel; linear between is right to 2e-4 for 6 arcsec pixels
FREQUENCY_STEPS = 12  # the response is sampled at so many frequencies: the beam changes by 1 % from one to the next


@dataclass(frozen=True, slots=True)
class DriftingBeam:
    """Axis of the beam at each integration, unit vectors (time, 3) in the frame of the phase centre."""

    axes: Doubles

    def power(self, l_cosine: float, m_cosine: float, freqs_hz: Doubles) -> Doubles:
        """Return the response (time, chan) to a direction."""
        direction = np.array([l_cosine, m_cosine, np.sqrt(1 - l_cosine**2 - m_cosine**2)])
        return beam.power(_angle(self.axes, direction)[:, None], freqs_hz)


def drifting_beam(times_mjd: Doubles, center_ra_rad: float, center_dec_rad: float) -> DriftingBeam:
    """Return the beam of an observation whose phase centre is the meridian at its middle.

    Parameters
    ----------
    times_mjd : (time,) centres of the integrations, UTC.
    center_ra_rad, center_dec_rad : ICRS phase centre; its apparent declination is where the antennas point.
    """
    middle_jd = mjd_to_jd(float(times_mjd[0] + times_mjd[-1]) / 2)
    _, pointing_dec_rad = hour_angle_dec(center_ra_rad, center_dec_rad, middle_jd)
    meridians = [meridian_icrs(mjd_to_jd(float(time)), float(pointing_dec_rad[0])) for time in times_mjd]
    ra_rad, dec_rad = np.array(meridians).T
    lmn = direction_cosines(ra_rad, dec_rad, center_ra_rad, center_dec_rad)
    return DriftingBeam(lmn + np.array([0.0, 0.0, 1.0]))


def _angle(one: Doubles, other: Doubles) -> Doubles:
    """Return the angle between unit vectors (last axis), from the chord: accurate when it is small."""
    chord = np.linalg.norm(one - other, axis=-1)
    return np.asarray(2 * np.arcsin(np.clip(chord / 2, 0, 1)))


def weight_table(visibilities: AveragedVisibilities, n_times: int) -> list[Doubles]:
    """Return the sum of the imaging weights (time, chan) of each group."""
    tables = []
    for group in visibilities.groups:
        table = np.zeros((n_times, group.freqs_hz.size))
        np.add.at(table, group.time_index, group.imaging_weight)
        tables.append(table)
    return tables


def _in_few_frequencies(visibilities: AveragedVisibilities, tables: list[Doubles]) -> tuple[Doubles, Doubles]:
    """Gather the weights of all groups into a few frequencies: returns (freq,) in Hz and (time, freq)."""
    freqs_hz = np.concatenate([group.freqs_hz for group in visibilities.groups])
    weights = np.concatenate(tables, axis=1)
    edges = np.linspace(freqs_hz.min(), freqs_hz.max(), FREQUENCY_STEPS + 1)
    step = np.clip(np.searchsorted(edges, freqs_hz, side="right") - 1, 0, FREQUENCY_STEPS - 1)
    total = np.array([np.bincount(step, row, FREQUENCY_STEPS) for row in weights])
    moment = np.array([np.bincount(step, row * freqs_hz, FREQUENCY_STEPS) for row in weights])
    used = total.sum(axis=0) > 0
    return moment.sum(axis=0)[used] / total.sum(axis=0)[used], total[:, used]


def effective_beam(
    visibilities: AveragedVisibilities, tables: list[Doubles], drifting: DriftingBeam, grid: ImageGrid
) -> Floats:
    """Return A_eff of eq. 1 for each pixel [y, x] of an image; NaN beyond the horizon of the projection."""
    n_coarse = grid.n_pixels // COARSE_PIXELS + 2
    offset = (np.arange(n_coarse) * COARSE_PIXELS - grid.n_pixels // 2) * grid.cell_rad
    m, l = np.meshgrid(offset, -offset, indexing="ij")  # noqa: E741 - the field's own names
    n_squared = 1 - l**2 - m**2
    directions = np.stack([l, m, np.sqrt(np.where(n_squared > 0, n_squared, np.nan))], axis=-1)
    freqs_hz, weights = _in_few_frequencies(visibilities, tables)
    coarse = np.zeros(l.shape)
    for axis, row in zip(drifting.axes, weights, strict=True):
        coarse += beam.power(_angle(directions, axis)[..., None], freqs_hz) @ row
    coarse /= weights.sum()
    rise = _interpolation(grid.n_pixels, n_coarse)
    return np.asarray(rise @ coarse @ rise.T, np.float32)


def _interpolation(n_fine: int, n_coarse: int) -> Doubles:
    """Return the matrix (fine, coarse) of linear interpolation between every `COARSE_PIXELS`-th pixel."""
    position = np.arange(n_fine)[:, None] / COARSE_PIXELS
    return np.asarray(np.clip(1 - np.abs(position - np.arange(n_coarse)[None, :]), 0, 1))
