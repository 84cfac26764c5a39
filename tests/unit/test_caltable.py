"""Calibration tables: what is written is read, and others can read it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table

from dsa110_contimg.pipeline.calibration_model import ModelSource, from_text, to_text
from dsa110_contimg.pipeline.caltable import BANDPASS, GAIN, CalibrationTable, read_table, write_table
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.visibilities import Layout, read_layout
from fixtures import writers

SOURCE = ModelSource("0137+331", 24.42, 33.16, 16.2, -0.8, 1.4e9, "PB2017")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A Measurement Set with the subtables that are carried over."""
    simulation = writers.write_ideal_observation(tmp_path_factory.mktemp("raw"), n_antennas=6, n_times=3)
    return read_layout(
        writers.convert_observation(simulation, tmp_path_factory.mktemp("ms") / "observation.ms").ms_path
    )


def _solutions(layout: Layout, kind: str) -> CalibrationTable:
    rng = np.random.default_rng(1)
    by_time = kind == GAIN
    shape = (layout.n_antennas, layout.n_times if by_time else len(layout.frequencies_hz), 2)
    values = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    return CalibrationTable(
        kind=kind,
        values=values.astype(np.complex64),
        flags=rng.uniform(size=shape) < 0.1,
        errors=rng.uniform(0.01, 0.1, shape).astype(np.float32),
        snr=rng.uniform(5, 50, shape).astype(np.float32),
        times_mjd=layout.times_mjd if by_time else layout.times_mjd[1:2],
        intervals_s=np.full(3 if by_time else 1, layout.interval_s),
        frequencies_hz=np.array([layout.mid_frequency_hz]) if by_time else layout.frequencies_hz,
        antenna_names=layout.antenna_names,
        model=to_text([SOURCE]),
    )


@pytest.mark.parametrize("kind", [BANDPASS, GAIN])
def test_solutions_are_read_as_written_after_the_table_was_renamed(layout: Layout, tmp_path: Path, kind: str) -> None:
    written = _solutions(layout, kind)
    write_table(str(tmp_path / "aside"), written, layout, "test")
    (tmp_path / "aside").rename(tmp_path / "table")
    found = read_table(str(tmp_path / "table"))
    np.testing.assert_array_equal(found.flags, written.flags)
    np.testing.assert_array_equal(found.values[~found.flags], written.values[~written.flags])
    np.testing.assert_array_equal(found.errors[~found.flags], written.errors[~written.flags])
    np.testing.assert_allclose(found.times_mjd, written.times_mjd, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found.frequencies_hz, written.frequencies_hz)
    assert (found.kind, found.antenna_names) == (kind, layout.antenna_names)
    assert from_text(found.model) == (SOURCE,)
    assert np.isnan(found.unflagged()[found.flags]).all()


@pytest.mark.parametrize(("kind", "channels"), [(BANDPASS, 768), (GAIN, 1)])
def test_the_layout_is_that_of_casa(layout: Layout, tmp_path: Path, kind: str, channels: int) -> None:
    path = str(tmp_path / "table")
    write_table(path, _solutions(layout, kind), layout, "test")
    with table(path, ack=False) as rows:
        assert set(rows.colnames()) == {
            "TIME", "FIELD_ID", "SPECTRAL_WINDOW_ID", "ANTENNA1", "ANTENNA2", "INTERVAL", "SCAN_NUMBER",
            "OBSERVATION_ID", "CPARAM", "PARAMERR", "FLAG", "SNR", "WEIGHT",
        }  # fmt: skip
        keywords = rows.getkeywords()
        assert (keywords["ParType"], keywords["VisCal"], keywords["PolBasis"]) == ("Complex", kind, "unknown")
        assert keywords["MSName"] == "observation.ms"
        assert rows.info()["type"] == "Calibration"
        assert rows.info()["subType"] == kind
        assert rows.getcell("CPARAM", 0).shape == (channels, 2)
        assert rows.getcol("ANTENNA1").tolist() == list(range(6)) * (3 if kind == GAIN else 1)
        assert (rows.getcol("ANTENNA2") == -1).all()
        assert rows.getcolkeywords("TIME")["QuantumUnits"] == ["s"]
    for name in ("ANTENNA", "FIELD", "OBSERVATION", "SPECTRAL_WINDOW", "HISTORY"):
        assert keywords[name] == f"Table: {path}/{name}"
        with table(f"{path}/{name}", ack=False) as subtable:
            assert subtable.nrows() >= 1
    with table(f"{path}/SPECTRAL_WINDOW", ack=False) as window:
        assert window.getcell("NUM_CHAN", 0) == channels
        assert len(window.getcell("CHAN_FREQ", 0)) == channels


def test_a_flagged_solution_is_one_without_weight(layout: Layout, tmp_path: Path) -> None:
    written = _solutions(layout, BANDPASS)
    missing = np.where(written.flags, np.complex64(np.nan), written.values)
    write_table(str(tmp_path / "table"), replace(written, values=missing), layout, "test")
    with table(str(tmp_path / "table"), ack=False) as rows:
        flags = rows.getcol("FLAG")
        assert (rows.getcol("CPARAM")[flags] == 1).all()
        assert (rows.getcol("WEIGHT")[flags] == 0).all()
        np.testing.assert_allclose(rows.getcol("WEIGHT")[~flags], rows.getcol("PARAMERR")[~flags] ** -2.0, rtol=1e-5)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nothing\.b does not exist: run the stage that makes it first"):
        read_table(str(tmp_path / "nothing.b"))


def test_a_measurement_set_is_no_calibration_table(layout: Layout) -> None:
    with pytest.raises(BadInputError, match="has no column CPARAM, PARAMERR, SNR: solve the calibration again"):
        read_table(layout.path)


def test_a_table_of_another_kind_is_refused(layout: Layout, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    write_table(path, _solutions(layout, GAIN), layout, "test")
    with table(path, readonly=False, ack=False) as rows:
        rows.putkeyword("VisCal", "K Jones")
    with pytest.raises(BadInputError, match="holds 'K Jones'"):
        read_table(path)


def test_a_table_with_half_its_rows_is_refused(layout: Layout, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    write_table(path, _solutions(layout, GAIN), layout, "test")
    with table(path, readonly=False, ack=False) as rows:
        rows.removerows([0, 1])
    with pytest.raises(BadInputError, match="16 rows for 6 antennas"):
        read_table(path)


def test_an_unreadable_model_is_refused() -> None:
    with pytest.raises(BadInputError, match="unreadable"):
        from_text('[{"name": 1}]')
