"""Running sums: what they say after each epoch is what the formulas say of all of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.api.flux_sums import Epoch, FluxSums, chance_of_chi_squared

FLUXES = st.floats(-10.0, 100.0, allow_nan=False)
ERRORS = st.floats(1e-4, 1.0)


def epoch(flux: float | None, error: float | None = 0.01, mjd: float | None = 61000.0, image: int = 1) -> Epoch:
    return Epoch(mjd, image, flux, error, None, None)


def sums_of(*epochs: Epoch) -> FluxSums:
    sums = FluxSums()
    for each in epochs:
        sums = sums.add(each)
    return sums


@given(st.lists(st.tuples(FLUXES, ERRORS), min_size=2, max_size=60))
def test_the_sums_are_those_of_the_formulas(measured: list[tuple[float, float]]) -> None:
    sums = sums_of(*(epoch(flux, error) for flux, error in measured))
    flux, weight = np.array([each[0] for each in measured]), np.array([each[1] for each in measured]) ** -2.0
    mean = np.average(flux, weights=weight)
    chi_squared = float(np.sum(weight * (flux - mean) ** 2))
    rounding = 1e-9 * float(np.sum(weight * (1.0 + flux**2)))
    assert sums.weighted_mean_jy == pytest.approx(mean, rel=1e-9, abs=1e-9)
    assert sums.chi_squared == pytest.approx(chi_squared, rel=1e-6, abs=rounding)
    assert sums.eta == pytest.approx(chi_squared / (len(flux) - 1), rel=1e-6, abs=rounding)
    assert sums.mean_flux_jy == pytest.approx(flux.mean(), rel=1e-9, abs=1e-9)
    if abs(flux.mean()) > 1e-3:
        assert sums.v == pytest.approx(np.std(flux, ddof=1) / abs(flux.mean()), rel=1e-6, abs=1e-6)
    assert (sums.min_flux_jy, sums.max_flux_jy) == (flux.min(), flux.max())


def test_eta_is_the_one_of_the_transient_pipeline() -> None:
    flux, weight = np.array([1.0, 1.1, 0.8, 1.3]), np.array([0.05, 0.1, 0.02, 0.2]) ** -2.0
    count = len(flux)
    written = count / (count - 1) * (np.mean(weight * flux**2) - np.mean(weight * flux) ** 2 / np.mean(weight))
    assert sums_of(*(epoch(f, w**-0.5) for f, w in zip(flux, weight, strict=True))).eta == pytest.approx(written)


def test_a_flux_density_counts_only_with_its_own_uncertainty() -> None:
    both = Epoch(1.0, 1, 2.0, 0.1, 5.0, 0.2)
    peak_alone = Epoch(2.0, 2, None, 0.1, 3.0, 0.2)
    no_error = Epoch(3.0, 3, 9.0, None, 3.0, 0.2)
    assert (both.flux, peak_alone.flux, no_error.flux) == ((2.0, 0.1), (3.0, 0.2), None)
    assert epoch(1.0, 0.0).flux is None
    sums = sums_of(both, peak_alone, no_error)
    assert (sums.detection_count, sums.flux_count, sums.max_flux_jy, sums.peak_flux_jy) == (3, 2, 3.0, 5.0)


def test_a_flux_density_of_zero_is_a_value_and_a_mean_below_zero_has_an_index() -> None:
    zero = sums_of(Epoch(1.0, 1, 0.0, 0.1, 7.0, 0.1), epoch(0.0), epoch(0.0))
    assert (zero.mean_flux_jy, zero.eta, zero.v) == (0.0, 0.0, None)  # the index over no mean is none
    assert sums_of(epoch(-1.0), epoch(-1.5)).v == pytest.approx(math.sqrt(0.125) / 1.25)


def test_one_epoch_has_no_variability() -> None:
    assert (sums_of(epoch(1.0)).eta, sums_of(epoch(1.0)).v, FluxSums().eta) == (None, None, None)


def test_the_latest_image_is_that_of_the_last_epoch_whatever_came_last() -> None:
    sums = sums_of(epoch(1.0, mjd=3.0, image=7), epoch(1.0, mjd=5.0, image=2), epoch(1.0, mjd=None, image=9))
    assert (sums.latest_image_id, sums.first_detected_mjd, sums.last_detected_mjd) == (2, 3.0, 5.0)
    assert sums.add(epoch(1.0, mjd=4.0, image=8)).latest_image_id == 2


def test_no_digits_are_lost_where_the_changes_are_small() -> None:
    fluxes = 1e6 + np.random.default_rng(3).normal(0.0, 1e-3, 1000)
    sums = sums_of(*(epoch(float(flux), 1e-3) for flux in fluxes))
    assert sums.eta == pytest.approx(np.var(fluxes, ddof=1) / 1e-6, rel=1e-6)


@pytest.mark.parametrize(("degrees", "critical"), [(1, 10.2729), (3, 15.6304), (10, 28.7848), (50, 85.3740)])
def test_the_chance_of_a_chi_squared_is_near_that_of_the_tables(degrees: int, critical: float) -> None:
    assert chance_of_chi_squared(critical, degrees) == pytest.approx(1.35e-3, rel=0.17)
    assert chance_of_chi_squared(0.0, degrees) > 0.9


def test_a_measurement_beside_which_all_others_are_rounded_away_makes_no_sum_negative() -> None:
    sums = sums_of(epoch(1e22, 1.0), epoch(1.0, 1e-9))
    assert sums.chi_squared == pytest.approx(1e44)
    assert sums.deviation_sum == pytest.approx(5e43)
