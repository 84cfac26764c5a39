"""Robust weights against the definition, and the noise expected from them."""

import numpy as np
import pytest

from dsa110_contimg.pipeline.gridding import ImageGrid, dirty_image
from dsa110_contimg.pipeline.skymodel import C_M_PER_S
from dsa110_contimg.pipeline.weighting import apply_briggs, thermal_noise
from fixtures.skies import FREQS_HZ, N_TIMES, observe

FIELD_RAD = 0.05


def briggs_by_definition(uvw_m: np.ndarray, weight: np.ndarray, robust: float) -> np.ndarray:
    """Return robust weights, written down from the formula with a dictionary of cells."""
    cells: dict[tuple[int, int], float] = {}
    keys = np.empty(weight.shape, object)
    for (row, chan), w in np.ndenumerate(weight):
        u, v = uvw_m[row, :2] * FREQS_HZ[chan] / C_M_PER_S * FIELD_RAD
        if v < 0:
            u, v = -u, -v
        keys[row, chan] = int(np.floor(u + 0.5)), int(np.floor(v + 0.5))
        cells[keys[row, chan]] = cells.get(keys[row, chan], 0.0) + float(w)
    totals = np.array(list(cells.values()))
    f_squared = (5 * 10**-robust) ** 2 / ((totals**2).sum() / weight.sum())
    return weight / (1 + np.vectorize(cells.__getitem__)(keys) * f_squared)


@pytest.mark.parametrize("robust", [-1.0, 0.5])
def test_robust_weights_are_those_of_the_definition(robust: float) -> None:
    visibilities = observe([], n_baselines=20)
    group = visibilities.groups[0]
    group.weight = np.random.default_rng(1).uniform(0.5, 2, group.weight.shape).astype(np.float32)
    apply_briggs(visibilities, FIELD_RAD, robust)
    expected = briggs_by_definition(group.uvw_m, group.weight, robust)
    np.testing.assert_allclose(group.imaging_weight, expected, rtol=1e-5)  # float32


def test_a_flagged_visibility_keeps_no_weight() -> None:
    visibilities = observe([])
    visibilities.groups[0].weight[3, 7] = 0
    apply_briggs(visibilities, FIELD_RAD, 0.5)
    assert visibilities.groups[0].imaging_weight[3, 7] == 0


def test_with_natural_weights_the_noise_is_one_over_the_square_root_of_the_sum() -> None:
    visibilities = observe([], noise_jy=2.0)
    n = visibilities.groups[0].vis.size
    assert thermal_noise(visibilities) == pytest.approx(2.0 / np.sqrt(n), rel=1e-6)


def test_the_expected_noise_is_that_of_the_image() -> None:
    """36 independent images: the rms of a common pixel is right to 12 %; averaged over 20 far pixels to some 3 %."""
    grid = ImageGrid(64, FIELD_RAD / 64)
    values, expected = [], 0.0
    for seed in range(36):
        visibilities = observe([], noise_jy=1.0, seed=seed, n_baselines=60)
        apply_briggs(visibilities, FIELD_RAD, 0.5)
        expected += thermal_noise(visibilities) / 36
        values.append(dirty_image(visibilities, [visibilities.groups[0].vis], grid)[4:60:12, 4:60:12])
    assert np.std(values) == pytest.approx(expected, rel=0.09)
    assert N_TIMES == 3
