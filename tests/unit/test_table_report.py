"""What a calibration table is worth: absent, dead and flagged told apart, on tables that casacore wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.pipeline import array
from dsa110_contimg.pipeline.caltable import BANDPASS, GAIN, CalibrationTable, write_table
from dsa110_contimg.pipeline.quality import dynamic_range_word, flagged_word
from dsa110_contimg.pipeline.visibilities import Layout, read_layout
from fixtures.measurement_sets import ABSENT, DEAD, copy_ms

KINDS = [BANDPASS, GAIN]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    path = tmp_path_factory.mktemp("ms") / "x.ms"
    copy_ms(path)
    return read_layout(str(path))


def write(path: Path, layout: Layout, kind: str, flagged: dict[int, float]) -> Path:
    """Write a table whose solutions are 2 with an SNR of 50, flagged for the antennas by these fractions."""
    problems = len(layout.frequencies_hz) if kind == BANDPASS else layout.n_times
    shape = (layout.n_antennas, problems, 2)
    flags = np.zeros(shape, np.bool_)
    for antenna, fraction in flagged.items():
        flags[antenna, : round(fraction * problems)] = True
    times = layout.times_mjd[:1] if kind == BANDPASS else layout.times_mjd
    table = CalibrationTable(
        kind, np.full(shape, 2, np.complex64), flags, np.full(shape, 0.01, np.float32), np.full(shape, 50, np.float32),
        times, np.full(len(times), layout.interval_s),
        layout.frequencies_hz if kind == BANDPASS else np.array([layout.mid_frequency_hz]), layout.antenna_names, "[]",
    )  # fmt: skip
    write_table(str(path), table, layout, "test")
    return path


def report(path: Path, ms: str | None = None) -> "subprocess.CompletedProcess[str]":
    fds = [os.open(one, os.O_RDONLY | os.O_DIRECTORY) for one in (str(path), ms) if one is not None]
    words = [f"--fd={fds[0]}", *(f"--ms-fd={fd}" for fd in fds[1:])]
    try:
        return subprocess.run(
            [sys.executable, "-m", "dsa110_contimg.pipeline.table_report", *words],
            pass_fds=fds, capture_output=True, text=True,
        )  # fmt: skip
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_ms", [True, False])
def test_absent_antennas_are_flagged_before_any_fault_and_count_for_nothing(
    layout: Layout, tmp_path: Path, kind: str, with_ms: bool
) -> None:
    path = write(tmp_path / "x.tab", layout, kind, dict.fromkeys(ABSENT, 1.0))
    told = json.loads(report(path, layout.path if with_ms else None).stdout)
    assert told["kind"] == kind
    assert told["flag_fraction_table"] == pytest.approx(21 / 117)  # 17.9 %
    assert told["flag_fraction"] == 0.0
    assert flagged_word(told["flag_fraction"]) == "excellent"
    assert told["absent"] == [array.stations().names[number] for number in ABSENT]
    assert told["dead"] == []
    assert (told["avg_snr"], told["amp_mean"], told["amp_std"]) == (50.0, 2.0, 0.0)


@pytest.mark.parametrize("with_ms", [True, False])
def test_dead_antennas_are_there_without_a_solution(layout: Layout, tmp_path: Path, with_ms: bool) -> None:
    path = write(tmp_path / "x.b", layout, BANDPASS, {**dict.fromkeys(ABSENT, 1.0), DEAD: 1.0, 40: 0.5})
    told = json.loads(report(path, layout.path if with_ms else None).stdout)
    assert told["dead"] == [array.stations().names[DEAD]]
    assert len(told["absent"]) == 21
    assert told["flag_fraction"] == pytest.approx(1.5 / 96)


def test_a_measurement_set_is_no_table_of_gains(layout: Layout) -> None:
    answer = report(Path(layout.path))
    assert answer.returncode == 2
    assert "CPARAM" in answer.stderr


def test_a_directory_without_a_table_is_refused(tmp_path: Path) -> None:
    assert report(tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("fraction", "word"),
    [(0.0, "excellent"), (0.0999, "excellent"), (0.1, "good"), (0.3, "marginal"), (0.5, "poor"), (1.0, "poor"),
     (None, "unknown"), (float("nan"), "unknown")],
)  # fmt: skip
def test_flagged_fractions_have_words(fraction: float | None, word: str) -> None:
    assert flagged_word(fraction) == word


@pytest.mark.parametrize(
    ("value", "word"),
    [(1001.0, "excellent"), (1000.0, "good"), (100.0, "marginal"), (10.0, "poor"), (0.0, "poor"), (None, "unknown")],
)
def test_dynamic_ranges_have_words(value: float | None, word: str) -> None:
    assert dynamic_range_word(value) == word
