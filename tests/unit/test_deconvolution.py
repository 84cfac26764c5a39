"""CLEAN, and the guard that ends it when it diverges."""

import logging

import numpy as np
import pytest

from dsa110_contimg.pipeline.averaging import Floats
from dsa110_contimg.pipeline.deconvolution import (
    MAX_MAJOR_CYCLES,
    RadlerMinorCycle,
    guarded_clean,
    printed_to_log,
    residual_of,
)
from dsa110_contimg.pipeline.gridding import ImageGrid, dirty_image, point_spread_function
from dsa110_contimg.pipeline.progress import silent
from dsa110_contimg.pipeline.psf import fit_beam
from dsa110_contimg.pipeline.weighting import thermal_noise
from fixtures.skies import observe


class ScriptedMinorCycle:
    """Writes the number of the cycle into the model; wants more until its script ends."""

    def __init__(self, model: Floats, n_cycles: int) -> None:
        self._model, self._n_cycles = model, n_cycles

    def perform(self, cycle: int) -> bool:
        """Do one scripted cycle."""
        self._model[...] = cycle
        return cycle < self._n_cycles


def clean_with(rms_by_cycle: list[float]) -> tuple[float, float, int, bool]:
    """Clean with residuals of scripted rms, from 1; return model, residual rms, cycles and convergence."""
    pattern = np.tile(np.array([1.0, -1.0], np.float32), (4, 2))
    model, residual = np.zeros((4, 4), np.float32), pattern.copy()
    done = guarded_clean(
        residual,
        model,
        ScriptedMinorCycle(model, len(rms_by_cycle)),
        lambda present: pattern * np.float32(rms_by_cycle[int(present[0, 0]) - 1]),
        silent,
    )
    return float(done.model[0, 0]), float(done.residual.std()), done.n_major_cycles, done.converged


def test_a_falling_rms_goes_on_to_the_end() -> None:
    assert clean_with([0.5, 0.25, 0.125]) == (3.0, 0.125, 3, True)


def test_divergence_is_caught_and_the_best_model_kept() -> None:
    assert clean_with([0.5, 0.25, 4.0, 8.0, 16.0]) == (2.0, 0.25, 3, False)


def test_a_model_that_makes_the_first_image_worse_is_not_used_at_all() -> None:
    assert clean_with([2.0, 4.0]) == (0.0, 1.0, 1, False)


def test_a_residual_that_is_no_number_ends_it() -> None:
    assert clean_with([0.5, float("nan"), 0.1]) == (1.0, 0.5, 2, False)


def test_a_tremble_of_less_than_a_percent_is_no_divergence() -> None:
    assert clean_with([0.5, 0.504, 0.25]) == (3.0, 0.25, 3, True)


def test_cleaning_that_does_not_end_is_ended_and_said() -> None:
    rms = [0.9**cycle for cycle in range(1, MAX_MAJOR_CYCLES + 5)]
    model, _, n_cycles, converged = clean_with(rms)
    assert (model, n_cycles, converged) == (MAX_MAJOR_CYCLES, MAX_MAJOR_CYCLES, False)


def test_sources_are_cleaned_down_to_the_noise(capsys: pytest.CaptureFixture[str]) -> None:
    grid = ImageGrid(256, np.radians(15 / 3600))
    pixels, fluxes_jy = [(100, 140), (180, 90)], [1.0, 0.4]
    sources = [
        (-(x - 128) * grid.cell_rad, (y - 128) * grid.cell_rad, flux_jy, 0.0)
        for (y, x), flux_jy in zip(pixels, fluxes_jy, strict=True)
    ]
    visibilities = observe(sources, noise_jy=0.5)
    data = [visibilities.groups[0].vis]
    psf, residual = point_spread_function(visibilities, grid), dirty_image(visibilities, data, grid)
    model = np.zeros_like(residual)
    minor = RadlerMinorCycle(psf, residual, model, grid, fit_beam(psf, grid.cell_rad), 5000)
    done = guarded_clean(residual, model, minor, lambda now: residual_of(visibilities, data, now, grid), silent)
    noise_jyb = thermal_noise(visibilities)
    assert done.converged
    assert done.residual.std() == pytest.approx(noise_jyb, rel=0.1)
    for (y, x), flux_jy in zip(pixels, fluxes_jy, strict=True):
        assert done.model[y - 2 : y + 3, x - 2 : x + 3].sum() == pytest.approx(flux_jy, abs=5 * noise_jyb)
    assert minor.n_iterations > 0
    assert capsys.readouterr().out == ""  # radler is talkative


def test_what_is_printed_goes_to_the_log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), printed_to_log():
        print("inside")
    print("outside")
    assert capsys.readouterr().out == "outside\n"
    assert caplog.messages == ["inside"]
