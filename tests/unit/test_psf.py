"""The restoring beam."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_contimg.pipeline.errors import DataQualityError
from dsa110_contimg.pipeline.psf import Beam, add_points, convolve, fit_beam, pixel_grid_for

CELL_RAD = np.radians(6 / 3600)


def image_of(beam: Beam, size: int = 64) -> np.ndarray:
    """Return a Gaussian of the beam's shape in the middle, from the definition of its axes."""
    y, x = np.mgrid[:size, :size] - size // 2
    east, north = -x * CELL_RAD, y * CELL_RAD
    along = east * np.sin(beam.pa_rad) + north * np.cos(beam.pa_rad)
    across = east * np.cos(beam.pa_rad) - north * np.sin(beam.pa_rad)
    return np.exp(-4 * np.log(2) * ((along / beam.major_rad) ** 2 + (across / beam.minor_rad) ** 2)).astype(np.float32)


@settings(max_examples=25)
@given(st.floats(4, 9), st.floats(0.6, 0.95), st.floats(0, np.pi, exclude_max=True))
def test_a_gaussian_is_fitted_exactly(pixels: float, ratio: float, pa_rad: float) -> None:
    beam = Beam(pixels * CELL_RAD, ratio * pixels * CELL_RAD, pa_rad)
    fitted = fit_beam(image_of(beam), CELL_RAD)
    assert fitted.major_rad == pytest.approx(beam.major_rad, rel=1e-4)
    assert fitted.minor_rad == pytest.approx(beam.minor_rad, rel=1e-4)
    assert abs(np.sin(fitted.pa_rad - beam.pa_rad)) < 1e-3


def test_only_the_central_lobe_takes_part() -> None:
    beam = Beam(6 * CELL_RAD, 4 * CELL_RAD, 0.5)
    psf = image_of(beam)
    psf[5:9, 5:9] = 0.9
    assert fit_beam(psf, CELL_RAD).major_rad == pytest.approx(beam.major_rad, rel=1e-3)


def test_pixels_that_are_too_coarse_are_refused() -> None:
    with pytest.raises(DataQualityError, match="choose smaller pixels"):
        fit_beam(image_of(Beam(0.8 * CELL_RAD, 0.8 * CELL_RAD, 0.0)), CELL_RAD)


def test_convolution_and_points_make_the_same_gaussian_with_the_flux_as_its_peak() -> None:
    beam = Beam(8 * CELL_RAD, 5 * CELL_RAD, 0.7)
    model = np.zeros((64, 64), np.float32)
    model[32, 32] = 2.0
    convolved = convolve(model, beam, CELL_RAD)
    drawn = np.zeros((64, 64), np.float32)
    add_points(drawn, np.array([32.0]), np.array([32.0]), np.array([2.0]), beam, CELL_RAD)
    expected = 2 * image_of(beam)
    np.testing.assert_allclose(convolved, expected, atol=2e-5)  # a Gaussian of 5 pixels, sampled: 1e-5
    np.testing.assert_allclose(drawn, expected, atol=1e-5)


def test_a_point_between_pixels_and_one_at_the_edge_are_drawn() -> None:
    beam = Beam(8 * CELL_RAD, 8 * CELL_RAD, 0.0)
    image = np.zeros((64, 64), np.float32)
    add_points(image, np.array([20.5, 0.0]), np.array([30.0, 63.0]), np.array([1.0, 1.0]), beam, CELL_RAD)
    assert image[30, 20] == image[30, 21] == pytest.approx(np.exp(-4 * np.log(2) * (0.5 / 8) ** 2), rel=1e-5)
    assert image[63, 0] == pytest.approx(1.0)


def test_a_grid_covers_the_field_with_even_sides_and_enough_pixels_to_a_beam() -> None:
    beam = Beam(np.radians(70 / 3600), np.radians(30 / 3600), 0.0)
    grid = pixel_grid_for(beam, np.radians(2.0), 4.0)
    assert grid.n_pixels % 2 == 0
    assert grid.field_of_view_rad >= np.radians(4.0)
    assert 4.0 <= beam.minor_rad / grid.cell_rad < 4.2
