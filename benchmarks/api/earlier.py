"""The database of the plain implementation: the tables of the earlier pipeline, as a fresh installation made them."""

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.api.world import World

_SCHEMA = """
PRAGMA journal_mode=WAL;
CREATE TABLE ms_index (path TEXT PRIMARY KEY, mid_mjd REAL, processed_at REAL, status TEXT, stage TEXT, ra_deg REAL,
    dec_deg REAL);
CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, ms_path TEXT NOT NULL, created_at REAL NOT NULL,
    type TEXT NOT NULL, noise_jy REAL, dynamic_range REAL, center_ra_deg REAL, center_dec_deg REAL);
CREATE TABLE photometry (id INTEGER PRIMARY KEY, source_id TEXT NOT NULL, image_path TEXT NOT NULL, ra_deg REAL,
    dec_deg REAL, flux_jy REAL, flux_err_jy REAL, peak_jyb REAL, snr REAL, mjd REAL, measured_at REAL);
"""
_INDEXES = """
CREATE INDEX by_source_time ON photometry (source_id, mjd);
CREATE INDEX by_source ON photometry (source_id);
CREATE INDEX by_image ON photometry (image_path);
CREATE INDEX of_ms ON images (ms_path);
"""


def write(path: Path, world: World) -> None:
    """Write the database file."""
    positions = world.positions()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_SCHEMA)
        numbers = range(world.images)
        connection.executemany(
            "INSERT INTO ms_index VALUES (?, ?, ?, 'done', 'imaged', 180.0, 16.0)",
            ((world.ms_path(i), world.mjd(i), world.unix_s(i)) for i in numbers),
        )
        connection.executemany(
            "INSERT INTO images (path, ms_path, created_at, type, noise_jy, dynamic_range, center_ra_deg, "
            "center_dec_deg) VALUES (?, ?, ?, '5min', 0.0005, 900.0, 180.0, 16.0)",
            ((world.image_path(i), world.ms_path(i), world.unix_s(i)) for i in numbers),
        )
        for block in world.fluxes():
            connection.executemany(
                "INSERT INTO photometry (source_id, image_path, ra_deg, dec_deg, flux_jy, flux_err_jy, peak_jyb, snr, "
                "mjd, measured_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (*positions[source][:1], world.image_path(image), *positions[source][1:], flux_jy, error_jy,
                     flux_jy, flux_jy / error_jy, world.mjd(image), world.unix_s(image))
                    for source, image, flux_jy, error_jy in block
                ),
            )  # fmt: skip
        connection.executescript(_INDEXES)
        connection.commit()
