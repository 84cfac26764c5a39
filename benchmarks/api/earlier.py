"""The databases of the earlier backend: tables and indexes in the order in which a fresh installation of it made them.

Columns that it asked for and did not make are added, as they are in files that grew: ``photometry.snr``, without which
it answered no light curve, the pointing of a Measurement Set, and of an image its noise, range and centre.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.api.world import ERROR_JY, World

PRODUCTS = "products.sqlite3"
CALIBRATION = "cal_registry.sqlite3"
_PRODUCTS = """
PRAGMA journal_mode=WAL;
CREATE TABLE ms_index (path TEXT PRIMARY KEY, start_mjd REAL, end_mjd REAL, mid_mjd REAL, processed_at REAL,
    status TEXT, stage TEXT, stage_updated_at REAL, cal_applied INTEGER DEFAULT 0, imagename TEXT, ra_deg REAL,
    dec_deg REAL, pointing_ra_deg REAL, pointing_dec_deg REAL);
CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT NOT NULL, ms_path TEXT NOT NULL, created_at REAL NOT NULL,
    type TEXT NOT NULL, beam_major_arcsec REAL, noise_jy REAL, pbcor INTEGER DEFAULT 0, dynamic_range REAL,
    center_ra_deg REAL, center_dec_deg REAL);
CREATE TABLE photometry (id INTEGER PRIMARY KEY, source_id TEXT, image_path TEXT NOT NULL, ra_deg REAL NOT NULL,
    dec_deg REAL NOT NULL, nvss_flux_mjy REAL, peak_jyb REAL NOT NULL, peak_err_jyb REAL, flux_jy REAL,
    flux_err_jy REAL, normalized_flux_jy REAL, normalized_flux_err_jy REAL, measured_at REAL NOT NULL, mjd REAL,
    mosaic_path TEXT, snr REAL);
CREATE TABLE batch_jobs (id INTEGER PRIMARY KEY, type TEXT NOT NULL, created_at REAL NOT NULL, status TEXT NOT NULL,
    total_items INTEGER NOT NULL, completed_items INTEGER DEFAULT 0, failed_items INTEGER DEFAULT 0, params TEXT);
CREATE INDEX idx_photometry_source_mjd ON photometry (source_id, mjd);
CREATE INDEX idx_images_ms_path ON images (ms_path);
CREATE INDEX idx_photometry_image ON photometry (image_path);
CREATE INDEX idx_photometry_source_id ON photometry (source_id);
CREATE INDEX idx_ms_index_stage_path ON ms_index (stage, path);
CREATE INDEX idx_ms_index_status ON ms_index (status);
"""
_CALIBRATION = """
PRAGMA journal_mode=WAL;
CREATE TABLE caltables (id INTEGER PRIMARY KEY, set_name TEXT NOT NULL, path TEXT NOT NULL UNIQUE,
    table_type TEXT NOT NULL, order_index INTEGER NOT NULL, cal_field TEXT, refant TEXT, created_at REAL NOT NULL,
    valid_start_mjd REAL, valid_end_mjd REAL, status TEXT NOT NULL, notes TEXT, source_ms_path TEXT,
    solver_command TEXT, solver_version TEXT, solver_params TEXT, quality_metrics TEXT);
CREATE INDEX idx_caltables_set ON caltables (set_name);
CREATE INDEX idx_caltables_valid ON caltables (valid_start_mjd, valid_end_mjd);
CREATE INDEX idx_caltables_source ON caltables (source_ms_path);
"""


def write(folder: Path, world: World) -> None:
    """Write both database files into a new folder."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / PRODUCTS)) as connection:
        connection.executescript(_PRODUCTS)
        _fill_products(connection, world)
        connection.commit()
    with closing(sqlite3.connect(folder / CALIBRATION)) as connection:
        connection.executescript(_CALIBRATION)
        connection.executemany(
            "INSERT INTO caltables (set_name, path, table_type, order_index, created_at, status, source_ms_path) "
            "VALUES (?, ?, 'BP', 20, ?, 'active', ?)",
            ((str(i), path, world.unix_s(i), world.ms_path(i)) for path, i in world.cal_tables()),
        )
        connection.commit()


def _fill_products(connection: sqlite3.Connection, world: World) -> None:
    positions = world.positions()
    numbers = range(world.images)
    connection.executemany(
        "INSERT INTO ms_index (path, mid_mjd, processed_at, status, stage, ra_deg, dec_deg) "
        "VALUES (?, ?, ?, 'done', 'imaged', 180.0, 16.0)",
        ((world.ms_path(i), world.mjd(i), world.unix_s(i)) for i in numbers),
    )
    connection.executemany(
        "INSERT INTO images (path, ms_path, created_at, type, noise_jy, dynamic_range, center_ra_deg, center_dec_deg) "
        "VALUES (?, ?, ?, '5min', 0.0005, 900.0, 180.0, 16.0)",
        ((world.image_path(i), world.ms_path(i), world.unix_s(i)) for i in numbers),
    )
    for source, first, fluxes in world.fluxes():
        connection.executemany(
            "INSERT INTO photometry (source_id, image_path, ra_deg, dec_deg, flux_jy, flux_err_jy, peak_jyb, snr, "
            "mjd, measured_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (*positions[source][:1], world.image_path(image), *positions[source][1:], flux_jy, ERROR_JY,
                 flux_jy, flux_jy / ERROR_JY, world.mjd(image), world.unix_s(image))
                for image, flux_jy in enumerate(fluxes, first)
            ),
        )  # fmt: skip
