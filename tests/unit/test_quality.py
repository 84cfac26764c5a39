"""Grades and their reasons."""

from dataclasses import replace
from pathlib import Path

import pytest

from dsa110_contimg.pipeline import calibrators
from dsa110_contimg.pipeline.array import BAND_CENTRE_HZ
from dsa110_contimg.pipeline.assessment import AssessOptions, assess
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.extraction import write_catalogue
from dsa110_contimg.pipeline.quality import Limit
from fixtures.catalogues import source_at

GOOD = AssessOptions(
    noise_jy=0.5e-3,
    thermal_noise_jy=0.48e-3,
    dynamic_range=20_000.0,
    converged=True,
    flagged_fraction_live=0.07,
    median_snr=160.0,
    missing_subbands=(),
    n_sources=25,
)


def test_an_observation_within_all_limits_is_good_and_gives_no_reason() -> None:
    verdict = assess(GOOD)
    assert (verdict.grade, verdict.reasons) == ("good", ())
    assert verdict.metrics["rms_ratio"] == pytest.approx(0.5 / 0.48)
    assert "all within limits" in verdict.summary


@pytest.mark.parametrize(
    ("changes", "grade", "word"),
    [
        ({"noise_jy": 1.0e-3}, "warn", "thermal"),
        ({"noise_jy": 2.0e-3}, "fail", "thermal"),
        ({"noise_jy": float("nan")}, "fail", "thermal"),
        ({"n_unfitted": 2}, "warn", "2 bright islands"),
        ({"dynamic_range": 60.0}, "warn", "dynamic range"),
        ({"dynamic_range": 10.0}, "fail", "dynamic range"),
        ({"flagged_fraction_live": 0.4}, "warn", "flagged"),
        ({"flagged_fraction_live": 0.6}, "fail", "flagged"),
        ({"median_snr": 5.0}, "warn", "SNR"),
        ({"median_snr": 2.0}, "fail", "SNR"),
        ({"missing_subbands": (3,)}, "warn", "missing subbands: 03"),
        ({"missing_subbands": tuple(range(9))}, "fail", "missing subbands: 00, 01"),
        ({"n_sources": 3}, "warn", "sources"),
        ({"n_sources": 0}, "fail", "sources"),
        ({"converged": False}, "warn", "CLEAN"),
    ],
)
def test_each_number_beyond_a_limit_lowers_the_grade_and_is_named(
    changes: dict[str, object], grade: str, word: str
) -> None:
    verdict = assess(replace(GOOD, **changes))
    assert verdict.grade == grade
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith(grade)
    assert word in verdict.reasons[0]
    assert word in verdict.summary


def test_the_worst_of_several_counts_and_all_are_told() -> None:
    verdict = assess(replace(GOOD, converged=False, n_sources=0))
    assert verdict.grade == "fail"
    assert len(verdict.reasons) == 2


def test_an_expected_noise_of_zero_is_refused() -> None:
    with pytest.raises(BadInputError, match="thermal_noise_jy is 0"):
        assess(replace(GOOD, thermal_noise_jy=0.0))


@pytest.mark.parametrize(("factor", "grade"), [(1.02, "good"), (0.93, "warn"), (0.8, "fail")])
def test_the_calibrator_must_have_its_own_flux_density(tmp_path: Path, factor: float, grade: str) -> None:
    calibrator = calibrators.find("3C48")
    flux_jy = factor * float(calibrator.flux_jy(BAND_CENTRE_HZ))
    path = tmp_path / "sources.csv"
    write_catalogue(path, [source_at(calibrator.ra_deg, calibrator.dec_deg + 1 / 3600, flux_jy)])
    verdict = assess(replace(GOOD, catalogue_path=str(path), calibrator="3C48"))
    assert verdict.grade == grade
    assert verdict.metrics["calibrator_flux_ratio"] == pytest.approx(factor)


def test_a_calibrator_that_is_not_in_the_image_fails(tmp_path: Path) -> None:
    path = tmp_path / "sources.csv"
    write_catalogue(path, [source_at(10.0, 10.0, 1.0)])
    verdict = assess(replace(GOOD, catalogue_path=str(path), calibrator="3C48"))
    assert verdict.grade == "fail"
    assert "the calibrator was not found" in verdict.reasons[0]


def test_limits_are_inclusive() -> None:
    assert [Limit(1.5, 3.0).grade(value) for value in (1.5, 3.0, 3.01)] == ["good", "warn", "fail"]
    assert [Limit(10, 3, at_most=False).grade(value) for value in (10, 3, 2.9)] == ["good", "warn", "fail"]
