"""Comparison of a catalogue with the truth."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.extraction import write_catalogue
from dsa110_contimg.pipeline.recovery import RecoverOptions, TrueSource, compare, recover
from fixtures.catalogues import source_at

NOISE_JYB = 0.5e-3
BRIGHT = TrueSource("bright", 10.0, 20.0, 1.0, 0.9)
MIDDLE = TrueSource("middle", 10.5, 20.0, 0.1, 0.05)
FAINT = TrueSource("faint", 9.5, 20.0, 0.006, 0.004)  # 8 sigma: below what must be found
OUTSIDE = TrueSource("outside", 13.0, 20.0, 2.0, 0.1)  # response 5 %: blank in the image


def test_ratio_offset_and_completeness_are_those_of_the_detectable_sources() -> None:
    found = [source_at(10.0, 20.0 + 2 / 3600, 1.02), source_at(9.5, 20.0, 0.012)]
    recovery = compare([FAINT, OUTSIDE, MIDDLE, BRIGHT], found)
    assert (recovery.n_detectable, recovery.n_recovered, recovery.completeness) == (2, 1, 0.5)
    assert recovery.median_flux_ratio == pytest.approx(1.02)
    assert recovery.median_offset_arcsec == pytest.approx(2.0, rel=1e-6)
    assert recovery.n_spurious == 0
    assert [source.name for source in recovery.sources] == ["outside", "bright", "middle", "faint"]
    assert recovery.rows[1] == ("bright", "1000.0", "1020.0", "1.020", "2.0")
    assert recovery.rows[2] == ("middle", "100.0", "-", "-", "-")


def test_a_source_farther_than_the_match_radius_is_spurious_and_the_true_one_missed() -> None:
    recovery = compare([BRIGHT], [source_at(10.0, 20.0 + 40 / 3600, 1.0)])
    assert (recovery.n_recovered, recovery.n_spurious) == (0, 1)


def test_an_empty_catalogue_recovers_nothing() -> None:
    recovery = compare([BRIGHT, MIDDLE], [])
    assert (recovery.n_detectable, recovery.completeness, recovery.median_flux_ratio) == (2, 0.0, None)


def test_the_noise_is_taken_before_the_correction_for_the_primary_beam() -> None:
    at_the_edge = replace(source_at(10.5, 20.0, 0.1, NOISE_JYB / 0.5), response=0.5)
    source = compare([MIDDLE], [at_the_edge]).sources[0]
    assert source.true_snr == pytest.approx(0.05 / NOISE_JYB)


def test_files_are_compared_as_their_contents_are(tmp_path: Path) -> None:
    truth, catalogue = tmp_path / "truth.json", tmp_path / "sources.csv"
    fields = ("name", "ra_deg", "dec_deg", "flux_jy", "mean_apparent_flux_jy")
    truth.write_text(json.dumps({"sources": [{name: getattr(BRIGHT, name) for name in fields} | {"more": 1}]}))
    write_catalogue(catalogue, [source_at(10.0, 20.0, 0.99)])
    recovery = recover(RecoverOptions(str(catalogue), str(truth)))
    assert recovery.median_flux_ratio == pytest.approx(0.99)


def test_a_truth_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    catalogue, truth = tmp_path / "sources.csv", tmp_path / "truth.json"
    write_catalogue(catalogue, [])
    truth.write_text("{}")
    with pytest.raises(BadInputError, match=r"truth\.json cannot be read as the truth"):
        recover(RecoverOptions(str(catalogue), str(truth)))
    truth.write_text(json.dumps({"sources": []}))
    with pytest.raises(BadInputError, match=r"absent\.csv cannot be read as a catalogue"):
        recover(RecoverOptions(str(tmp_path / "absent.csv"), str(truth)))
