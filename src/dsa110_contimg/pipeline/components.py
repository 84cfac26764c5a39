"""Bright compact sources, fitted to the visibilities and taken out of them before the image is cleaned.

Why: CLEAN represents a source by pixels, with one flux density for the whole observation. A bright source between
pixels, or one whose apparent flux density changes while it drifts through the beam and across the band, leaves
residuals that grow with its flux; at a few thousand times the noise they end in divergence. A point source seen with
the response of the known primary beam (`pointsource`, eq. 1) leaves none.

Everything is taken from the data: candidates are peaks of the dirty residual image, and flux density S, slope S' (= S
times the spectral index) and position (l, m) follow from Gauss-Newton steps on the visibilities, source by source,
with the other sources subtracted, repeated until the coupling through the sidelobes has died out. To first order the
residual turned into the source's direction, r exp(-i phi), has the flux in its real and the position in its imaginary
part, so each step solves two systems of two unknowns.

A source that is not a point is not described in full by one; what is left of it stays in the residual for CLEAN, and
its point goes back into the image with the rest.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from dsa110_contimg.pipeline.averaging import (
    AveragedVisibilities,
    Complexes,
    Doubles,
    Floats,
    VisibilityGroup,
    robust_sigma,
)
from dsa110_contimg.pipeline.gridding import ImageGrid, dirty_image
from dsa110_contimg.pipeline.peaks import peel
from dsa110_contimg.pipeline.pointsource import exchange, fit_sums
from dsa110_contimg.pipeline.progress import Progress
from dsa110_contimg.pipeline.psf import Beam
from dsa110_contimg.pipeline.response import DriftingBeam
from dsa110_contimg.pipeline.skymodel import channel_steps

BRIGHT_SNR = 30.0  # fainter sources leave less than the noise: 30 sigma x 30 % change of response x 10 % sidelobes
KEPT_SNR = 10.0  # a candidate was brighter than 30; what is fitted with less was a sidelobe
SLOPE_SNR = 100.0  # from here on the band (+-7 %) measures the spectral index to +-0.26 or better
IMAGE_SNR = 8.0  # above the bulk of the residual image: no component is made of sidelobes that look like noise
MAX_ROUNDS = 8
MAX_COMPONENTS = 100  # twice as many as a field has above 30 sigma of the whole array; data that are none end here
SETTLED_SNR = 0.5  # a step that moves less than this, in units of the noise, ends the iteration
MAX_STEPS = 5  # of one new source; Gauss-Newton doubles the digits with each, from a start within a fifth of the beam
MAX_CYCLES = 3  # over all sources, whose coupling, a sidelobe of 0.1 typically, enters with this power
MIN_IMPROVEMENT = 0.003  # of the residual image's rms, below which another round is not worth its gridding


@dataclass(frozen=True, slots=True)
class PointComponent:
    """A fitted point source: direction cosines, flux density and its slope (Jy) at the reference frequency.

    ``l_start`` and ``m_start`` are where it was found; ``is_held`` says that it stays there, because the fit led away.
    """

    l_cosine: float
    m_cosine: float
    flux_jy: float
    slope_jy: float = 0.0
    l_start: float = 0.0
    m_start: float = 0.0
    is_held: bool = False

    @property
    def lmn(self) -> Doubles:
        """Direction cosines l, m and n - 1."""
        squared = self.l_cosine**2 + self.m_cosine**2
        return np.array([self.l_cosine, self.m_cosine, -squared / (1 + np.sqrt(1 - squared))])


@dataclass(slots=True)
class PointModel:
    """Fitted sources; the residual visibilities, (row, chan) of each group, and their image."""

    residual: list[Complexes]
    image: Floats
    reference_hz: float
    components: list[PointComponent] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PointFitter:
    """Finds, fits and subtracts bright compact sources.

    Parameters
    ----------
    visibilities : with their imaging weights.
    drifting : the primary beam.
    grid : image in which candidates are searched.
    psf : point spread function of that image.
    beam : restoring beam; components are at least its major axis apart.
    noise_jyb : expected noise of the image.
    """

    visibilities: AveragedVisibilities
    drifting: DriftingBeam
    grid: ImageGrid
    psf: Floats
    beam: Beam
    noise_jyb: float

    def subtract(self, progress: Progress) -> PointModel:
        """Return the sources, and what visibilities and image are without them."""
        residual = [group.vis.copy() for group in self.visibilities.groups]
        model = PointModel(residual, dirty_image(self.visibilities, residual, self.grid), self._reference_hz())
        for number in range(MAX_ROUNDS):
            found = self._candidates(model.image, model.components)
            if not found:
                break
            progress(number / MAX_ROUNDS, f"fitting {len(model.components) + len(found)} bright sources")
            self._fit(model, found)
            image = dirty_image(self.visibilities, model.residual, self.grid)
            improved = image.std() < (1 - MIN_IMPROVEMENT) * model.image.std()
            model.image = image
            if not improved:
                break
        return model

    def mean_flux_jyb(self, component: PointComponent, tables: list[Doubles], reference_hz: float) -> float:
        """Return the height of a component in the image: the mean of its apparent flux density over all weights.

        Parameters
        ----------
        tables : sum of the imaging weights (time, chan) of each group.
        reference_hz : frequency of the component's flux density.
        """
        total = sum(float(table.sum()) for table in tables)
        parts = 0.0
        for group, table in zip(self.visibilities.groups, tables, strict=True):
            response = self.drifting.power(component.l_cosine, component.m_cosine, group.freqs_hz)
            spectrum = component.flux_jy + component.slope_jy * np.log(group.freqs_hz / reference_hz)
            parts += float((table * response * spectrum).sum())
        return parts / total

    def _reference_hz(self) -> float:
        """Return the weighted geometric mean of the frequencies, at which flux and slope are least correlated."""
        moment = 0.0
        for group in self.visibilities.groups:
            moment += float(group.imaging_weight.sum(axis=0, dtype=np.float64) @ np.log(group.freqs_hz))
        return float(np.exp(moment / self.visibilities.imaging_weight_sum))

    def _candidates(self, image: Floats, known: list[PointComponent]) -> list[PointComponent]:
        """Return peaks that can be neither noise nor sidelobes, brightest first, without flux."""
        floor_jyb = max(BRIGHT_SNR * self.noise_jyb, IMAGE_SNR * robust_sigma(image[::4, ::4]))
        reach = self.beam.major_rad / self.grid.cell_rad
        half = self.grid.n_pixels // 2
        found = []
        for x, y in peel(image, self.psf, floor_jyb, reach, MAX_COMPONENTS):
            l_cosine, m_cosine = (half - x) * self.grid.cell_rad, (y - half) * self.grid.cell_rad
            found.append(PointComponent(l_cosine, m_cosine, 0.0, 0.0, l_cosine, m_cosine))
        apart = [one for one in found if all(self._are_apart(one, other) for other in known)]
        return apart[: MAX_COMPONENTS - len(known)]

    def _are_apart(self, one: PointComponent, other: PointComponent) -> bool:
        distance = np.hypot(one.l_cosine - other.l_cosine, one.m_cosine - other.m_cosine)
        return bool(distance > self.beam.major_rad)

    def _fit(self, model: PointModel, found: list[PointComponent]) -> None:
        """Fit each new source, then all, and those that still move again; drop those that came out faint."""
        for component in found:
            self._settle(model, component)
        moving = list(range(len(model.components)))
        for _ in range(MAX_CYCLES):
            moving = [number for number in moving if self._moves(model, number)]
        for component in model.components:
            if self._is_faint(component):
                self._drop(model, component)
        model.components = [component for component in model.components if not self._is_faint(component)]

    def _settle(self, model: PointModel, component: PointComponent) -> None:
        """Add a component to the model after as many steps as it needs, unless it comes out faint."""
        for _ in range(MAX_STEPS):
            before, component = component, self._refit(model, component)
            if self._is_faint(component):
                self._drop(model, component)
                return
            if self._has_settled(before, component):
                break
        model.components.append(component)

    def _drop(self, model: PointModel, component: PointComponent) -> None:
        """Put a source back into the residual."""
        self._exchange(model, component, replace(component, flux_jy=0.0, slope_jy=0.0))

    def _moves(self, model: PointModel, number: int) -> bool:
        """Refit one component of the model; True if it has not settled."""
        before = model.components[number]
        model.components[number] = self._refit(model, before)
        return not self._has_settled(before, model.components[number])

    def _has_settled(self, before: PointComponent, after: PointComponent) -> bool:
        """Whether a step changed the image by less than its noise: in flux, or by moving the flux across the beam."""
        moved = np.hypot(after.l_cosine - before.l_cosine, after.m_cosine - before.m_cosine) / self.beam.minor_rad
        change_jy = abs(after.flux_jy - before.flux_jy) + 2 * moved * abs(after.flux_jy)
        return bool(change_jy < SETTLED_SNR * self.noise_jyb)

    def _is_faint(self, component: PointComponent) -> bool:
        """Whether a component is so faint in the image that it may be noise."""
        response = self.drifting.power(component.l_cosine, component.m_cosine, self.visibilities.groups[0].freqs_hz)
        return bool(component.flux_jy * response.mean() < KEPT_SNR * self.noise_jyb)

    def _refit(self, model: PointModel, component: PointComponent) -> PointComponent:
        """Return the component after one Gauss-Newton step; the model's residual follows."""
        sums = np.zeros(10)
        for group, residual in zip(self.visibilities.groups, model.residual, strict=True):
            lmn, flux_jy, response = self._signal(component, group)
            sums += fit_sums(
                group.uvw_m,
                group.freqs_hz,
                channel_steps(group.freqs_hz),
                group.time_index,
                residual,
                group.imaging_weight,
                response,
                np.log(group.freqs_hz / model.reference_hz),
                lmn,
                flux_jy,
            )
        improved = self._stepped(component, sums)
        self._exchange(model, component, improved)
        return improved

    def _stepped(self, component: PointComponent, sums: Doubles) -> PointComponent:
        """Return the component moved by the solution of its normal equations."""
        apparent_jy = component.flux_jy * np.sqrt(sums[0] / self.visibilities.imaging_weight_sum)
        flux_jy, slope_jy = sums[3] / sums[0], 0.0
        if apparent_jy > SLOPE_SNR * self.noise_jyb:
            flux_jy, slope_jy = solve_pair(*sums[:5])
        l_step, m_step = (0.0, 0.0) if component.is_held else solve_pair(*sums[5:])
        moved = replace(
            component,
            l_cosine=component.l_cosine + l_step,
            m_cosine=component.m_cosine + m_step,
            flux_jy=component.flux_jy + flux_jy,
            slope_jy=component.slope_jy + slope_jy,
        )
        if np.hypot(moved.l_cosine - moved.l_start, moved.m_cosine - moved.m_start) > self.beam.minor_rad / 2:
            return replace(moved, l_cosine=moved.l_start, m_cosine=moved.m_start, is_held=True)
        return moved

    def _exchange(self, model: PointModel, old: PointComponent, new: PointComponent) -> None:
        """Put one source back into the residual and take another out."""
        for group, residual in zip(self.visibilities.groups, model.residual, strict=True):
            exchange(
                group.uvw_m,
                group.freqs_hz,
                channel_steps(group.freqs_hz),
                group.time_index,
                residual,
                np.log(group.freqs_hz / model.reference_hz),
                self._signal(old, group),
                self._signal(new, group),
            )

    def _signal(self, component: PointComponent, group: VisibilityGroup) -> tuple[Doubles, Doubles, Doubles]:
        """Return direction, flux density with slope, and response (time, chan) of a component."""
        response = self.drifting.power(component.l_cosine, component.m_cosine, group.freqs_hz)
        return component.lmn, np.array([component.flux_jy, component.slope_jy]), response


def solve_pair(f00: float, f01: float, f11: float, b0: float, b1: float) -> tuple[float, float]:
    """Solve a symmetric system of two unknowns; zeros where it is singular."""
    determinant = f00 * f11 - f01 * f01
    if determinant <= 1e-12 * f00 * f11:
        return 0.0, 0.0
    return (f11 * b0 - f01 * b1) / determinant, (f00 * b1 - f01 * b0) / determinant
