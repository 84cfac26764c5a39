"""Counts and generations: whatever writes a table, they are right in the same moment, on both databases."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from dsa110_contimg.api.async_repositories import (
    AsyncImageRepository,
    AsyncProductRecorder,
    AsyncQARepository,
    AsyncSourceRepository,
    AsyncStatsRepository,
)
from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import DatabaseAdapter, QueryBuilder
from dsa110_contimg.api.interfaces import Recording
from dsa110_contimg.api.migrations.migrator import Migrator
from dsa110_contimg.api.quality_interfaces import ImageQARecord
from fixtures.observation import BRIGHT, FAINT, IMAGE, IMAGE_PATH, JOB, MEASUREMENT_SET, WHOLE, measured

BUCKETS = {
    "ms_index": "stage", "images": "type", "jobs": "status", "caltables": "status", "batch_jobs": "status",
    "batch_job_items": "status", "sources": "''", "photometry": "''", "hdf5_files": "''", "image_qa": "''",
    "calibration_qa": "''", "provenance": "''",
}  # fmt: skip


@pytest.fixture
async def adapter(empty_products: DatabaseConfig) -> AsyncIterator[DatabaseAdapter]:
    async with open_database(empty_products, TimeoutConfig()) as opened:
        yield opened


async def counted(adapter: DatabaseAdapter) -> dict[str, dict[str, int]]:
    """Count all tables the long way."""
    found: dict[str, dict[str, int]] = {}
    for table, bucket in BUCKETS.items():
        rows = await adapter.fetch_all(f"SELECT coalesce({bucket}, ''), count(*) FROM {table} GROUP BY 1")
        if rows:
            found[table] = {row[0]: row[1] for row in rows}
    return found


async def agree(adapter: DatabaseAdapter) -> None:
    """Say that the counts are those that counting gives."""
    assert await AsyncStatsRepository(adapter).get_counts() == await counted(adapter)


def sign(adapter: DatabaseAdapter) -> Callable[[int], str]:
    return QueryBuilder(adapter.backend).placeholder


async def test_every_kind_of_write_keeps_the_counts(adapter: DatabaseAdapter) -> None:
    recorder = AsyncProductRecorder(adapter)
    await recorder.record(WHOLE)
    await agree(adapter)
    await recorder.record(WHOLE)  # the same rows once more
    await agree(adapter)
    await recorder.record(Recording(measurement_set=replace(MEASUREMENT_SET, stage="imaged")))
    await recorder.save_job(replace(JOB, status="completed"))
    await recorder.save_job(replace(JOB, run_id="job-2", status="pending"))
    await agree(adapter)
    await adapter.execute("UPDATE ms_index SET stage = NULL")
    assert (await AsyncStatsRepository(adapter).get_counts())["ms_index"] == {"": 1}
    await adapter.execute("UPDATE jobs SET status = 'failed'")  # two rows of different status at once
    await agree(adapter)
    await adapter.execute("INSERT INTO sources (id, name, ra_deg, dec_deg) VALUES ('a', 'a', 0, 0), ('b', 'b', 0, 0)")
    await agree(adapter)
    await adapter.execute("DELETE FROM images")  # measurements go with their image
    assert (await AsyncStatsRepository(adapter).get_counts()).get("photometry") is None
    await agree(adapter)


async def test_a_random_walk_of_writes_keeps_the_counts(adapter: DatabaseAdapter) -> None:
    recorder, choose, given = AsyncProductRecorder(adapter), random.Random(7), sign(adapter)
    for step in range(60):
        name = f"job-{choose.randrange(6)}"
        match choose.randrange(3):
            case 0:
                await recorder.save_job(replace(JOB, run_id=name, status=choose.choice(["pending", "running"])))
            case 1:
                await adapter.execute(f"DELETE FROM jobs WHERE run_id = {given(1)}", (name,))
            case _:
                status = choose.choice(["completed", "failed"])
                await adapter.execute(f"UPDATE jobs SET status = {given(1)}", (status,))
        assert await AsyncStatsRepository(adapter).get_counts() == await counted(adapter), step


async def test_a_write_changes_the_generation_of_its_table_alone(adapter: DatabaseAdapter) -> None:
    stats = AsyncStatsRepository(adapter)
    recorder = AsyncProductRecorder(adapter)
    await recorder.record(WHOLE)
    changes = [
        ("jobs", "UPDATE jobs SET error = 'x'"),
        ("images", "UPDATE images SET noise_jy = 1"),
        ("sources", "INSERT INTO sources (id, name, ra_deg, dec_deg) VALUES ('a', 'a', 0, 0)"),
        ("caltables", "DELETE FROM caltables"),
    ]
    for table, statement in changes:
        before = await stats.get_generations()
        await adapter.execute(statement)
        after = await stats.get_generations()
        assert {name for name in after if after[name] != before.get(name)} == {table}


async def test_what_is_rolled_back_leaves_counts_and_generations(adapter: DatabaseAdapter) -> None:
    stats = AsyncStatsRepository(adapter)
    await AsyncProductRecorder(adapter).record(WHOLE)
    before = await stats.get_counts(), await stats.get_generations()
    with pytest.raises(ZeroDivisionError):
        async with adapter.transaction() as connection:
            await connection.execute("DELETE FROM images")
            raise ZeroDivisionError
    assert (await stats.get_counts(), await stats.get_generations()) == before


async def test_rows_that_were_there_before_the_counts_are_counted(unmigrated: DatabaseConfig) -> None:
    migrator = Migrator(unmigrated)
    await asyncio.to_thread(migrator.upgrade, "0002")
    async with open_database(unmigrated) as adapter:
        await adapter.execute("INSERT INTO ms_index (path, stage, created_at) VALUES ('/a.ms', 'imaged', 1)")
        await adapter.execute("INSERT INTO ms_index (path, created_at) VALUES ('/b.ms', 1)")
    await asyncio.to_thread(migrator.upgrade)
    async with open_database(unmigrated) as adapter:
        assert (await AsyncStatsRepository(adapter).get_counts())["ms_index"] == {"imaged": 1, "": 1}
        await agree(adapter)


async def test_an_image_that_many_measure_at_once_has_one_row(adapter: DatabaseAdapter) -> None:
    quality = AsyncQARepository(adapter)
    record = ImageQARecord(MEASUREMENT_SET.path, IMAGE_PATH, 1e-3, 1.0, 1e3, 20.0, 10.0, 0.0, 3, "good", 0.0)
    for _ in range(3):
        await asyncio.gather(*(quality.save_image_qa(replace(record, timestamp=float(n))) for n in range(6)))
        assert (await AsyncStatsRepository(adapter).get_counts())["image_qa"] == {"": 1}


async def test_emptying_a_table_empties_its_counts(postgres_database: str) -> None:
    config = DatabaseConfig(backend="postgresql", pg_url=postgres_database)
    await asyncio.to_thread(Migrator(config).upgrade)
    async with open_database(config) as adapter:
        await AsyncProductRecorder(adapter).record(WHOLE)
        before = await AsyncStatsRepository(adapter).get_generations()
        await adapter.execute("TRUNCATE caltables")
        assert (await AsyncStatsRepository(adapter).get_generations())["caltables"] != before["caltables"]
        await agree(adapter)


async def test_writers_that_touch_tables_in_different_orders_do_not_block_each_other_for_good(
    adapter: DatabaseAdapter,
) -> None:
    await AsyncProductRecorder(adapter).record(WHOLE)
    statements = ["UPDATE jobs SET error = 'x'", "UPDATE images SET noise_jy = 1", "UPDATE sources SET name = 'n'"]

    async def write(number: int) -> None:
        async with adapter.transaction() as connection:
            for place in range(3):
                await connection.execute(statements[(number + place) % 3])
                await asyncio.sleep(0.002)

    async with asyncio.timeout(10):
        await asyncio.gather(*(write(number) for number in range(12)))


async def test_totals_of_the_dashboard_are_those_counts(adapter: DatabaseAdapter) -> None:
    recorder = AsyncProductRecorder(adapter)
    await recorder.record(WHOLE)
    mosaic = replace(IMAGE, path="/data/images/mosaic.fits", type="mosaic")
    await recorder.record(Recording(image=mosaic, photometry=(measured(FAINT, 0.1, mosaic),)))
    found = await AsyncStatsRepository(adapter).get_statistics()
    assert (found.images_total, found.photometry_total, found.sources_total, found.ms_total) == (2, 3, 2, 1)
    assert await AsyncImageRepository(adapter).count() == 2
    assert await AsyncSourceRepository(adapter).count() == 2
    assert {BRIGHT.id, FAINT.id} == {source.id for source in await AsyncSourceRepository(adapter).list_all()}
    assert await AsyncImageRepository(adapter).get_by_path(IMAGE_PATH) is not None
    assert found.ms_by_stage == {"converted": 1}
