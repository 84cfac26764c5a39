"""Subband files are read with suspicion and chained into observations."""

import csv
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.pipeline import array, uvh5
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.naming import subband_name
from dsa110_contimg.pipeline.simulation import Simulation
from fixtures import writers

START = datetime(2026, 2, 11, 3, 0, 0, tzinfo=UTC)


@pytest.fixture
def observation(tmp_path: Path) -> Simulation:
    """A fresh observation of four subbands that a test may damage."""
    return writers.write_ideal_observation(tmp_path, n_antennas=4, n_times=2, missing_subbands=writers.ALL_BUT_FOUR)


POINTING = "Header/extra_keywords/phase_center_dec"


def _named(seconds: float, subband: int) -> str:
    return subband_name((START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S"), subband)


def test_a_header_says_what_the_telescope_wrote(observation: Simulation) -> None:
    header = uvh5.read_header(observation.subband_files[1])
    assert header.subband == 1
    assert header.frequencies_hz == tuple(array.subband_frequencies_hz(1))
    assert len(header.jd_utc) == 2
    assert (header.jd_utc[1] - header.jd_utc[0]) * 86400 == pytest.approx(
        array.INTEGRATION_S, abs=1e-4
    )  # 40 us: a JD's last bit
    assert (header.n_antennas, header.n_baselines) == (4, 10)
    assert header.size_bytes == Path(header.path).stat().st_size


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda p: writers.truncate(p), "truncated"),
        (lambda p: writers.truncate(p, 0), "empty"),
        (lambda p: p.write_text("hello, world" * 100), "not an HDF5 file"),
        (lambda p: p.unlink(), "no such file"),
        (lambda p: writers.set_header(p, "telescope_name", b"HERA"), "telescope is 'HERA'"),
        (lambda p: writers.set_header(p, "Ntimes", 3), "shape"),
        (lambda p: writers.set_header(p, "polarization_array", np.array([-5, -7])), "polarisations"),
        (lambda p: writers.claim_size(p, "Header/freq_array", (1 << 40,)), "freq_array has 1099511627776 values"),
        (lambda p: writers.claim_size(p, "Header/antenna_positions", (1 << 30, 3)), "antenna_positions has"),
        (lambda p: writers.claim_size(p, "Data/visdata", (20, 1, 48, 2)), "visdata float32.*not complex"),
        (lambda p: writers.set_header(p, "freq_array", np.linspace(1.5e9, 1.4e9, 48)[None]), "channels of"),
        (lambda p: writers.set_header(p, "freq_array", 7e8 - 244140.625 * np.arange(48)[None]), "starts no subband"),
        (lambda p: writers.shift_times(p, np.nan), "times are not ascending"),
        (lambda p: writers.shift_times(p, -86400 * 2400000.0), "times are not ascending"),
        (lambda p: writers.set_header(p, "extra_keywords/phase_center_dec", 4.0), "phase centre"),
        (lambda p: writers.set_header(p, "extra_keywords/ha_phase_center", 0.1), "meridian"),
        (lambda p: writers.link_outside(p, "/etc/passwd"), "links are not followed"),
        (lambda p: writers.store_outside(p, "/etc/passwd"), "lies in another file"),
        (lambda p: writers.put(p, POINTING, h5py.ExternalLink("/etc/passwd", "/x")), "links are not followed"),
        (lambda p: writers.put_raw(p, POINTING, p), "phase_center_dec lies in another file"),
        (lambda p: writers.put(p, "Header", h5py.SoftLink("/Header")), "links are not followed"),
        (lambda p: writers.put(p, "Header/uvw_array", h5py.SoftLink("/Header/uvw_array")), "links are not followed"),
        (lambda p: writers.put(p, "Header/extra_keywords", np.zeros(3)), "no group Header/extra_keywords"),
        (lambda p: writers.put(p, "Header/time_array", None), "time_array holds no values"),
        (lambda p: writers.put(p, "Header/time_array", h5py.Empty("f8")), "time_array has None values"),
        (lambda p: writers.put(p, "Header/Ntimes", "many"), "cannot be read as UVH5"),
        (lambda p: writers.put(p, "Header/Ntimes", np.uint64(2**64 - 1)), "18446744073709551615 times"),
        (lambda p: writers.put(p, "Header/Nbls", np.nan), "cannot be read as UVH5"),
        (lambda p: writers.put(p, "Header/Ntimes", np.zeros(5)), "cannot be read as UVH5"),
        (lambda p: writers.claim_size(p, "Header/Nbls", (1 << 40,)), "Nbls has 1099511627776 values"),
        (lambda p: writers.claim_size(p, "Header/telescope_name", (1 << 40,)), "telescope_name has"),
        (lambda p: writers.claim_size(p, POINTING, (1 << 40,)), "phase_center_dec has"),
        (lambda p: writers.truncate(p, 50), "truncated"),
        (lambda p: writers.overwrite(p, 40, b"\xff" * 8), "truncated"),
        (lambda p: writers.overwrite(p, 64, bytes(8)), "cannot be read as UVH5"),
        (lambda p: writers.overwrite(p, 96, bytes(2000)), "cannot be read as UVH5"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name_with_the_reason(observation, damage, reason) -> None:
    path = Path(observation.subband_files[3])
    damage(path)
    with pytest.raises(BadInputError, match=reason) as refusal:
        uvh5.read_header(path)
    assert str(path) in str(refusal.value)


def test_an_hdf5_file_of_another_kind_is_not_uvh5(tmp_path: Path) -> None:
    path = tmp_path / "2026-02-11T03:00:00_sb00.hdf5"
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros(3)
    with pytest.raises(BadInputError, match="not UVH5"):
        uvh5.read_header(path)


def test_a_virtual_dataset_is_refused(observation: Simulation) -> None:
    path = Path(observation.subband_files[0])
    with h5py.File(path, "r+") as file:
        shape = file["Data/visdata"].shape
        layout = h5py.VirtualLayout(shape, np.complex64)
        layout[:] = h5py.VirtualSource(observation.subband_files[1], "Data/visdata", shape)
        del file["Data/visdata"]
        file["Data"].create_virtual_dataset("visdata", layout)
    with pytest.raises(BadInputError, match="lies in another file"):
        uvh5.read_header(path)


def test_a_header_that_holds_itself_is_read_all_the_same(observation: Simulation) -> None:
    with h5py.File(observation.subband_files[0], "r+") as file:
        file["Header/extra_keywords/again"] = file["Header"]
    assert uvh5.read_header(observation.subband_files[0]).subband == 0


def test_files_are_chained_across_gaps_up_to_a_minute() -> None:
    files = [_named(k * 13.0, k) for k in range(7)] + [_named(309.0 + k % 2, k) for k in range(16)]
    groups = uvh5.group(reversed(files))
    assert [len(g.files) for g in groups] == [7, 16]
    assert groups[0].stamp == "2026-02-11T03:00:00"
    assert groups[0].missing == tuple(range(7, 16))
    assert groups[1].complete


@pytest.mark.parametrize(("gap_s", "count"), [(60, 1), (61, 2)])
def test_a_group_ends_where_the_gap_exceeds_sixty_seconds(gap_s: int, count: int) -> None:
    assert len(uvh5.group([_named(0, 0), _named(gap_s, 1)])) == count


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 15)), max_size=60))
def test_every_file_has_one_place_and_groups_are_more_than_a_minute_apart(files: list[tuple[int, int]]) -> None:
    names = {_named(seconds, subband) for seconds, subband in files}
    groups = uvh5.group(names)
    placed = [path for g in groups for path in (*g.files.values(), *g.duplicates)]
    assert sorted(placed) == sorted(names)
    spans = [sorted(path[:19] for path in (*g.files.values(), *g.duplicates)) for g in groups]
    for earlier, later in pairwise(spans):
        assert (datetime.fromisoformat(later[0]) - datetime.fromisoformat(earlier[-1])).total_seconds() > 60
    for g, span in zip(groups, spans, strict=True):
        assert g.stamp == span[0]


def test_a_subband_that_is_there_twice_is_listed() -> None:
    (group,) = uvh5.group([_named(0, 4), _named(1, 4), _named(1, 5)])
    assert group.files == {4: _named(0, 4), 5: _named(1, 5)}
    assert group.duplicates == (_named(1, 4),)


def test_names_that_are_no_subband_files_are_passed_over() -> None:
    assert uvh5.group(["readme.txt", "2026-02-11T03:00:00_sb16.hdf5", "2026-02-30T03:00:00_sb01.hdf5"]) == []


def test_the_real_inventory_makes_2231_groups_of_which_2208_are_complete(shared_data: Path) -> None:
    """The inventory counts files by exact stamp; each stamp therefore occurs as often as it has subbands."""
    with (shared_data / "real_uvh5_inventory.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if "2026-02-11" <= r["date"] <= "2026-02-27"]
    stamps = [
        datetime.fromisoformat(r["timestamp"]).replace(tzinfo=UTC)
        for r in rows
        for _ in range(int(r["n_subbands_found"]))
    ]
    assert len(stamps) == 35_435
    chains = uvh5.chain(stamps)
    assert len(chains) == 2231
    assert sum(len(c) == 16 for c in chains) == 2208
    assert max(len(c) for c in chains) == 16
    assert sum(int(r["n_subbands_found"]) == 16 for r in rows) == 31  # what grouping by exact name would find


def test_a_scan_reports_each_bad_file_and_keeps_the_rest(tmp_path: Path) -> None:
    observation = writers.write_ideal_observation(tmp_path, n_antennas=4, n_times=2)
    files = [Path(p) for p in observation.subband_files]
    writers.truncate(files[2])
    writers.shift_times(files[7], 309.24)
    files[9].rename(files[9].with_name("notes.hdf5"))
    twice = writers.duplicate(files[11], subband_name("2026-01-25T01:14:40", 11))
    wrong = writers.duplicate(files[12], subband_name(observation.stamp, 9))
    found = uvh5.scan(tmp_path)
    (group,) = found.groups
    assert group.stamp == observation.stamp
    assert group.missing == (2, 7, 9)
    reasons = {Path(path).name: reason for path, reason in found.rejected}
    assert set(reasons) == {files[2].name, files[7].name, "notes.hdf5", wrong.name, twice.name}
    assert "truncated" in reasons[files[2].name]
    assert "starts +309.24" in reasons[files[7].name]
    assert "name" in reasons["notes.hdf5"]
    assert "subband 12" in reasons[wrong.name]


def test_a_copy_under_a_stamp_hours_away_is_no_observation_of_its_own(tmp_path: Path) -> None:
    few = writers.ALL_BUT_FOUR
    observation = writers.write_ideal_observation(tmp_path, n_antennas=4, n_times=1, missing_subbands=few)
    original = Path(observation.subband_files[0])
    copy = writers.duplicate(original, subband_name("2026-01-25T09:00:00", 0))
    found = uvh5.scan(tmp_path)
    assert [g.stamp for g in found.groups] == [observation.stamp]
    [(path, reason)] = found.rejected
    assert path == str(copy)
    assert f"same subband and times as {original.name}" in reason


def test_two_observations_are_told_apart(tmp_path: Path) -> None:
    few = writers.ALL_BUT_FOUR
    for stamp in ("2026-01-25T01:12:15", "2026-01-25T01:17:24"):
        writers.write_ideal_observation(tmp_path, n_antennas=4, n_times=1, stamp=stamp, missing_subbands=few)
    found = uvh5.scan(tmp_path)
    assert [(g.stamp, g.missing) for g in found.groups] == [
        ("2026-01-25T01:12:15", few),
        ("2026-01-25T01:17:24", few),
    ]
    assert found.rejected == ()


@pytest.mark.parametrize("name", ["", "absent"])
def test_a_directory_without_subband_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(BadInputError, match="directory of"):
        uvh5.scan(tmp_path / name)
