"""File names and identifiers."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dsa110_contimg.pipeline.naming import Products, parse_subband_name, run_id, subband_name


def test_a_raw_file_name_gives_its_stamp_and_subband() -> None:
    assert parse_subband_name("2025-10-03T11:49:12_sb07.hdf5") == (datetime(2025, 10, 3, 11, 49, 12, tzinfo=UTC), 7)


@pytest.mark.parametrize(
    "name",
    [
        "2025-10-03T11:49:12_sb16.hdf5",  # there are 16 subbands, 0 to 15
        "2025-10-03T11:49:12_sb07.hdf5.partial",
        "2025-13-03T11:49:12_sb07.hdf5",  # no thirteenth month
        "2025-10-03T11:49:12_sb7.hdf5",
        "x2025-10-03T11:49:12_sb07.hdf5",
        "2025-10-03T11:49:12_sb07.hdf5\n",
        "",
    ],
)
def test_another_name_is_no_raw_file(name: str) -> None:
    assert parse_subband_name(name) is None


def test_a_written_name_is_read_back() -> None:
    assert parse_subband_name(subband_name("2026-02-11T00:00:10", 15)) == (
        datetime(2026, 2, 11, 0, 0, 10, tzinfo=UTC),
        15,
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data/ms/2025-11-30T01:02:03.ms", "job-2025-11-30-010203"),
        ("/data/ms/2025-11-30T01:02:03.456.ms", "job-2025-11-30-010203"),
        ("/data/ms/plain.ms", "job-plain"),
        ("obs-TEST.ms", "job-obs--ES"),  # the rule of the existing clients, as it is
    ],
)
def test_a_run_is_called_as_the_existing_clients_call_it(path: str, expected: str) -> None:
    assert run_id(path) == expected


def test_products_of_one_observation_carry_its_stamp_and_differ() -> None:
    products = Products(Path("/p"), "2025-11-30T01:02:03")
    paths = [
        products.measurement_set, products.calibrated_ms, products.bandpass_table, products.gain_table,
        products.image, products.flat_noise_image, products.residual_image, products.catalogue,
    ]  # fmt: skip
    assert len(set(paths)) == len(paths)
    assert all(path.name.startswith("2025-11-30T01:02:03") for path in paths)
