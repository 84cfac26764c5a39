"""The primary beam as an observation saw it."""

import numpy as np
import pytest

from dsa110_contimg.pipeline import beam, coordinates
from dsa110_contimg.pipeline.gridding import ImageGrid
from dsa110_contimg.pipeline.response import drifting_beam, effective_beam, weight_table
from fixtures.skies import DRIFTING, FREQS_HZ, STILL, observe

GRID = ImageGrid(900, np.radians(8 / 3600))


def test_the_axis_is_the_phase_centre_at_mid_time_and_drifts_east_with_the_sky() -> None:
    """In 300 s the meridian moves by 15.0411 arcsec/s x 300 s x cos(apparent declination)."""
    times_mjd = 61065.05 + np.array([-150.0, 0.0, 150.0]) / 86400
    ra_rad, dec_rad = coordinates.meridian_icrs(coordinates.mjd_to_jd(61065.05), np.radians(33.0))
    axes = drifting_beam(times_mjd, ra_rad, dec_rad).axes
    np.testing.assert_allclose(axes[1], [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), 1.0, rtol=1e-12)
    drift_rad = np.arccos(axes[0] @ axes[2])
    assert np.degrees(drift_rad) * 3600 == pytest.approx(15.0411 * 300 * np.cos(np.radians(33.0)), abs=1)
    assert axes[0, 0] < 0 < axes[2, 0]


def test_the_response_to_a_direction_is_the_airy_beam_about_the_axis_of_each_moment() -> None:
    power = DRIFTING.power(np.sin(np.radians(0.25)), 0.0, FREQS_HZ)
    np.testing.assert_allclose(power[2], 1.0, rtol=1e-9)
    np.testing.assert_allclose(power[0], beam.power(np.radians(0.5), FREQS_HZ), rtol=1e-6)


def test_the_effective_beam_is_the_weighted_mean_of_the_definition() -> None:
    visibilities = observe([])
    group = visibilities.groups[0]
    group.imaging_weight = np.random.default_rng(2).uniform(0, 1, group.weight.shape).astype(np.float32)
    image = effective_beam(visibilities, weight_table(visibilities, 3), DRIFTING, GRID)
    for y, x in ((450, 450), (20, 850), (573, 91)):
        l_cosine, m_cosine = -(x - 450) * GRID.cell_rad, (y - 450) * GRID.cell_rad
        each = DRIFTING.power(l_cosine, m_cosine, FREQS_HZ)[group.time_index]
        expected = (each * group.imaging_weight).sum() / group.imaging_weight.sum()
        # linear interpolation over h = 128 arcsec: h^2 / 8 x curvature 8 ln 2 / (2.7 degrees)^2, in two axes
        assert image[y, x] == pytest.approx(expected, abs=3e-4)


def test_a_beam_that_stands_still_is_one_at_its_centre_and_round() -> None:
    visibilities = observe([])
    image = effective_beam(visibilities, weight_table(visibilities, 3), STILL, GRID)
    assert image[450, 450] == pytest.approx(1.0, abs=3e-4)
    np.testing.assert_allclose(image, image.T, atol=1e-6)


def test_weights_are_summed_by_integration_and_channel() -> None:
    visibilities = observe([], n_baselines=5)
    (table,) = weight_table(visibilities, 3)
    assert table.shape == (3, FREQS_HZ.size)
    assert (table == 5).all()
