"""Flagging of a simulated observation, and of Measurement Sets that are wrong."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from casacore.tables import table

from dsa110_contimg.pipeline import flagging, rfi
from dsa110_contimg.pipeline.errors import BadInputError, DataQualityError
from dsa110_contimg.pipeline.flagging import FlaggedMS, FlagOptions, extend, flag
from dsa110_contimg.pipeline.simulation import Simulation
from dsa110_contimg.pipeline.visibilities import Layout, read_layout
from fixtures import writers


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """An observation with interference on 4 % of the samples and one dead antenna."""
    return writers.write_observation(tmp_path_factory.mktemp("raw"), n_antennas=14, n_times=12)


@pytest.fixture(scope="module")
def ms_path(simulation: Simulation, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its Measurement Set."""
    return writers.convert_observation(simulation, tmp_path_factory.mktemp("ms") / "observation.ms").ms_path


@pytest.fixture(scope="module")
def flagged(ms_path: str) -> FlaggedMS:
    """What flagging says about it."""
    return flag(FlagOptions(ms_path))


def _flags(layout: Layout) -> np.ndarray:
    with table(layout.path, ack=False) as rows:
        flags = rows.getcol("FLAG")
    return flags.reshape(layout.n_times, layout.n_baselines, *flags.shape[1:])


def _truth(simulation: Simulation) -> tuple[np.ndarray, list[str]]:
    truth = json.loads(Path(simulation.truth_path).read_text())
    return np.array(truth["rfi_jy"]) > 0, truth["dead_antennas"]


def _live(layout: Layout, dead: list[str]) -> np.ndarray:
    numbers = [layout.antenna_names.index(name) for name in dead]
    return layout.crosses & ~np.isin(layout.antenna1, numbers) & ~np.isin(layout.antenna2, numbers)


def test_the_dead_antenna_is_found_and_flagged_on_all_its_baselines(simulation: Simulation, flagged: FlaggedMS) -> None:
    _, dead = _truth(simulation)
    layout = read_layout(flagged.ms_path)
    assert flagged.dead_antennas == tuple(dead)
    assert _flags(layout)[:, ~_live(layout, dead)].all()


def test_interference_is_found_and_little_else_is_flagged(simulation: Simulation, flagged: FlaggedMS) -> None:
    interference, dead = _truth(simulation)
    layout = read_layout(flagged.ms_path)
    flags = np.moveaxis(_flags(layout)[:, _live(layout, dead)].any(axis=-1), 1, 0)
    # on the full default simulation 96 % and 3.3 %; fewer antennas leave the same odds per baseline
    assert flags[:, interference].mean() > 0.9
    assert flags[:, ~interference].mean() < 0.06


def test_fractions_separate_dead_antennas_from_interference(simulation: Simulation, flagged: FlaggedMS) -> None:
    _, dead = _truth(simulation)
    layout = read_layout(flagged.ms_path)
    flags = _flags(layout)
    live = _live(layout, dead)
    assert flagged.flagged_fraction_live == pytest.approx(flags[:, live].mean(), abs=1e-12)
    assert flagged.flagged_fraction == pytest.approx(flags[:, layout.crosses].mean(), abs=1e-12)
    assert flagged.by_step["dead_antennas"] == pytest.approx(13 / 91)  # one of 14 antennas, 91 baselines
    assert sum(flagged.by_step.values()) == pytest.approx(flagged.flagged_fraction, abs=1e-12)


def test_rows_that_are_flagged_throughout_are_marked(flagged: FlaggedMS) -> None:
    layout = read_layout(flagged.ms_path)
    with table(flagged.ms_path, ack=False) as rows:
        row_flags = rows.getcol("FLAG_ROW").reshape(layout.n_times, -1)
    np.testing.assert_array_equal(row_flags, _flags(layout).all(axis=(2, 3)))
    assert row_flags[:, ~layout.crosses].all()


def test_flagging_again_gives_the_same_flags(flagged: FlaggedMS) -> None:
    layout = read_layout(flagged.ms_path)
    before = _flags(layout)
    with table(flagged.ms_path, readonly=False, ack=False) as rows:
        rows.putcol("FLAG", np.ones((rows.nrows(), *before.shape[2:]), np.bool_))
    assert flag(FlagOptions(flagged.ms_path)) == flagged
    np.testing.assert_array_equal(_flags(layout), before)


def test_two_processes_find_what_one_finds(flagged: FlaggedMS) -> None:
    layout = read_layout(flagged.ms_path)
    alone = rfi.flag_baselines(layout, layout.crosses, lambda done: None, n_processes=1)
    reports: list[float] = []
    shared = rfi.flag_baselines(layout, layout.crosses, reports.append, n_processes=2)
    np.testing.assert_array_equal(shared, alone)
    assert reports == [0.5, 1.0]  # 105 baselines are two turns of 64


def test_what_the_correlator_flagged_stays_flagged_and_is_no_interference(tmp_path: Path) -> None:
    simulation = writers.write_ideal_observation(tmp_path / "raw", noise=True)
    writers.put_flags(simulation.subband_files[3], slice(10, 20))
    converted = writers.convert_observation(simulation, tmp_path / "observation.ms")
    result = flag(FlagOptions(converted.ms_path))
    assert result.by_step["without_weight"] == pytest.approx(10 / 768)
    assert result.dead_antennas == ()
    assert result.by_step["interference"] < 0.05
    first = 768 - 4 * 48  # subband 3, whose file counts its channels downwards
    assert _flags(read_layout(converted.ms_path))[:, :, first + 28 : first + 38].all()


def test_without_aoflagger_only_weights_and_dead_antennas_count(ms_path: str, tmp_path: Path) -> None:
    copy = copytree(ms_path, tmp_path / "copy.ms")
    result = flag(FlagOptions(str(copy), aoflagger=False))
    assert result.flagged_fraction_live == 0.0
    assert len(result.dead_antennas) == 1


def test_most_of_a_channel_or_integration_takes_the_rest_with_it() -> None:
    flags = np.zeros((10, 2, 20), np.bool_)
    flags[:7, 0, 3] = True
    flags[4, 1, :13] = True
    flags[:5, 1, 19] = True
    extended = extend(flags)
    assert extended[:, 0, 3].all()
    assert extended[4, 1].all()
    assert extended.sum() == 10 + 20 + 4  # the last is the half channel, of which one sample is in the integration


def test_a_measurement_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"missing\.ms does not exist"):
        flag(FlagOptions(str(tmp_path / "missing.ms")))


def test_a_directory_that_is_no_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "half.ms").mkdir()
    with pytest.raises(BadInputError, match=r"half\.ms is not a complete table: remove it and make it again"):
        flag(FlagOptions(str(tmp_path / "half.ms")))


def test_a_measurement_set_without_weights_is_refused_by_column(ms_path: str, tmp_path: Path) -> None:
    copy = str(copytree(ms_path, tmp_path / "copy.ms"))
    with table(copy, readonly=False, ack=False) as rows:
        rows.removecols("WEIGHT_SPECTRUM")
    with pytest.raises(BadInputError, match="no column WEIGHT_SPECTRUM"):
        flag(FlagOptions(copy))


def test_rows_that_are_no_whole_integrations_are_refused(ms_path: str, tmp_path: Path) -> None:
    copy = str(copytree(ms_path, tmp_path / "copy.ms"))
    with table(copy, readonly=False, ack=False) as rows:
        rows.addrows(3)
    with pytest.raises(BadInputError, match="1263 rows are not 13 whole integrations"):
        flag(FlagOptions(copy))


def test_an_observation_without_a_live_antenna_is_refused(ms_path: str, tmp_path: Path) -> None:
    copy = str(copytree(ms_path, tmp_path / "copy.ms"))
    with table(copy, readonly=False, ack=False) as rows:
        rows.putcol("WEIGHT_SPECTRUM", np.zeros_like(rows.getcol("WEIGHT_SPECTRUM")))
    with pytest.raises(DataQualityError, match="only 0 of 14 antennas carry a signal, 5 are needed"):
        flag(FlagOptions(copy))


def test_progress_runs_from_nothing_to_all(ms_path: str, tmp_path: Path) -> None:
    copy = str(copytree(ms_path, tmp_path / "copy.ms"))
    reports: list[tuple[float, str]] = []
    flag(FlagOptions(copy), lambda fraction, message: reports.append((fraction, message)))
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_stations_without_rows_are_absent_and_not_dead(flagged: FlaggedMS) -> None:
    layout = read_layout(flagged.ms_path)
    longer = replace(layout, antenna_names=(*layout.antenna_names, "DSA-117"))
    dead = np.zeros(15, np.bool_)
    dead[[2, 14]] = True
    wanted = _live(layout, [layout.antenna_names[2]])
    result = flagging._summary(longer, dead, wanted, dict.fromkeys(flagging.STEPS, 0))
    assert result.absent_antennas == ("DSA-117",)
    assert result.dead_antennas == (layout.antenna_names[2],)
