"""One Measurement Set from sixteen files: against pyuvdata, against the simulated sky, and from wrong files."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from casacore.tables import table

from dsa110_contimg.pipeline import array, beam
from dsa110_contimg.pipeline.conversion import ConvertedMS, ConvertOptions, convert
from dsa110_contimg.pipeline.errors import BadInputError, DataQualityError
from dsa110_contimg.pipeline.simulation import Simulation
from fixtures import writers

C_M_S = 299_792_458.0


@pytest.fixture(scope="module")
def observation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """An observation with every corruption, and with baselines stored the other way round."""
    return writers.write_observation(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def converted(observation: Simulation, tmp_path_factory: pytest.TempPathFactory) -> ConvertedMS:
    """Its Measurement Set."""
    return writers.convert_observation(observation, tmp_path_factory.mktemp("ms") / f"{observation.stamp}.ms")


def _columns(path: str, *names: str) -> list[np.ndarray]:
    with table(path, ack=False) as opened:
        return [opened.getcol(name) for name in names]


@pytest.fixture(scope="module")
def oracle(observation: Simulation, converted: ConvertedMS, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same observation converted by pyuvdata, to the same phase centre.

    pyuvdata takes a drift scan to be phased to the zenith; it is told here where it really is.
    """
    from pyuvdata import UVData

    parts = []
    for path in observation.subband_files:
        part = UVData()
        part.read(path, file_type="uvh5", run_check=False, check_extra=False)
        part.uvw_array = part.uvw_array.astype(float)
        parts.append(part)
    whole = parts[0]
    whole.fast_concat(parts[1:], "freq", inplace=True, run_check=False)
    dec_rad, latitude_rad = whole.extra_keywords["phase_center_dec"], whole.telescope.location.lat.rad
    azimuth_rad = np.pi if dec_rad < latitude_rad else 0.0
    for entry in whole.phase_center_catalog.values():
        entry.update(cat_type="driftscan", cat_frame="altaz", cat_lon=azimuth_rad, cat_epoch=None)
        entry.update(cat_lat=np.pi / 2 - abs(latitude_rad - dec_rad))
    whole._set_app_coords_helper()
    ra_rad, dec_rad = np.radians([converted.pointing_ra_deg, converted.pointing_dec_deg])
    whole.phase(lon=ra_rad, lat=dec_rad, epoch="J2000", phase_frame="icrs", cat_name="mid", use_ant_pos=True)
    whole.conjugate_bls("ant1<ant2")
    whole.reorder_freqs(channel_order="freq", run_check=False)
    path = tmp_path_factory.mktemp("oracle") / "pyuvdata.ms"
    whole.write_ms(str(path), run_check=False, force_phase=False)
    return str(path)


def _sorted_rows(path: str) -> dict[str, np.ndarray]:
    """Return columns in order of time and station numbers."""
    time, one, two, uvw, data = _columns(path, "TIME", "ANTENNA1", "ANTENNA2", "UVW", "DATA")
    names, positions = _columns(f"{path}::ANTENNA", "NAME", "POSITION")
    number = np.array([int(name.removeprefix("DSA-")) for name in names])
    order = np.lexsort((number[two], number[one], time))
    pair = np.stack([number[one], number[two]])[:, order]
    return {
        "time": time[order],
        "pair": pair,
        "uvw": uvw[order],
        "data": data[order],
        "position": positions[one][order],
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_pyuvdata_makes_the_same_measurement_set(converted: ConvertedMS, oracle: str) -> None:
    ours, theirs = _sorted_rows(converted.ms_path), _sorted_rows(oracle)
    assert np.array_equal(ours["pair"], theirs["pair"])
    assert np.array_equal(ours["time"], theirs["time"])
    assert np.abs(ours["position"] - theirs["position"]).max() < 1e-6
    frequencies = [_columns(f"{p}::SPECTRAL_WINDOW", "CHAN_FREQ")[0] for p in (converted.ms_path, oracle)]
    assert np.array_equal(*frequencies)
    # w carries the phase: a micrometre is 2e-3 degrees
    assert np.abs(ours["uvw"] - theirs["uvw"])[:, 2].max() < 1e-6
    # pyuvdata measures the angle between the two norths half a degree south of the phase centre: u and v are turned by
    # up to 1e-5 rad (2 arc seconds), which moves nothing by more than 0.05 arc seconds at the edge of the beam
    u, v = ours["uvw"][:, 0], ours["uvw"][:, 1]
    turned = ours["uvw"][:, 0] + 1j * v, theirs["uvw"][:, 0] + 1j * theirs["uvw"][:, 1]
    assert np.abs(turned[0] - turned[1]).max() < 1e-5 * np.hypot(u, v).max()
    # both go through single precision once
    assert np.abs(ours["data"] - theirs["data"]).max() < 1e-5 * np.abs(theirs["data"]).max()


@pytest.mark.parametrize("east_of_pointing", [False, True])
def test_a_point_source_has_the_phase_that_uvw_and_its_place_give(tmp_path: Path, east_of_pointing: bool) -> None:
    """DATA = S A exp(2 pi i (u l + v m + w (n - 1)) / lambda) in the convention of the Measurement Set."""
    changes = {"n_antennas": 8, "n_times": 3, "missing_subbands": writers.ALL_BUT_FOUR}
    if east_of_pointing:
        changes |= {"calibrator": "3C48", "stamp": "2026-01-25T01:12:30"}  # two minutes before it transits
    simulation = writers.write_ideal_observation(tmp_path, **changes)
    ms = writers.convert_observation(simulation, tmp_path / "a.ms")
    source = json.loads(Path(simulation.truth_path).read_text())["sources"][0]
    ra0, dec0, ra, dec = np.radians([ms.pointing_ra_deg, ms.pointing_dec_deg, source["ra_deg"], source["dec_deg"]])
    l_ = np.cos(dec) * np.sin(ra - ra0)
    m = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0)
    n = np.sqrt(1 - l_**2 - m**2)
    assert (np.degrees(l_) > 0.3) == east_of_pointing
    uvw, data, one, two = _columns(ms.ms_path, "UVW", "DATA", "ANTENNA1", "ANTENNA2")
    (frequency,) = _columns(f"{ms.ms_path}::SPECTRAL_WINDOW", "CHAN_FREQ")
    path_m = uvw @ [l_, m, n - 1]
    model = np.exp(2j * np.pi * path_m[:, None] * frequency / C_M_S)
    off_deg = np.degrees(np.angle(data * np.conj(model)[:, :, None]))[one != two]
    # annual aberration stretches the sky by up to v/c = 1e-4: 0.2 arc seconds over 0.5 degrees. It is in the data and
    # not in the straight l, m; as a phase on the longest baseline of these antennas it is a few degrees at most
    longest = np.linalg.norm(uvw, axis=1).max() * frequency.max() / C_M_S
    assert np.abs(off_deg).max() < 360 * longest * 1e-4 * np.hypot(l_, m)
    spectrum_jy = source["flux_jy"] * (frequency[0] / array.BAND_CENTRE_HZ) ** source["spectral_index"]
    response = beam.power(beam.separation_rad(ra, dec, ra0, dec0), frequency[0])
    # the beam stays on the meridian while the source drifts: up to 13 s of 15 arc seconds
    assert np.abs(data[one != two]).mean(axis=(0, 2)) == pytest.approx(spectrum_jy * response, rel=2e-3)


def test_a_source_at_the_phase_centre_has_no_phase(tmp_path: Path) -> None:
    first = writers.write_ideal_observation(
        tmp_path / "first", n_antennas=6, n_times=1, missing_subbands=writers.ALL_BUT_FOUR
    )
    pointing = json.loads(Path(first.truth_path).read_text())["pointing_dec_apparent_deg"]
    simulation = writers.write_ideal_observation(
        tmp_path / "second",
        n_antennas=6,
        n_times=1,
        missing_subbands=writers.ALL_BUT_FOUR,
        pointing_dec_deg=pointing + 0.2,
    )
    ms = writers.convert_observation(simulation, tmp_path / "a.ms")
    (data,) = _columns(ms.ms_path, "DATA")
    # the stamp is a whole second: the source is up to 7.5 arc seconds from the meridian, w is fixed by l, m < 4e-5
    source = json.loads(Path(simulation.truth_path).read_text())["sources"][0]
    offset_rad = beam.separation_rad(
        *np.radians([ms.pointing_ra_deg, ms.pointing_dec_deg, source["ra_deg"], source["dec_deg"]])
    )
    assert offset_rad < np.radians(8 / 3600)
    limit_rad = 2 * np.pi * offset_rad * 2707 / 0.2
    assert np.abs(np.angle(data)).max() < limit_rad


def test_the_measurement_set_is_complete_and_ascending(converted: ConvertedMS) -> None:
    assert (converted.n_antennas, converted.n_baselines, converted.n_times, converted.n_channels) == (12, 78, 4, 768)
    assert converted.n_visibilities == 78 * 4 * 768 * 2
    assert converted.missing_subbands == ()
    assert (converted.end_mjd - converted.start_mjd) * 86400 == pytest.approx(4 * array.INTEGRATION_S, abs=1e-3)
    assert converted.mid_mjd == pytest.approx((converted.start_mjd + converted.end_mjd) / 2)
    assert converted.files == (converted.ms_path,)
    assert len(converted.inputs) == 16
    (frequency,) = _columns(f"{converted.ms_path}::SPECTRAL_WINDOW", "CHAN_FREQ")
    assert np.allclose(np.diff(frequency[0]), array.CHANNEL_WIDTH_HZ)
    one, two, time, row_flag, data = _columns(converted.ms_path, "ANTENNA1", "ANTENNA2", "TIME", "FLAG_ROW", "DATA")
    assert np.all(one <= two)
    assert data.shape == (78 * 4, 768, 2)
    assert np.all(np.diff(time.reshape(4, 78)[:, 0]) > 0)
    assert np.array_equal(row_flag, one == two)
    assert np.all(one.reshape(4, 78) == one[:78])


def test_the_subtables_say_what_casa_needs_to_know(converted: ConvertedMS) -> None:
    path = converted.ms_path
    with table(f"{path}::OBSERVATION", ack=False) as observation:
        assert observation.getcol("TELESCOPE_NAME") == ["OVRO_MMA"]
        assert observation.getcol("TIME_RANGE")[0] / 86400 == pytest.approx([converted.start_mjd, converted.end_mjd])
    with table(f"{path}::FEED", ack=False) as feed:
        assert feed.nrows() == 12
        assert feed.getcell("POLARIZATION_TYPE", 3) == ["X", "Y"]
    with table(f"{path}::POLARIZATION", ack=False) as polarization:
        assert polarization.getcell("CORR_TYPE", 0).tolist() == [9, 12]
    with table(f"{path}::FIELD", ack=False) as field:
        directions = [np.degrees(field.getcell(f"{kind}_DIR", 0)[0]) for kind in ("PHASE", "REFERENCE", "DELAY")]
    for ra_deg, dec_deg in directions:
        assert ra_deg % 360 == pytest.approx(converted.pointing_ra_deg)
        assert dec_deg == pytest.approx(converted.pointing_dec_deg)
    with table(f"{path}::HISTORY", ack=False) as history:
        assert len(history.getcol("MESSAGE")) == 16
    with table(f"{path}::ANTENNA", ack=False) as antenna:
        assert antenna.getcol("DISH_DIAMETER") == pytest.approx(4.65)
    with table(path, ack=False) as main, table(f"{path}::STATE", ack=False) as state:
        assert main.getcol("STATE_ID").max() < state.nrows()


def test_a_missing_subband_is_a_gap_in_frequency(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(tmp_path, n_antennas=4, n_times=1, missing_subbands=(3, 15))
    ms = writers.convert_observation(simulation, tmp_path / "a.ms")
    assert ms.missing_subbands == (3, 15)
    assert ms.n_channels == 14 * 48
    (frequency,) = _columns(f"{ms.ms_path}::SPECTRAL_WINDOW", "CHAN_FREQ")
    expected = np.concatenate([array.subband_frequencies_hz(k) for k in range(15) if k != 3])[::-1]
    assert np.array_equal(frequency[0], expected)
    assert "03, 15" in ms.notes[0]


def test_the_order_of_the_files_does_not_matter(
    observation: Simulation, converted: ConvertedMS, tmp_path: Path
) -> None:
    path = str(tmp_path / "again.ms")
    again = convert(ConvertOptions(observation.subband_files[::-1], path))
    assert np.array_equal(_columns(again.ms_path, "DATA")[0], _columns(converted.ms_path, "DATA")[0])


def test_integrations_converted_one_by_one_are_the_same_as_all_at_once(
    observation: Simulation, converted: ConvertedMS, tmp_path: Path
) -> None:
    seen: list[str] = []
    options = ConvertOptions(observation.subband_files, str(tmp_path / "slowly.ms"), chunk_bytes=1)
    slowly = convert(options, lambda _, message: seen.append(message))
    assert {m for m in seen if "integrations" in m} == {f"converting integrations {k}-{k} of 4" for k in (1, 2, 3, 4)}
    for ours, theirs in zip(*(_columns(ms.ms_path, "DATA", "FLAG", "UVW") for ms in (slowly, converted)), strict=True):
        assert np.array_equal(ours, theirs)


def test_nan_and_flagged_samples_weigh_nothing_and_are_flagged(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(tmp_path, n_antennas=4, n_times=2)
    writers.put_nan(simulation.subband_files[15], slice(10, 20))  # the whole second integration, lowest 48 channels
    writers.put_flags(simulation.subband_files[14], slice(0, 1))  # the highest channel of subband 14: 48 + 47
    ms = writers.convert_observation(simulation, tmp_path / "a.ms")
    data, flag, weight, one, two = _columns(ms.ms_path, "DATA", "FLAG", "WEIGHT_SPECTRUM", "ANTENNA1", "ANTENNA2")
    expected = np.zeros(flag.shape, dtype=bool)
    expected[10:, :48] = True
    expected[:, 95] = True
    assert np.array_equal(weight == 0, expected)
    assert np.array_equal(flag[one != two], expected[one != two])
    assert np.all(flag[one == two])
    assert np.all(data[expected] == 0)
    assert np.all(np.isfinite(data))
    assert np.all(weight[~expected] == 1)
    assert ms.nan_fraction == pytest.approx(0.5 / 16)
    assert "not a number" in ms.notes[0]


def test_files_without_a_usable_visibility_make_no_measurement_set(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(
        tmp_path, n_antennas=4, n_times=1, missing_subbands=writers.ALL_BUT_FOUR
    )
    for path in simulation.subband_files:
        writers.put_nan(path)
    with pytest.raises(DataQualityError, match="no usable cross-correlation"):
        writers.convert_observation(simulation, tmp_path / "ms" / "a.ms")
    assert list((tmp_path / "ms").iterdir()) == []


def test_one_bad_file_is_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(
        tmp_path, n_antennas=4, n_times=1, missing_subbands=writers.ALL_BUT_FOUR
    )
    bad = writers.truncate(simulation.subband_files[2])
    with pytest.raises(BadInputError, match=bad.name):
        writers.convert_observation(simulation, tmp_path / "ms" / "a.ms")
    assert not (tmp_path / "ms").exists()


def _other_baselines(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["Header/ant_1_array"][...], file["Header/ant_2_array"][...] = (
            file["Header/ant_2_array"][()],
            file["Header/ant_1_array"][()],
        )


def _mixed_rows(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["Header/ant_1_array"][3] = file["Header/ant_1_array"][0]
        file["Header/ant_2_array"][3] = file["Header/ant_2_array"][0]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda p: writers.shift_times(p, 1.0), "its times are 1.000 s off"),
        (lambda p: writers.set_header(p, "extra_keywords/phase_center_dec", 0.5), "declination"),
        (_other_baselines, "its baselines are not those"),
        (_mixed_rows, "not the same baselines at each time"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, damage, reason: str) -> None:
    simulation = writers.write_ideal_observation(tmp_path, n_antennas=4, n_times=2, missing_subbands=tuple(range(8)))
    path = Path(simulation.subband_files[3])
    damage(path)
    with pytest.raises(BadInputError, match=reason) as refusal:
        writers.convert_observation(simulation, tmp_path / "a.ms")
    assert path.name in str(refusal.value)


def test_a_subband_given_twice_is_refused(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(
        tmp_path, n_antennas=4, n_times=1, missing_subbands=writers.ALL_BUT_FOUR
    )
    copy = writers.duplicate(simulation.subband_files[2], "2026-01-25T01:14:59_sb02.hdf5")
    with pytest.raises(BadInputError, match="both hold subband 02"):
        convert(ConvertOptions((*simulation.subband_files, str(copy)), str(tmp_path / "a.ms")))


def test_no_file_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no subband file"):
        convert(ConvertOptions((), str(tmp_path / "a.ms")))


def test_antennas_elsewhere_are_not_this_array(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(
        tmp_path, n_antennas=4, n_times=1, missing_subbands=writers.ALL_BUT_FOUR
    )
    for path in simulation.subband_files:
        with h5py.File(path, "r+") as file:
            file["Header/antenna_positions"][...] *= 1.5
    with pytest.raises(BadInputError, match="not at the stations of this array"):
        writers.convert_observation(simulation, tmp_path / "a.ms")


@pytest.mark.parametrize("base", [0, 1])
def test_stations_are_found_whether_numbered_from_zero_or_one(tmp_path: Path, base: int) -> None:
    simulation = writers.write_ideal_observation(
        tmp_path, n_antennas=5, n_times=1, missing_subbands=writers.ALL_BUT_FOUR
    )
    first = int(json.loads(Path(simulation.truth_path).read_text())["antennas"][0].removeprefix("DSA-")) - 1
    for path in simulation.subband_files:
        with h5py.File(path, "r+") as file:
            for name in ("antenna_numbers", "ant_1_array", "ant_2_array"):
                file["Header"][name][...] += base
            file["Header/antenna_positions"][...] += [100.0, -200.0, 50.0]  # another centre of the array
            file["Header/antenna_positions"][first] += [0.3, 0.0, 0.0]
    ms = writers.convert_observation(simulation, tmp_path / "a.ms")
    names, positions = _columns(f"{ms.ms_path}::ANTENNA", "NAME", "POSITION")
    assert names == json.loads(Path(simulation.truth_path).read_text())["antennas"]
    stations = array.stations()
    assert np.allclose(positions, [stations.positions_m[stations.names.index(name)] for name in names])
    assert "0.30 m off the station list" in ms.notes[0]


def test_baselines_of_doubled_length_are_noted(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(
        tmp_path, n_antennas=4, n_times=1, missing_subbands=writers.ALL_BUT_FOUR
    )
    with h5py.File(simulation.subband_files[3], "r+") as file:
        file["Header/uvw_array"][...] *= 2
    ms = writers.convert_observation(simulation, tmp_path / "a.ms")
    assert "longer or shorter" in ms.notes[0]


def test_an_older_measurement_set_is_replaced(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(
        tmp_path, n_antennas=4, n_times=1, missing_subbands=writers.ALL_BUT_FOUR
    )
    (tmp_path / "ms" / "a.ms").mkdir(parents=True)
    (tmp_path / "ms" / "a.ms" / "rubbish").write_text("half written")
    (tmp_path / "ms" / "a.ms.partial-0123").mkdir()
    ms = writers.convert_observation(simulation, tmp_path / "ms" / "a.ms")
    assert [p.name for p in (tmp_path / "ms").iterdir()] == ["a.ms"]
    assert not (Path(ms.ms_path) / "rubbish").exists()


def test_progress_goes_from_nothing_to_all(observation: Simulation, tmp_path: Path) -> None:
    seen: list[float] = []
    convert(ConvertOptions(observation.subband_files, str(tmp_path / "a.ms")), lambda f, _: seen.append(f))
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert seen == sorted(seen)
