"""Calibration of simulated observations: the truth is recovered, and what cannot be calibrated is refused."""

import json
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from casacore.tables import table

from dsa110_contimg.pipeline import beam, field_sources
from dsa110_contimg.pipeline.calibration import CalibrationSolution, SolveOptions, solve
from dsa110_contimg.pipeline.calibration_model import from_text
from dsa110_contimg.pipeline.caltable import read_table
from dsa110_contimg.pipeline.components import PointComponent
from dsa110_contimg.pipeline.errors import BadInputError, DataQualityError
from dsa110_contimg.pipeline.flagging import FlagOptions, flag
from dsa110_contimg.pipeline.simulation import Simulation
from dsa110_contimg.pipeline.skymodel import direction_cosines
from dsa110_contimg.pipeline.visibilities import read_layout
from fixtures import writers
from fixtures.gain_truth import gain_errors


@dataclass(frozen=True)
class Solved:
    """A simulated observation and what calibration made of it."""

    simulation: Simulation
    ms_path: str
    solution: CalibrationSolution

    @property
    def truth(self) -> dict:
        """What the simulation put in."""
        return json.loads(Path(self.simulation.truth_path).read_text())


def _solved(directory: Path, **changes: object) -> Solved:
    simulation = writers.write_observation(directory / "raw", **changes)
    ms_path = writers.convert_observation(simulation, directory / "observation.ms").ms_path
    flag(FlagOptions(ms_path))
    options = SolveOptions(ms_path, str(directory / "table.b"), str(directory / "table.g"))
    return Solved(simulation, ms_path, solve(options))


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Solved:
    """Twenty antennas with every corruption, a calibrator of 16 Jy and six other sources, one of them of 5 Jy."""
    return _solved(tmp_path_factory.mktemp("solved"), n_antennas=20, n_times=12, n_sources=6)


@pytest.fixture(scope="module")
def ideal_ms(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A calibrator without noise, gains and interference."""
    directory = tmp_path_factory.mktemp("ideal")
    simulation = writers.write_ideal_observation(directory / "raw")
    return writers.convert_observation(simulation, directory / "observation.ms").ms_path


def _options(ms_path: str, directory: Path, **changes: object) -> SolveOptions:
    return SolveOptions(ms_path, str(directory / "table.b"), str(directory / "table.g"), **changes)


def test_gains_are_recovered_to_two_percent_and_two_degrees(solved: Solved) -> None:
    errors = gain_errors(solved.simulation.truth_path, solved.solution.bandpass_path, solved.solution.gain_path)
    # thermal: 2.31 Jy a sample over 16 Jy, 18 live partners (half of them beyond 1 klambda), 12 integrations, 4 % lost:
    # 1.4 % and 0.8 degrees for a channel of the bandpass
    assert errors.amplitude_rms < 0.02
    assert errors.phase_rms_deg < 2.0
    assert np.isfinite(errors.amplitude).mean() > 0.98


def test_the_flux_scale_is_that_of_the_calibrator(solved: Solved) -> None:
    errors = gain_errors(solved.simulation.truth_path, solved.solution.bandpass_path, solved.solution.gain_path)
    # 0.1 % by noise alone; sources fainter than a hundredth of the calibrator are not in the model
    assert np.nanmean(errors.amplitude) == pytest.approx(0.0, abs=0.003)


def test_the_summary_tells_calibrator_reference_and_quality(solved: Solved) -> None:
    solution, truth = solved.solution, solved.truth
    assert solution.calibrator == truth["calibrator"] == "0137+331"
    assert solution.calibrator_flux_jy == pytest.approx(truth["sources"][0]["flux_jy"], rel=1e-6)
    assert solution.calibrator_apparent_jy == pytest.approx(truth["sources"][0]["apparent_flux_jy"], rel=1e-3)
    assert solution.flux_origin == "PB2017"
    outriggers = [name for name in truth["antennas"] if name >= "DSA-103" and name not in truth["dead_antennas"]]
    assert solution.refant == min(outriggers)
    assert solution.dead_antennas == tuple(truth["dead_antennas"])
    assert solution.converged_fraction == 1.0
    assert solution.flagged_fraction_live < 0.02
    assert solution.median_snr > 50
    assert solution.amplitude_min < 0.068 < solution.amplitude_max
    layout = read_layout(solved.ms_path)
    assert solution.valid_start_mjd < layout.times_mjd[0] < layout.times_mjd[-1] < solution.valid_end_mjd
    assert solution.files == (solution.bandpass_path, solution.gain_path)


def test_the_bandpass_is_normalised_and_referred(solved: Solved) -> None:
    bandpass = read_table(solved.solution.bandpass_path)
    reference = bandpass.antenna_names.index(solved.solution.refant)
    values = bandpass.unflagged()
    live = np.isfinite(values).any(axis=(1, 2))
    power = np.nanmean(np.abs(values[live]) ** 2, axis=1)
    assert np.abs(power - 1).max() < 0.01  # bad channels were dropped afterwards
    assert np.nanmax(np.abs(np.angle(values[reference]))) < 1e-5


def test_the_bright_source_of_the_field_is_found_where_and_as_bright_as_it_is(solved: Solved) -> None:
    bright = max(solved.truth["sources"][1:], key=lambda source: source["apparent_flux_jy"])
    model = from_text(read_table(solved.solution.bandpass_path).model)
    assert len(model) == solved.solution.field_sources + 1
    assert model[0].name == solved.solution.calibrator
    places = np.radians([[source.ra_deg, source.dec_deg] for source in model])
    place = np.radians([bright["ra_deg"], bright["dec_deg"]])
    apart_arcsec = 3600 * np.degrees(beam.separation_rad(places[:, 0], places[:, 1], *place))
    nearest = int(np.argmin(apart_arcsec))
    assert apart_arcsec[nearest] < 3.0
    # the first turn's gains take a part of it: of the order of one over the number of antennas
    assert model[nearest].flux_jy == pytest.approx(bright["flux_jy"], rel=0.1)


def test_solving_again_gives_the_same_solution_and_leaves_nothing_behind(solved: Solved) -> None:
    directory = Path(solved.solution.bandpass_path).parent
    before = read_table(solved.solution.bandpass_path)
    solution = solve(_options(solved.ms_path, directory))
    after = read_table(solved.solution.bandpass_path)
    np.testing.assert_array_equal(after.flags, before.flags)
    # sums over baselines are made in threads of their own, each in order: equal to rounding
    np.testing.assert_allclose(after.values, before.values, rtol=1e-4)
    assert solution.field_sources == solved.solution.field_sources
    assert not list(directory.glob("*.partial-*"))


def test_a_calibration_of_perfect_data_is_one(ideal_ms: str, tmp_path: Path) -> None:
    solution = solve(_options(ideal_ms, tmp_path))
    bandpass, gains = read_table(solution.bandpass_path), read_table(solution.gain_path)
    whole = gains.unflagged()[:, :, None] * bandpass.unflagged()[:, None]
    # the model's beam is computed apart from the simulation's; diurnal aberration, 0.3 arcsec, is not in the UVW: over
    # 12 klambda that is 0.1 rad, less for the direction of the calibrator so near the phase centre
    assert np.abs(np.abs(whole) - 1).max() < 1e-3
    assert np.abs(np.angle(whole * np.conj(whole[:1]))).max() < 0.1
    assert solution.dead_antennas == ()


def test_a_missing_subband_leaves_a_gap_and_the_rest_is_solved(tmp_path: Path) -> None:
    solved = _solved(tmp_path, missing_subbands=(5, 6), rfi=False, n_sources=0)
    bandpass = read_table(solved.solution.bandpass_path)
    assert bandpass.values.shape[1] == 14 * 48
    assert np.diff(bandpass.frequencies_hz).max() > 96 * 244140.0
    assert solved.solution.flagged_fraction_live < 0.01


def test_a_small_array_takes_shorter_baselines_and_says_so(ideal_ms: str, tmp_path: Path) -> None:
    solution = solve(_options(ideal_ms, tmp_path, min_uv_lambda=8000.0))
    assert solution.notes == ("baselines from 500 wavelengths on took part, not 8000: too few are longer",)


def test_an_observation_without_a_calibrator_is_refused_with_the_remedy(ideal_ms: str, tmp_path: Path) -> None:
    copy = str(copytree(ideal_ms, tmp_path / "copy.ms"))
    with table(f"{copy}/FIELD", readonly=False, ack=False) as field:
        field.putcol("PHASE_DIR", np.radians([[[200.0, 80.0]]]))
    with pytest.raises(DataQualityError, match=r"brightest calibrator .* apply tables") as caught:
        solve(_options(copy, tmp_path))
    assert copy in str(caught.value)
    assert not (tmp_path / "table.b").exists()


def test_a_calibrator_that_is_too_faint_is_refused_with_its_flux(ideal_ms: str, tmp_path: Path) -> None:
    with pytest.raises(DataQualityError, match=r"has 1[56]\.\d\d Jy through the beam .* and 100 Jy are needed"):
        solve(_options(ideal_ms, tmp_path, min_apparent_jy=100.0))


def test_a_named_calibrator_that_is_elsewhere_is_refused(ideal_ms: str, tmp_path: Path) -> None:
    with pytest.raises(DataQualityError, match="calibrator 3C286 is not in the beam"):
        solve(_options(ideal_ms, tmp_path, calibrator="3C286"))


def test_a_measurement_set_with_everything_flagged_is_refused(ideal_ms: str, tmp_path: Path) -> None:
    copy = str(copytree(ideal_ms, tmp_path / "copy.ms"))
    with table(copy, readonly=False, ack=False) as rows:
        rows.putcol("FLAG", np.ones_like(rows.getcol("FLAG")))
    with pytest.raises(DataQualityError, match="all cross-correlations are flagged"):
        solve(_options(copy, tmp_path))


def test_a_measurement_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"missing\.ms does not exist"):
        solve(_options(str(tmp_path / "missing.ms"), tmp_path))


def test_a_fitted_point_becomes_a_source_at_its_place(ideal_ms: str) -> None:
    layout = read_layout(ideal_ms)
    ra_rad, dec_rad = layout.centre_ra_rad + 0.02, layout.centre_dec_rad - 0.015
    l_cosine, m_cosine, _ = direction_cosines(ra_rad, dec_rad, layout.centre_ra_rad, layout.centre_dec_rad)
    source = field_sources._source(PointComponent(l_cosine, m_cosine, 2.0, -1.4), layout, 1.4e9)
    assert source.ra_deg == pytest.approx(np.degrees(ra_rad) % 360, abs=1e-9)
    assert source.dec_deg == pytest.approx(np.degrees(dec_rad), abs=1e-9)
    assert (source.flux_jy, source.spectral_index) == (2.0, pytest.approx(-0.7))
