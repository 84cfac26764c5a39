"""The simulated observation has the telescope's layout, and its truth is what was put in."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from dsa110_contimg.pipeline import array, beam, calibrators, sky, uvh5
from dsa110_contimg.pipeline.beam_calibrators import calibrators_in_beam
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.simulation import SimulateOptions, Simulation, simulate, station_numbers
from fixtures import writers


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """An observation with every corruption."""
    return writers.write_observation(tmp_path_factory.mktemp("small"), n_sources=20)


def _truth(simulation: Simulation) -> dict:
    return json.loads(Path(simulation.truth_path).read_text())


def _visibilities(path: str) -> np.ndarray:
    with h5py.File(path) as file:
        return file["Data/visdata"][:, 0].reshape(file["Header/Ntimes"][()], -1, array.SUBBAND_CHANNELS, 2)


def test_sixteen_files_have_the_layout_of_the_correlator(small: Simulation) -> None:
    with h5py.File(small.subband_files[0]) as file:
        header, data = file["Header"], file["Data"]
        assert data["visdata"].shape == (4 * 78, 1, 48, 2)
        assert (data["visdata"].dtype, data["flags"].dtype, data["nsamples"].dtype) == (np.complex64, bool, np.float32)
        assert header["phase_type"][()] == b"drift"
        assert header["uvw_array"].dtype == np.float32
        uvw = header["uvw_array"][()].reshape(4, 78, 3)
        assert np.all(uvw == uvw[0])
        assert header["antenna_positions"].shape == (117, 3)
        assert header["channel_width"][()] == -244140.625
        assert np.all(np.diff(header["freq_array"][0]) < 0)
        assert np.count_nonzero(header["ant_1_array"][:78] == header["ant_2_array"][:78]) == 12
        assert len(header["extra_keywords/applied_delays_ns"][()].split()) == 234
    found = uvh5.scan(Path(small.truth_path).parent)
    assert (len(found.groups), found.groups[0].complete, found.rejected) == (1, True, ())


def test_some_baselines_come_the_other_way_round_as_in_real_files(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(
        tmp_path, n_antennas=20, n_times=1, missing_subbands=writers.ALL_BUT_FOUR
    )  # of 20 evenly spaced stations one is DSA-101, a baseline of which is reversed
    with h5py.File(simulation.subband_files[0]) as file:
        assert np.any(file["Header/ant_1_array"][()] > file["Header/ant_2_array"][()])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    runs = [
        writers.write_observation(
            tmp_path / str(k), n_antennas=5, n_times=2, seed=seed, missing_subbands=tuple(range(5, 16))
        )
        for k, seed in enumerate((1, 1, 2))
    ]
    first, again, other = (_visibilities(run.subband_files[4]) for run in runs)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_calibrator_is_real_and_transits_in_mid_observation(small: Simulation) -> None:
    truth = _truth(small)
    source = truth["sources"][0]
    calibrator = calibrators.find(source["name"])
    assert (source["ra_deg"], source["dec_deg"]) == (calibrator.ra_deg, calibrator.dec_deg)
    found = calibrators_in_beam(source["ra_deg"], truth["pointing_dec_apparent_deg"])
    assert found[0].calibrator is calibrator
    # the pointing is 0.2 degrees off; the integration half a step (6 s) from transit, 0.02 degrees to the side
    response = source["apparent_flux_jy"] / source["flux_jy"]
    assert response == pytest.approx(float(beam.power(np.radians(0.2), array.BAND_CENTRE_HZ)), abs=3e-4)


def test_the_field_spans_20_mjy_to_5_jy_and_keeps_its_distances(small: Simulation) -> None:
    field = _truth(small)["sources"][1:]
    flux_jy = [s["flux_jy"] for s in field]
    assert len(field) == 20
    assert (min(flux_jy), max(flux_jy)) == (pytest.approx(0.02), pytest.approx(5.0))
    ra, dec = np.radians([[s["ra_deg"], s["dec_deg"]] for s in _truth(small)["sources"]]).T
    apart_deg = np.degrees(beam.separation_rad(ra[:, None], dec[:, None], ra, dec))
    assert apart_deg[np.triu_indices(21, 1)].min() > 0.1


def test_an_ideal_source_gives_its_apparent_flux_on_every_baseline(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(tmp_path, n_antennas=6, n_times=3)
    truth = _truth(simulation)["sources"][0]
    amplitude = np.abs(_visibilities(simulation.subband_files[8]))
    frequency_hz = array.subband_frequencies_hz(8)
    spectrum_jy = truth["flux_jy"] * (frequency_hz / array.BAND_CENTRE_HZ) ** truth["spectral_index"]
    expected_jy = spectrum_jy * beam.power(np.radians(0.2), frequency_hz)
    # single precision; the source drifts 13 s about transit, which changes the beam by less than 1e-3
    assert amplitude[1] == pytest.approx(np.broadcast_to(expected_jy[:, None], amplitude[1].shape), rel=2e-4)


def test_sources_far_from_the_beam_drift_out_of_it() -> None:
    source = sky.Source("a", 24.0, 33.0, 1.0, 0.0)
    drift = sky.Drift(2461065.55 + np.array([0.0, 0.002, 0.004]), np.radians(33.1))
    flux_jy = sky.apparent_flux_jy([source], drift, np.array([1.405e9]))[0, :, 0]
    assert np.ptp(flux_jy) > 0.01
    assert np.all((flux_jy > 0) & (flux_jy < 1))


def test_the_noise_is_that_of_the_radiometer_equation(tmp_path: Path) -> None:
    changes = {"n_antennas": 12, "n_times": 4, "missing_subbands": writers.ALL_BUT_FOUR}
    ideal = writers.write_ideal_observation(tmp_path / "ideal", **changes)
    noisy = writers.write_ideal_observation(tmp_path / "noisy", noise=True, **changes)
    with h5py.File(ideal.subband_files[0]) as file:
        cross = file["Header/ant_1_array"][:78] != file["Header/ant_2_array"][:78]
    noise = (_visibilities(noisy.subband_files[0]) - _visibilities(ideal.subband_files[0]))[:, cross]
    # 66 x 4 x 48 x 2 samples: the standard error of a standard deviation is 0.45 %
    for part in (noise.real, noise.imag):
        assert part.std() == pytest.approx(array.sample_noise_jy(), rel=0.02)
        assert abs(part.mean()) < 5 * array.sample_noise_jy() / np.sqrt(part.size)


def test_gains_in_the_truth_are_those_in_the_data(tmp_path: Path) -> None:
    changes = {"n_antennas": 6, "n_times": 4, "missing_subbands": writers.ALL_BUT_FOUR}
    ideal = writers.write_ideal_observation(tmp_path / "ideal", **changes)
    real = writers.write_ideal_observation(tmp_path / "real", gains=True, bandpass=True, **changes)
    truth = _truth(real)
    gain = np.array(truth["gain_amplitude"]) * np.exp(1j * np.radians(truth["gain_phase_deg"]))
    drift = np.exp(1j * np.radians(truth["drift_deg"]))
    bandpass = np.array(truth["bandpass_amplitude"]) * np.exp(1j * np.radians(truth["bandpass_phase_deg"]))
    total = gain[None, :, None] * drift[:, :, None, None] * bandpass[None]
    descending = total[:, :, ::-1][:, :, :48]
    ratio = _visibilities(real.subband_files[0]) / _visibilities(ideal.subband_files[0])
    one, two = np.triu_indices(6)
    forward = one != two
    with h5py.File(real.subband_files[0]) as file:
        forward &= file["Header/ant_1_array"][:21] < file["Header/ant_2_array"][:21]
    # the truth is in the convention of the Measurement Set, the conjugate of the file's; rounded to 5 digits
    expected = np.conj(descending[:, one] * np.conj(descending[:, two]))
    assert np.abs(ratio - expected)[:, forward].max() < 1e-3 * np.abs(expected).max()
    assert np.median(np.array(truth["gain_amplitude"])) == pytest.approx(0.068, rel=0.1)


def test_interference_covers_four_percent_and_stands_out(small: Simulation) -> None:
    truth = _truth(small)
    assert 0.04 <= truth["rfi_fraction"] < 0.06
    strength = np.array(truth["rfi_jy"])
    assert strength[strength > 0].min() >= 15.0
    assert np.any(np.all(strength > 0, axis=0))  # persistent channels


def test_a_dead_antenna_has_noise_alone(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(
        tmp_path, n_antennas=6, n_times=1, dead_antennas=1, missing_subbands=writers.ALL_BUT_FOUR
    )
    truth = _truth(simulation)
    dead = truth["antennas"].index(truth["dead_antennas"][0])
    one, two = np.triu_indices(6)
    touches = (one == dead) | (two == dead)
    amplitude = np.abs(_visibilities(simulation.subband_files[0]))[0].max(axis=(1, 2))
    assert np.all(amplitude[touches] == 0)
    assert np.all(amplitude[~touches] > 1)


def test_missing_subbands_have_no_file(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(tmp_path, n_antennas=4, n_times=1, missing_subbands=(0, 7))
    assert len(simulation.subband_files) == 14
    assert uvh5.scan(tmp_path).groups[0].missing == (0, 7)


def test_a_stamp_chooses_the_brightest_calibrator_near_the_meridian(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(
        tmp_path, n_antennas=4, n_times=1, stamp="2026-01-25T13:05:00", missing_subbands=writers.ALL_BUT_FOUR
    )
    assert simulation.stamp == "2026-01-25T13:05:00"
    assert calibrators.find(simulation.calibrator).flux_1400_jy > 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_antennas": 3}, "n_antennas is 3"),
        ({"n_antennas": 97}, "n_antennas is 97"),
        ({"n_times": 0}, "n_times is 0"),
        ({"dead_antennas": 11}, "dead_antennas is 11"),
        ({"missing_subbands": (16,)}, "missing_subbands"),
        ({"missing_subbands": tuple(range(16))}, "not all"),
        ({"stamp": "yesterday"}, "yesterday"),
        ({"stamp": "2026-01-25T13:00:00", "calibrator": "3C48"}, "3C48 transits at"),
        ({"calibrator": "3C999"}, "3C999"),
        ({"n_sources": 5000}, "ask for fewer"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_the_reason(tmp_path: Path, changes: dict, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        simulate(replace(writers.SMALL, directory=str(tmp_path), **changes))
    assert list(tmp_path.iterdir()) == []


def test_every_size_of_array_mixes_arms_and_outriggers() -> None:
    for size in (4, 12, 40, 96):
        numbers = station_numbers(size)
        assert len(set(numbers)) == size
        assert set(numbers) <= set(array.ACTIVE_STATIONS)
        assert any(n > 102 for n in numbers)
    assert SimulateOptions("").n_antennas == 40


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    seen: list[float] = []
    simulate(replace(writers.SMALL, directory=str(tmp_path), n_antennas=4, n_times=1), lambda f, _: seen.append(f))
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert seen == sorted(seen)
