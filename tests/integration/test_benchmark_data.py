"""The databases of the benchmarks are what they would be if every measurement had been recorded."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from benchmarks.api import generator
from benchmarks.api.world import World

from dsa110_contimg.api.config import APIConfig, DatabaseConfig
from dsa110_contimg.api.flux_sums import Epoch, FluxSums
from dsa110_contimg.api.migrations.migrator import Migrator

WORLD = World(30, 4, 40, crowded=25)
EPOCHS = (
    "SELECT mjd, image_id, flux_jy, flux_err_jy, peak_jyb, peak_err_jyb FROM photometry "
    "WHERE source_id = ? ORDER BY mjd"
)
KEPT = (
    "SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') ORDER BY name",
    "SELECT * FROM table_counts ORDER BY 1, 2",
    "SELECT name FROM table_generations ORDER BY 1",
    "SELECT * FROM event_counts ORDER BY 1, 2, 3",
)


def _database(state: Path) -> DatabaseConfig:
    state.mkdir()
    return APIConfig.from_env({"DSA110_STATE_DIR": str(state)}).database


def _kept(connection: sqlite3.Connection) -> list[list[Any]]:
    return [connection.execute(sql).fetchall() for sql in KEPT]


def test_what_is_written_at_once_is_counted_as_what_is_written_row_by_row(tmp_path: Path) -> None:
    at_once, by_row = _database(tmp_path / "at_once"), _database(tmp_path / "by_row")
    generator.write(at_once, WORLD)
    Migrator(by_row).upgrade()
    with (
        closing(sqlite3.connect(by_row.products_path)) as expected,
        closing(sqlite3.connect(at_once.products_path)) as got,
    ):
        for table, columns, rows in generator.contents(WORLD):
            signs = ", ".join("?" * len(columns))
            expected.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({signs})", rows)
        assert _kept(got) == _kept(expected)
        assert got.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert got.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert got.execute("PRAGMA foreign_key_check").fetchall() == []


def test_sums_of_sources_are_those_of_their_measurements(tmp_path: Path) -> None:
    database = _database(tmp_path / "state")
    generator.write(database, WORLD)
    with closing(sqlite3.connect(database.products_path)) as connection:
        connection.row_factory = sqlite3.Row
        sources = connection.execute("SELECT * FROM sources").fetchall()
        assert [source["detection_count"] for source in sources] == [10, 10, 10, 10, 25]
        for source in sources:
            sums = FluxSums()
            for epoch in connection.execute(EPOCHS, (source["id"],)):
                sums = sums.add(Epoch(*epoch))
            expected = {name: getattr(sums, name) for name in FluxSums.__dataclass_fields__}
            assert {name: source[name] for name in expected} == pytest.approx(expected, rel=1e-9)
