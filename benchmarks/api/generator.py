"""The products databases of this benchmark: filled at an early revision, so that the migration itself counts and sums.

SQLite and PostgreSQL get the same rows.
"""

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import asyncpg
from benchmarks.api.world import World

from dsa110_contimg.api.config import DatabaseConfig
from dsa110_contimg.api.db_adapters.backend import DatabaseBackend
from dsa110_contimg.api.migrations.migrator import Migrator

#: The last revision in which these tables are plain: nothing counts while millions of rows come in.
_BEFORE_COUNTS = "0002"
Rows = Iterator[tuple[Any, ...]]


def write(config: DatabaseConfig, world: World) -> None:
    """Make the database and fill it."""
    migrator = Migrator(config)
    migrator.upgrade(_BEFORE_COUNTS)
    if config.backend == DatabaseBackend.SQLITE:
        _fill_sqlite(config, world)
    else:
        asyncio.run(_fill_postgresql(config, world))
    migrator.upgrade()


def contents(world: World) -> Iterable[tuple[str, Sequence[str], Rows]]:
    """Return table, columns and rows, in an order that foreign keys allow."""
    positions = world.positions()
    numbers = range(world.images)
    yield (
        "jobs",
        ("run_id", "group_id", "type", "status", "ms_path", "created_at", "started_at", "finished_at"),
        ((world.run_id(i), str(i), "pipeline", "completed", world.ms_path(i), *[world.unix_s(i)] * 3) for i in numbers),
    )
    yield (
        "ms_index",
        (
            "path",
            "run_id",
            "group_id",
            "start_mjd",
            "end_mjd",
            "mid_mjd",
            "created_at",
            "processed_at",
            "status",
            "stage",
        ),
        (
            (
                world.ms_path(i),
                world.run_id(i),
                str(i),
                *[world.mjd(i)] * 3,
                *[world.unix_s(i)] * 2,
                "done",
                "cataloged",
            )
            for i in numbers
        ),
    )
    yield (
        "images",
        ("path", "ms_path", "run_id", "created_at", "type", "noise_jy", "peak_flux_jy", "dynamic_range",
         "center_ra_deg", "center_dec_deg", "mid_mjd", "qa_grade", "qa_summary"),
        (
            (world.image_path(i), world.ms_path(i), world.run_id(i), world.unix_s(i), "5min", 0.0005, 0.5, 1000.0,
             i % 360 + 0.25, 16.25, world.mjd(i), "good", "noise 1.1 times thermal")
            for i in numbers
        ),
    )  # fmt: skip
    yield (
        "caltables",
        ("set_name", "path", "table_type", "order_index", "created_at", "valid_start_mjd", "valid_end_mjd", "status",
         "source_ms_path"),
        (
            (str(i), path, "BP", 20, world.unix_s(i), world.mjd(i) - 0.2, world.mjd(i) + 0.2, "active",
             world.ms_path(i))
            for path, i in world.cal_tables()
        ),
    )  # fmt: skip
    yield (
        "sources",
        ("id", "name", "ra_deg", "dec_deg"),
        ((name, name, ra_deg, dec_deg) for name, ra_deg, dec_deg in positions),
    )
    yield (
        "photometry",
        ("source_id", "image_path", "ra_deg", "dec_deg", "flux_jy", "flux_err_jy", "peak_jyb", "peak_err_jyb", "snr",
         "mjd", "measured_at"),
        (
            (*positions[source][:1], world.image_path(image), *positions[source][1:], flux_jy, error_jy, flux_jy,
             error_jy, flux_jy / error_jy, world.mjd(image), world.unix_s(image))
            for block in world.fluxes()
            for source, image, flux_jy, error_jy in block
        ),
    )  # fmt: skip


def _fill_sqlite(config: DatabaseConfig, world: World) -> None:
    with closing(sqlite3.connect(config.products_path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        for table, columns, rows in contents(world):
            signs = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({signs})", rows)
            connection.commit()
        connection.execute("ANALYZE")


async def _fill_postgresql(config: DatabaseConfig, world: World) -> None:
    connection = await asyncpg.connect(config.postgresql_url)
    try:
        for table, columns, rows in contents(world):
            await connection.copy_records_to_table(table, records=rows, columns=columns)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
