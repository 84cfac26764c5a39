"""Images against the definition of a visibility."""

import numpy as np
import pytest

from dsa110_contimg.pipeline.gridding import ImageGrid, dirty_image, point_spread_function, predict
from fixtures.skies import observe

GRID = ImageGrid(256, np.radians(15 / 3600))
EPSILON = 2e-4  # twice the gridder's relative error


def test_a_source_lies_west_to_the_right_and_north_up_with_its_flux_density() -> None:
    x, y = 190, 150  # 62 pixels west and 22 north of the phase centre
    l_cosine, m_cosine = -(x - 128) * GRID.cell_rad, (y - 128) * GRID.cell_rad
    visibilities = observe([(l_cosine, m_cosine, 2.5, 0.0)])
    image = dirty_image(visibilities, [visibilities.groups[0].vis], GRID)
    assert np.unravel_index(image.argmax(), image.shape) == (y, x)
    assert image.max() == pytest.approx(2.5, rel=EPSILON)


def test_predicted_visibilities_are_those_of_the_definition() -> None:
    x, y = 40, 201
    visibilities = observe([(-(x - 128) * GRID.cell_rad, (y - 128) * GRID.cell_rad, 1.0, 0.0)])
    model = np.zeros((256, 256), np.float32)
    model[y, x] = 1.0
    predicted = predict(visibilities.groups[0], model, GRID)
    assert np.abs(predicted - visibilities.groups[0].vis).max() < 10 * EPSILON


def test_the_point_spread_function_is_one_in_the_middle_with_and_without_the_w_term() -> None:
    visibilities = observe([])
    for wide in (True, False):
        psf = point_spread_function(visibilities, GRID, wide=wide)
        assert psf[128, 128] == pytest.approx(1.0, abs=EPSILON)
        assert psf.max() == psf[128, 128]
