"""Calibration applied: what comes out, and which tables are refused."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from casacore.tables import table

from dsa110_contimg.pipeline.application import ApplyOptions, CalibratedMS, apply
from dsa110_contimg.pipeline.calibration import CalibrationSolution, SolveOptions, solve
from dsa110_contimg.pipeline.caltable import CalibrationTable, read_table
from dsa110_contimg.pipeline.errors import BadInputError, DataQualityError
from dsa110_contimg.pipeline.flagging import FlagOptions, flag
from dsa110_contimg.pipeline.matching import match
from dsa110_contimg.pipeline.simulation import Simulation
from dsa110_contimg.pipeline.visibilities import Layout, Visibilities, opened, read_layout, read_visibilities
from fixtures import writers


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """Fourteen antennas, one dead, with noise, gains and interference; the calibrator is alone."""
    return writers.write_observation(tmp_path_factory.mktemp("raw"), n_antennas=14, n_times=6, n_sources=0)


@pytest.fixture(scope="module")
def solution(simulation: Simulation, tmp_path_factory: pytest.TempPathFactory) -> CalibrationSolution:
    """Its calibration."""
    directory = tmp_path_factory.mktemp("solved")
    ms_path = writers.convert_observation(simulation, directory / "observation.ms").ms_path
    flag(FlagOptions(ms_path))
    return solve(SolveOptions(ms_path, str(directory / "table.b"), str(directory / "table.g")))


def _options(solution: CalibrationSolution, output: Path) -> ApplyOptions:
    return ApplyOptions(solution.inputs[0], solution.bandpass_path, solution.gain_path, str(output))


@pytest.fixture(scope="module")
def calibrated(solution: CalibrationSolution, tmp_path_factory: pytest.TempPathFactory) -> CalibratedMS:
    """The corrected observation."""
    return apply(_options(solution, tmp_path_factory.mktemp("calibrated") / "observation_cal.ms"))


def _read(path: str) -> tuple[Layout, Visibilities]:
    layout = read_layout(path)
    with opened(path) as rows:
        return layout, read_visibilities(rows, layout, range(layout.n_times))


def _files(path: str) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(Path(path).rglob("*")) if file.is_file()}


def test_corrected_data_are_the_calibrator_in_jansky(simulation: Simulation, calibrated: CalibratedMS) -> None:
    truth = json.loads(Path(simulation.truth_path).read_text())
    layout, chunk = _read(calibrated.ms_path)
    good = ~chunk.flags & layout.crosses[None, :, None, None]
    # 2.31 Jy of noise in each part on 16 Jy: the mean modulus is larger by noise^2 / (2 x 16^2) = 1 %
    expected = truth["sources"][0]["mean_apparent_flux_jy"] * (1 + (2.31 / 16) ** 2 / 2)
    assert np.abs(chunk.data[good]).mean() == pytest.approx(expected, rel=0.005)
    assert calibrated.model_ratio == pytest.approx(1.0, abs=0.005)


def test_weights_are_inverse_variances_in_jansky(simulation: Simulation, calibrated: CalibratedMS) -> None:
    noise_jy = json.loads(Path(simulation.truth_path).read_text())["noise_per_sample_jy"]
    layout, chunk = _read(calibrated.ms_path)
    good = ~chunk.flags & layout.crosses[None, :, None, None]
    # the receivers of the simulation are equal: in Jy every sample has the same noise whatever its gain, of which those
    # of two antennas differ by 10 %. The bandpass took 13 of the 468 samples of each channel with it: 2.8 %
    assert np.median(chunk.weights[good]) == pytest.approx(noise_jy**-2 / (1 - 13 / 468), rel=0.015)
    per_baseline = [chunk.weights[:, row][good[:, row]].mean() for row in np.flatnonzero(good.any(axis=(0, 2, 3)))]
    assert np.std(per_baseline) / np.mean(per_baseline) < 0.03


def test_interference_that_single_baselines_missed_is_flagged(simulation: Simulation, calibrated: CalibratedMS) -> None:
    truth = json.loads(Path(simulation.truth_path).read_text())
    interference = np.array(truth["rfi_jy"]) > 0
    _, chunk = _read(calibrated.ms_path)
    everywhere = chunk.flags.all(axis=(1, 3))
    assert everywhere[interference].mean() > 0.99
    assert everywhere[~interference].mean() < 0.015  # the gap between two bursts, which AOFlagger bridges
    assert calibrated.array_flagged_fraction == pytest.approx(interference.mean(), abs=0.002)


def test_fractions_are_those_of_the_flags_written(solution: CalibrationSolution, calibrated: CalibratedMS) -> None:
    layout, chunk = _read(calibrated.ms_path)
    dead = [layout.antenna_names.index(name) for name in solution.dead_antennas]
    live = layout.crosses & ~np.isin(layout.antenna1, dead) & ~np.isin(layout.antenna2, dead)
    assert len(dead) == 1
    assert calibrated.flagged_fraction == pytest.approx(chunk.flags[:, layout.crosses].mean(), abs=1e-12)
    assert calibrated.flagged_fraction_live == pytest.approx(chunk.flags[:, live].mean(), abs=1e-12)
    assert chunk.flags[:, layout.crosses & ~live].all()


def test_the_row_columns_follow_the_spectra(calibrated: CalibratedMS) -> None:
    _, chunk = _read(calibrated.ms_path)
    with table(calibrated.ms_path, ack=False) as rows:
        weight, sigma, row_flags = (rows.getcol(name) for name in ("WEIGHT", "SIGMA", "FLAG_ROW"))
    np.testing.assert_array_equal(row_flags, chunk.flags.all(axis=(2, 3)).reshape(-1))
    good = weight > 0
    np.testing.assert_allclose(sigma[good], weight[good] ** -0.5, rtol=1e-5)
    assert good.any(axis=1).sum() == (~row_flags).sum()


def test_the_input_is_not_touched_and_nothing_is_left_beside_the_output(
    solution: CalibrationSolution, tmp_path: Path
) -> None:
    before = _files(solution.inputs[0])
    for _ in range(2):
        result = apply(_options(solution, tmp_path / "observation_cal.ms"))
    assert _files(solution.inputs[0]) == before
    assert [path.name for path in tmp_path.iterdir()] == ["observation_cal.ms"]
    assert result.inputs == (*solution.inputs, *solution.files)


def test_applying_twice_gives_the_same(solution: CalibrationSolution, calibrated: CalibratedMS, tmp_path: Path) -> None:
    again = apply(_options(solution, tmp_path / "observation_cal.ms"))
    _, first = _read(calibrated.ms_path)
    _, second = _read(again.ms_path)
    np.testing.assert_array_equal(first.data, second.data)
    np.testing.assert_array_equal(first.flags, second.flags)


def test_tables_of_another_frequency_setup_are_refused(solution: CalibrationSolution, tmp_path: Path) -> None:
    shifted = str(copytree(solution.bandpass_path, tmp_path / "shifted.b"))
    with table(f"{shifted}/SPECTRAL_WINDOW", readonly=False, ack=False) as window:
        window.putcell("CHAN_FREQ", 0, window.getcell("CHAN_FREQ", 0) + 100e3)
    options = replace(_options(solution, tmp_path / "observation_cal.ms"), bandpass_path=shifted)
    with pytest.raises(DataQualityError, match=r"shifted\.b was .* another frequency setup: 768 of 768"):
        apply(options)
    assert not (tmp_path / "observation_cal.ms").exists()


def test_tables_of_other_antennas_are_refused_by_name(solution: CalibrationSolution, tmp_path: Path) -> None:
    other = str(copytree(solution.gain_path, tmp_path / "other.g"))
    with table(f"{other}/ANTENNA", readonly=False, ack=False) as antennas:
        names = antennas.getcol("NAME")
        antennas.putcell("NAME", 3, "DSA-999")
    options = replace(_options(solution, tmp_path / "observation_cal.ms"), gain_path=other)
    with pytest.raises(DataQualityError, match=f"solved for other antennas: {names[3]} of"):
        apply(options)


def test_exchanged_tables_are_refused(solution: CalibrationSolution, tmp_path: Path) -> None:
    options = replace(
        _options(solution, tmp_path / "observation_cal.ms"),
        bandpass_path=solution.gain_path,
        gain_path=solution.bandpass_path,
    )
    with pytest.raises(BadInputError, match=r"holds G Jones, B Jones is wanted: exchange the two tables"):
        apply(options)


def test_tables_that_do_not_fit_the_data_are_refused_with_the_ratio(
    solution: CalibrationSolution, tmp_path: Path
) -> None:
    wrong = str(copytree(solution.gain_path, tmp_path / "wrong.g"))
    with table(wrong, readonly=False, ack=False) as rows:
        rows.putcol("CPARAM", rows.getcol("CPARAM") / 3.0)
    options = replace(_options(solution, tmp_path / "observation_cal.ms"), gain_path=wrong)
    with pytest.raises(DataQualityError, match=r"corrected data are (8\.9|9)\S* times the model"):
        apply(options)
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.g"]


def test_a_doubtful_flux_scale_is_noted(solution: CalibrationSolution, tmp_path: Path) -> None:
    doubtful = str(copytree(solution.gain_path, tmp_path / "doubtful.g"))
    with table(doubtful, readonly=False, ack=False) as rows:
        rows.putcol("CPARAM", rows.getcol("CPARAM") / np.sqrt(2.0))
    result = apply(replace(_options(solution, tmp_path / "observation_cal.ms"), gain_path=doubtful))
    assert result.notes == ("corrected data are 2.00 times the model: check the flux scale",)


def test_tables_without_any_solution_are_refused(solution: CalibrationSolution, tmp_path: Path) -> None:
    empty = str(copytree(solution.gain_path, tmp_path / "empty.g"))
    with table(empty, readonly=False, ack=False) as rows:
        rows.putcol("FLAG", np.ones_like(rows.getcol("FLAG")))
    options = replace(_options(solution, tmp_path / "observation_cal.ms"), gain_path=empty)
    with pytest.raises(DataQualityError, match="everything is flagged"):
        apply(options)


def test_a_table_that_is_not_there_is_named(solution: CalibrationSolution, tmp_path: Path) -> None:
    options = replace(_options(solution, tmp_path / "x.ms"), bandpass_path=str(tmp_path / "none.b"))
    with pytest.raises(BadInputError, match=r"none\.b does not exist"):
        apply(options)


def _tables(solution: CalibrationSolution) -> tuple[CalibrationTable, CalibrationTable]:
    return read_table(solution.bandpass_path), read_table(solution.gain_path)


def test_gains_are_interpolated_in_amplitude_and_phase_between_their_times(solution: CalibrationSolution) -> None:
    layout = read_layout(solution.inputs[0])
    bandpass, gains = _tables(solution)
    ramp = np.exp(np.array([0.0, 3.0, 6.0, 9.0, 12.0, 15.0]) * 1j) * np.arange(1, 7)
    gains = replace(
        gains,
        values=np.broadcast_to(ramp[None, :, None], gains.values.shape).astype(np.complex64),
        flags=np.zeros_like(gains.flags),
        intervals_s=gains.intervals_s / 4,
    )
    half_s = layout.interval_s / 2
    later = replace(layout, times_mjd=layout.times_mjd[:5] + half_s / 86400.0)
    _, at_times = match(later, "b", bandpass, "g", gains)
    expected = np.exp(np.array([1.5, 4.5, 7.5, 10.5, 13.5]) * 1j) * np.arange(1.5, 6)
    np.testing.assert_allclose(at_times[0, :, 0], expected, rtol=1e-4)


def test_a_flagged_gain_stays_flagged_at_its_own_time(solution: CalibrationSolution) -> None:
    layout = read_layout(solution.inputs[0])
    bandpass, gains = _tables(solution)
    gains.flags[1, 2] = True
    _, at_times = match(layout, "b", bandpass, "g", gains)
    assert np.isnan(at_times[1, 2]).all()
    assert np.isfinite(at_times[1, [1, 3]]).all()


def test_tables_from_another_day_are_refused(solution: CalibrationSolution) -> None:
    layout = read_layout(solution.inputs[0])
    later = replace(layout, times_mjd=layout.times_mjd + 2.0)
    with pytest.raises(DataQualityError, match=r"solved 2\.00 days from"):
        match(later, "b", *_interleaved(solution))


def _interleaved(solution: CalibrationSolution) -> tuple[CalibrationTable, str, CalibrationTable]:
    bandpass, gains = _tables(solution)
    return bandpass, "g", gains


def test_antennas_and_channels_are_matched_whatever_their_order_in_the_table(solution: CalibrationSolution) -> None:
    layout = read_layout(solution.inputs[0])
    bandpass, gains = _tables(solution)
    some = replace(layout, frequencies_hz=layout.frequencies_hz[100:200])
    order = np.arange(layout.n_antennas)[::-1]
    turned = replace(
        bandpass,
        values=bandpass.values[order],
        flags=bandpass.flags[order],
        antenna_names=tuple(layout.antenna_names[index] for index in order),
    )
    by_channel, _ = match(some, "b", turned, "g", gains)
    np.testing.assert_array_equal(by_channel, bandpass.unflagged()[:, 100:200])
