"""Bright sources, fitted to visibilities."""

import numpy as np
import pytest

from dsa110_contimg.pipeline.averaging import AveragedVisibilities
from dsa110_contimg.pipeline.components import PointFitter, PointModel, solve_pair
from dsa110_contimg.pipeline.gridding import ImageGrid, point_spread_function
from dsa110_contimg.pipeline.peaks import peel, vertex
from dsa110_contimg.pipeline.progress import silent
from dsa110_contimg.pipeline.psf import fit_beam
from dsa110_contimg.pipeline.response import DriftingBeam, weight_table
from dsa110_contimg.pipeline.weighting import thermal_noise
from fixtures.skies import DRIFTING, STILL, observe

GRID = ImageGrid(400, np.radians(12 / 3600))
ARCSEC = np.radians(1 / 3600)


def fitter_of(visibilities: AveragedVisibilities, drifting: DriftingBeam, noise_jyb: float) -> PointFitter:
    """Return the fitter of an observation."""
    psf = point_spread_function(visibilities, GRID)
    return PointFitter(visibilities, drifting, GRID, psf, fit_beam(psf, GRID.cell_rad), noise_jyb)


def fitted(visibilities: AveragedVisibilities, drifting: DriftingBeam, noise_jyb: float) -> PointModel:
    """Return the bright sources of an observation."""
    return fitter_of(visibilities, drifting, noise_jyb).subtract(silent)


def test_flux_slope_and_position_of_a_source_that_drifts_through_the_beam_are_recovered() -> None:
    """Without noise: what is left of the source is the noise at which a step counts as settled, and rounding."""
    source = (0.0081234, -0.0045678, 3.0, -0.7)
    visibilities = observe([source], drifting=DRIFTING)
    model = fitted(visibilities, DRIFTING, 1e-5)
    assert len(model.components) == 1
    found = model.components[0]
    assert found.flux_jy == pytest.approx(3.0 * (model.reference_hz / 1.4e9) ** -0.7, rel=1e-3)
    assert found.slope_jy / found.flux_jy == pytest.approx(-0.7, abs=0.01)
    assert np.hypot(found.l_cosine - source[0], found.m_cosine - source[1]) < 0.05 * ARCSEC
    assert model.image.std() < 1e-3 * 3.0


def test_bright_sources_are_told_from_the_sidelobes_of_brighter_ones() -> None:
    sources = [(0.004, 0.003, 10.0, -0.7), (-0.008, 0.002, 1.0, -0.5), (0.001, -0.009, 0.3, -1.0)]
    visibilities = observe(sources, noise_jy=0.3, drifting=STILL)
    noise_jyb = thermal_noise(visibilities)
    model = fitted(visibilities, STILL, noise_jyb)
    assert len(model.components) == len(sources)
    for l_cosine, m_cosine, flux_jy, index in sources:
        nearest = min(model.components, key=lambda c: np.hypot(c.l_cosine - l_cosine, c.m_cosine - m_cosine))
        assert np.hypot(nearest.l_cosine - l_cosine, nearest.m_cosine - m_cosine) < 5 * ARCSEC
        expected_jy = flux_jy * (model.reference_hz / 1.4e9) ** index
        assert nearest.flux_jy == pytest.approx(expected_jy, abs=6 * noise_jyb + 0.003 * flux_jy)
    assert model.image.std() == pytest.approx(noise_jyb, rel=0.1)


def test_noise_alone_has_no_bright_source() -> None:
    visibilities = observe([], noise_jy=1.0)
    assert fitted(visibilities, STILL, thermal_noise(visibilities)).components == []


def test_a_source_below_the_limit_is_left_to_clean() -> None:
    visibilities = observe([(0.002, 0.002, 0.1, 0.0)], noise_jy=1.0)
    noise_jyb = thermal_noise(visibilities)
    assert 10 < 0.1 / noise_jyb < 30
    assert fitted(visibilities, STILL, noise_jyb).components == []


def test_the_height_in_the_image_is_the_mean_apparent_flux_density() -> None:
    visibilities = observe([(0.01, 0.0, 2.0, 0.0)], drifting=DRIFTING)
    fitter = fitter_of(visibilities, DRIFTING, 1e-4)
    model = fitter.subtract(silent)
    height_jyb = fitter.mean_flux_jyb(model.components[0], weight_table(visibilities, 3), model.reference_hz)
    expected_jy = 2.0 * DRIFTING.power(0.01, 0.0, visibilities.groups[0].freqs_hz).mean()
    assert height_jyb == pytest.approx(expected_jy, rel=1e-3)


def test_peeling_places_peaks_between_pixels() -> None:
    """A parabola through three samples of a Gaussian is off by up to 0.02 pixels; bilinear subtraction adds as much."""
    y, x = np.mgrid[:128, :128]
    psf = np.exp(-((x - 64) ** 2 + (y - 64) ** 2) / 18).astype(np.float32)
    image = np.exp(-((x - 40.3) ** 2 + (y - 90.7) ** 2) / 18).astype(np.float32)
    image += 0.5 * np.exp(-((x - 80.5) ** 2 + (y - 30.0) ** 2) / 18).astype(np.float32)
    found = peel(image, psf, 0.2, 4.0, 10)
    np.testing.assert_allclose(found, [(40.3, 90.7), (80.5, 30.0)], atol=0.05)


def test_peeling_stops_at_the_number_that_is_wanted() -> None:
    psf = np.zeros((64, 64), np.float32)
    psf[32, 32] = 1.0
    image = np.zeros((64, 64), np.float32)
    image[10, 10:60:10] = 1.0
    assert len(peel(image, psf, 0.5, 3.0, 2)) == 2
    assert len(peel(image, psf, 0.5, 3.0, 10)) == 5


def test_the_vertex_of_three_equal_values_is_the_middle() -> None:
    assert vertex(np.array([1.0, 1.0, 1.0], np.float32)) == 0.0
    assert vertex(np.array([0.0, 1.0, 0.0], np.float32)) == 0.0
    assert vertex(np.array([0.5, 1.0, 0.9], np.float32)) == pytest.approx(0.3333, abs=1e-3)


def test_a_singular_pair_of_equations_moves_nothing() -> None:
    assert solve_pair(1.0, 1.0, 1.0, 3.0, 3.0) == (0.0, 0.0)
    assert solve_pair(2.0, 1.0, 2.0, 3.0, 3.0) == pytest.approx((1.0, 1.0))
