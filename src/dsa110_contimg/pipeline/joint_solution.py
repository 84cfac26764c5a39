"""Bandpass and gains of one observation, solved in turns against a model that grows.

The unknowns are a bandpass b_p(nu) per antenna, channel and polarisation, and gains g_p(t) per antenna, integration and
polarisation (`normal_sums`, `solver`). A turn solves b with the last g inside the model, then g with that b inside it.
The second turn removes what the drift of the phases had taken from the first bandpass; what remains is of second order
in that drift.

After the first turn, integrations and channels where the whole array sees more than model and noise are left out
(`rfi.array_outliers`), and before each further turn the model is made anew: the calibrator and the sources that its
field is found to hold (`field_sources`), the bright ones first.

The correlator's weights are turned into inverse variances with the noise of each antenna (`noise`).

Short baselines see extended emission and the sum of the field's weak sources, and take no part, unless that leaves an
antenna with too few of them: then the limit is lowered, and a note says so.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.pipeline import field_sources, noise, rfi
from dsa110_contimg.pipeline.calibration_model import ModelSource, point_sources
from dsa110_contimg.pipeline.errors import DataQualityError
from dsa110_contimg.pipeline.normal_sums import NormalSums, accumulate, residual_power
from dsa110_contimg.pipeline.progress import Progress
from dsa110_contimg.pipeline.skymodel import C_M_PER_S
from dsa110_contimg.pipeline.solver import Gains, stefcal
from dsa110_contimg.pipeline.visibilities import (
    Bools,
    Complex,
    Layout,
    Visibilities,
    opened,
    read_visibilities,
    time_chunks,
)

#: Visibilities of observations up to this size are read once and held.
HELD_BYTES = 600_000_000
#: Faintest source of the model of each turn after the first, as a fraction of the calibrator, both through the beam.
#: What a turn does not model, its gains absorb in part, a tenth and more of it with 40 antennas; and faint sources that
#: are looked for then are hidden among what it leaves. So the bright ones enter first; with them known, the second
#: search finds those down to its noise, and what the third turn absorbs of the rest is lost in the noise.
FIELD_FRACTIONS = (0.01, 0.0005)


class JointSolution:
    """Bandpass and gains of one observation, solved in turns.

    Parameters
    ----------
    layout : Layout
    calibrator : ModelSource
    min_baselines : int
        Baselines that an antenna needs in a problem.
    min_uv_lambda : float
        Shortest baseline that takes part, as wished; `min_uv_lambda` is what could be afforded.

    Attributes
    ----------
    model : list of ModelSource
        The calibrator first; the bright sources of its field after the first turn.
    notes : list of str
        What a person should know.
    """

    def __init__(self, layout: Layout, calibrator: ModelSource, min_baselines: int, min_uv_lambda: float) -> None:
        self.layout = layout
        self.model = [calibrator]
        self.sources = point_sources(self.model, layout)
        self.min_baselines = min_baselines
        self.notes: list[str] = []
        self._variances: NDArray[np.float64] | None = None
        self._interference = np.zeros((layout.n_times, len(layout.frequencies_hz)), np.bool_)
        size = layout.n_times * layout.n_baselines * len(layout.frequencies_hz) * layout.n_polarisations * 13
        self._held = list(self._read()) if size <= HELD_BYTES else None
        self.present = self._unflagged_antennas()
        self.min_uv_lambda = self._affordable_uv_limit(min_uv_lambda)

    def solve(self, progress: Progress) -> tuple[Gains, Gains]:
        """Return bandpass and gains after all turns."""
        layout = self.layout
        n_pols = layout.n_polarisations
        gains: Complex = np.ones((layout.n_antennas, layout.n_times, n_pols), np.complex64)
        flat: Complex = np.ones((layout.n_antennas, len(layout.frequencies_hz), n_pols), np.complex64)
        bandpass, solved = self._turn(gains, flat)
        self._mark_interference(solved.values, bandpass.values)
        for turn, fraction in enumerate(FIELD_FRACTIONS, start=1):
            progress(0.8 * turn / (1 + len(FIELD_FRACTIONS)), f"turn {turn + 1}: sources of the field, then gains")
            self._add_field(solved.values, bandpass.values, fraction)
            bandpass, solved = self._turn(solved.values, flat)
        return bandpass, solved

    def _turn(self, gains: Complex, flat: Complex) -> tuple[Gains, Gains]:
        """Return a bandpass with these gains, and gains with that bandpass."""
        bandpass = self._solve_by("channel", gains, flat)
        return bandpass, self._solve_by("time", np.ones_like(gains), bandpass.values)

    def _solve_by(self, by: str, gains: Complex, bandpass: Complex) -> Gains:
        """Sum over all integrations and solve."""
        layout = self.layout
        n_problems = layout.n_times if by == "time" else len(layout.frequencies_hz)
        sums = NormalSums.zeros(layout.n_baselines, n_problems, layout.n_polarisations)
        for first, chunk in self._chunks():
            accumulate(sums, chunk, self._use(chunk), self.sources, gains, bandpass, by=by, first_time=first)
        return stefcal(sums, layout.antenna1, layout.antenna2, layout.n_antennas, minimum_baselines=self.min_baselines)

    def _add_field(self, gains: Complex, bandpass: Complex, fraction: float) -> None:
        """Make the model of the calibrator and the sources of its field down to a fraction of it."""
        calibrator = self.model[0]
        limit_jy = fraction * self.calibrator_apparent_jy
        found = field_sources.find(self._chunks(), self.layout, gains, bandpass, calibrator, limit_jy)
        self.model = [calibrator, *found]
        self.sources = point_sources(self.model, self.layout)

    @property
    def calibrator_apparent_jy(self) -> float:
        """Flux density of the calibrator through the beam, in the middle of time and band."""
        _, n_times, n_channels = self.sources.apparent_flux_jy.shape
        return float(self.sources.apparent_flux_jy[0, n_times // 2, n_channels // 2])

    def _mark_interference(self, gains: Complex, bandpass: Complex) -> None:
        """Leave out what the whole array sees beyond model and noise."""
        shape = self._interference.shape
        power, count = np.zeros(shape), np.zeros(shape)
        for first, chunk in self._chunks():
            here = slice(first, first + chunk.data.shape[0])
            power[here], count[here] = residual_power(chunk, self._use(chunk), self.sources, gains, bandpass, first)
        self._interference = rfi.array_outliers(power, count)
        for first, chunk in self._held or ():
            self._apply_interference(first, chunk)

    def _apply_interference(self, first: int, chunk: Visibilities) -> None:
        marked = self._interference[first : first + chunk.data.shape[0]]
        chunk.flags[...] |= marked[:, None, :, None]

    def _read(self) -> Iterator[tuple[int, Visibilities]]:
        with opened(self.layout.path) as rows:
            for times in time_chunks(self.layout):
                chunk = read_visibilities(rows, self.layout, times)
                if self._variances is None:
                    self._variances = noise.antenna_variances(chunk, self.layout.n_antennas)
                self._apply_interference(times.start, chunk)
                yield times.start, noise.with_inverse_variances(chunk, self._variances)

    def _chunks(self) -> Iterator[tuple[int, Visibilities]]:
        """Give all integrations in order, each run with the index of its first."""
        return iter(self._held) if self._held is not None else self._read()

    def _use(self, chunk: Visibilities) -> Bools:
        """Tell which rows take part."""
        long_enough = _uv_lambda(chunk.uvw_m, self.layout) >= self.min_uv_lambda
        used: Bools = long_enough & self.layout.crosses
        return used

    def _unflagged_antennas(self) -> Bools:
        """Tell which antennas have an unflagged cross-correlation."""
        layout = self.layout
        seen = np.zeros(layout.n_antennas, np.bool_)
        for _, chunk in self._chunks():
            baselines = layout.crosses & ~chunk.flags.all(axis=(0, 2, 3))
            seen[layout.antenna1[baselines]] = seen[layout.antenna2[baselines]] = True
        if not seen.any():
            raise DataQualityError(f"{layout.path}: all cross-correlations are flagged, there is nothing to solve")
        return seen

    def _affordable_uv_limit(self, wanted: float) -> float:
        """Return the limit, halved until each antenna that has data keeps `min_baselines` and a few more."""
        layout = self.layout
        _, chunk = next(self._chunks())
        lengths = _uv_lambda(chunk.uvw_m[0], layout)
        both = layout.crosses & self.present[layout.antenna1] & self.present[layout.antenna2]
        limit = wanted
        while limit > 1.0:
            long_enough = both & (lengths >= limit)
            counts = np.bincount(layout.antenna1[long_enough], minlength=layout.n_antennas)
            counts += np.bincount(layout.antenna2[long_enough], minlength=layout.n_antennas)
            if counts[self.present].min() >= min(2 * self.min_baselines, self.present.sum() - 1):
                break
            limit /= 2.0
        else:
            limit = 0.0
        if limit != wanted:
            self.notes.append(
                f"baselines from {limit:.0f} wavelengths on took part, not {wanted:.0f}: too few are longer"
            )
        return limit


def _uv_lambda(uvw_m: NDArray[np.float64], layout: Layout) -> NDArray[np.float64]:
    """Return projected baseline lengths in wavelengths of the middle of the band."""
    return np.asarray(np.hypot(uvw_m[..., 0], uvw_m[..., 1]) * layout.mid_frequency_hz / C_M_PER_S)
