"""The products databases of this benchmark, as they would be if all had been recorded, in less time.

SQLite and PostgreSQL get the same rows. While the measurements come in, which are nearly all of them, nothing counts
or adds them up one by one: what triggers and recording would have kept is written beside them.
"""

import asyncio
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import asyncpg
import numpy as np
from benchmarks.api.world import ERROR_JY, World

from dsa110_contimg.api.config import DatabaseConfig
from dsa110_contimg.api.db_adapters.backend import DatabaseBackend
from dsa110_contimg.api.migrations.migrator import Migrator

Rows = Iterator[tuple[Any, ...]]
_SUMS = (
    "detection_count", "first_detected_mjd", "last_detected_mjd", "latest_image_id", "flux_count", "peak_flux_jy",
    "min_flux_jy", "max_flux_jy", "mean_flux_jy", "deviation_sum", "weight_sum", "weighted_mean_jy", "chi_squared",
    "eta", "v",
)  # fmt: skip
#: It has its entries in another order than the rows, and is made in one go behind them.
_DROP = "DROP INDEX ix_photometry_image_path"
_CREATE = "CREATE INDEX ix_photometry_image_path ON photometry (image_path)"
#: What the triggers of measurements would have kept of those of this benchmark, all of one kind.
_KEEP = (
    "INSERT INTO table_counts (name, bucket, n) SELECT 'photometry', '', count(*) FROM photometry",
    "UPDATE table_generations SET value = value + 1 WHERE name = 'photometry'",
    "INSERT INTO event_counts (name, label, second_label, n, total) "
    "SELECT 'photometry_records', 'known', '', count(*), 0.0 FROM photometry",
    "INSERT INTO event_counts (name, label, second_label, n, total) "
    "SELECT 'sources_detected', 'point', '', count(*), 0.0 FROM photometry",
)


def write(config: DatabaseConfig, world: World) -> None:
    """Make the database and fill it."""
    Migrator(config).upgrade()
    if config.backend == DatabaseBackend.SQLITE:
        _fill_sqlite(config, world)
    else:
        asyncio.run(_fill_postgresql(config, world))


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
        ("id", "name", "ra_deg", "dec_deg", *_SUMS),
        (
            (name, name, ra_deg, dec_deg, *_sums(world, first, fluxes))
            for (name, ra_deg, dec_deg), (_, first, fluxes) in zip(positions, world.fluxes(), strict=True)
        ),
    )
    yield (
        "photometry",
        ("source_id", "ra_deg", "dec_deg", "image_id", "image_path", "mjd", "measured_at", "flux_jy", "peak_jyb",
         "snr", "flux_err_jy", "peak_err_jyb"),
        _measurements(world, positions),
    )  # fmt: skip


def _sums(world: World, first: int, fluxes: list[float]) -> tuple[Any, ...]:
    """Return what the measurements of one source add up to, in the order of ``_SUMS``."""
    n = len(fluxes)
    if not n:
        return (0, None, None, None, 0, *[None] * 10)
    flux_jy = np.array(fluxes)
    mean, last = float(flux_jy.mean()), first + n - 1
    deviations, weight = float(((flux_jy - mean) ** 2).sum()), ERROR_JY**-2
    least, most = min(fluxes), max(fluxes)
    eta, v = (deviations * weight / (n - 1), math.sqrt(deviations / (n - 1)) / abs(mean)) if n > 1 else (None, None)
    return (
        n, world.mjd(first), world.mjd(last), last + 1, n, most, least, most, mean, deviations, n * weight, mean,
        deviations * weight, eta, v,
    )  # fmt: skip


def _measurements(world: World, positions: list[tuple[str, float, float]]) -> Rows:
    images = [(i + 1, world.image_path(i), world.mjd(i), world.unix_s(i)) for i in range(world.images)]
    for source, first, fluxes in world.fluxes():
        for image, flux_jy in zip(images[first : first + len(fluxes)], fluxes, strict=True):
            yield (*positions[source], *image, flux_jy, flux_jy, flux_jy / ERROR_JY, ERROR_JY, ERROR_JY)


def _fill_sqlite(config: DatabaseConfig, world: World) -> None:
    with closing(sqlite3.connect(config.products_path)) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-262144"):
            connection.execute(f"PRAGMA {pragma}")
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'photometry'"
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(_DROP)
        for table, columns, rows in contents(world):
            signs = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({signs})", rows)
            connection.commit()
        for statement in (_CREATE, *_KEEP, *(sql for _, sql in triggers)):
            connection.execute(statement)
        connection.commit()
        connection.execute("PRAGMA journal_mode=WAL")


async def _fill_postgresql(config: DatabaseConfig, world: World) -> None:
    connection = await asyncpg.connect(config.postgresql_url)
    try:
        await connection.execute(_DROP)
        for table, columns, rows in contents(world):
            role = "replica" if table == "photometry" else "origin"  # a replica fires no triggers
            await connection.execute(f"SET session_replication_role = {role}")
            await connection.copy_records_to_table(table, records=rows, columns=columns)
        for statement in (_CREATE, *_KEEP, "VACUUM ANALYZE"):
            await connection.execute(statement)
    finally:
        await connection.close()
