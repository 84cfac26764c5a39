"""What a source's measurements add up to stays right under every kind of recording, on both databases."""

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dsa110_contimg.api import database
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import DatabaseAdapter
from dsa110_contimg.api.flux_sums import Epoch, FluxSums
from dsa110_contimg.api.interfaces import ImageRecord, PhotometryRecord, Recording, SourceRecord
from dsa110_contimg.api.migrations.migrator import Migrator
from dsa110_contimg.api.queries import measurements
from fixtures.observation import BRIGHT, FAINT, IMAGE, MEASUREMENT_SET, MJD, measured

SOURCES = (BRIGHT, FAINT)


@pytest.fixture
async def adapter(empty_products: DatabaseConfig) -> AsyncIterator[DatabaseAdapter]:
    async with open_database(empty_products, TimeoutConfig()) as opened:
        await AsyncProductRecorder(opened).record(Recording(measurement_set=MEASUREMENT_SET, sources=SOURCES))
        yield opened


def image(number: int) -> ImageRecord:
    return replace(IMAGE, path=f"/data/images/{number}.fits", mid_mjd=MJD + number)


def epoch(number: int, *fluxes: float) -> Recording:
    """Return one image with measurements of the first sources."""
    seen = (measured(source, flux, image(number)) for source, flux in zip(SOURCES, fluxes, strict=False))
    return Recording(image=image(number), photometry=tuple(seen))


async def kept(adapter: DatabaseAdapter) -> dict[str, FluxSums]:
    names = [item.name for item in dataclasses.fields(FluxSums)]
    rows = await adapter.fetch_all(f"SELECT id, {', '.join(names)} FROM sources")
    return {row[0]: FluxSums(*list(row)[1:]) for row in rows}


async def expected(adapter: DatabaseAdapter) -> dict[str, FluxSums]:
    """Add up all measurements that are there."""
    sums = {source.id: FluxSums() for source in SOURCES}
    rows = await adapter.fetch_all(
        "SELECT p.source_id, p.mjd, i.id, p.flux_jy, p.flux_err_jy, p.peak_jyb, p.peak_err_jyb "
        "FROM photometry p JOIN images i ON i.path = p.image_path ORDER BY p.mjd, i.id"
    )
    for name, *values in rows:
        sums[name] = sums[name].add(Epoch(*values))
    return sums


def numbers(sums: FluxSums) -> list[float]:
    """Return the sums as numbers that can be compared; what is not known is far from every number that is."""
    return [-1e99 if value is None else value for value in dataclasses.astuple(sums)]


async def agree(adapter: DatabaseAdapter) -> None:
    found, wanted = await kept(adapter), await expected(adapter)
    for name, sums in wanted.items():
        assert numbers(found[name]) == pytest.approx(numbers(sums), rel=1e-9, abs=1e-12), name


async def test_each_epoch_is_added(adapter: DatabaseAdapter) -> None:
    recorder = AsyncProductRecorder(adapter)
    for number, flux in enumerate([1.0, 1.25, 0.75, 0.0]):
        await recorder.record(epoch(number, flux, 0.05))
        await agree(adapter)
    sums = (await kept(adapter))[BRIGHT.id]
    assert (sums.flux_count, sums.mean_flux_jy, sums.min_flux_jy, sums.max_flux_jy) == (4, 0.75, 0.0, 1.25)
    assert sums.eta == pytest.approx(0.875 / 3 / 0.002**2)


async def test_of_many_who_see_a_new_source_at_once_one_names_it(adapter: DatabaseAdapter) -> None:
    recorder = AsyncProductRecorder(adapter)
    seen = [SourceRecord(f"new-{n}", f"new-{n}", 359.9999 + 4e-5 * n, 10.0) for n in range(6)]
    await asyncio.gather(
        *(
            recorder.record(
                Recording(
                    image=image(n), sources=(source,), photometry=(measured(source, 1.0 + n, image(n)),),
                    same_source_deg=10 / 3600,
                )
            )
            for n, source in enumerate(seen)
        )
    )  # fmt: skip
    [sums] = [sums for name, sums in (await kept(adapter)).items() if name.startswith("new-")]
    assert (sums.detection_count, sums.mean_flux_jy) == (6, pytest.approx(3.5))


async def test_two_sources_of_one_image_are_never_one(adapter: DatabaseAdapter) -> None:
    """One of them is what is known near by; the other a new source, however often the image is recorded."""
    recorder = AsyncProductRecorder(adapter)
    pair = [replace(BRIGHT, id=name, ra_deg=BRIGHT.ra_deg + off) for name, off in (("far", 0.0012), ("near", -0.0006))]
    seen = tuple(measured(source, flux, image(1)) for source, flux in zip(pair, (3.0, 1.0), strict=True))
    await recorder.record(epoch(0, 1.0))
    for _ in range(2):
        await recorder.record(
            Recording(image=image(1), sources=tuple(pair), photometry=seen, same_source_deg=10 / 3600)
        )
    sums = await kept(adapter)
    assert (sums[BRIGHT.id].max_flux_jy, sums[BRIGHT.id].detection_count) == (1.0, 2)
    assert (sums["far"].max_flux_jy, sums["far"].detection_count) == (3.0, 1)
    assert "near" not in sums


async def test_a_measurement_that_comes_twice_counts_once(adapter: DatabaseAdapter) -> None:
    recorder = AsyncProductRecorder(adapter)
    for number in range(3):
        await recorder.record(epoch(number, 1.0 + number, 0.05))
    before = await kept(adapter)
    for number in (2, 0, 1, 1):
        await recorder.record(epoch(number, 1.0 + number, 0.05))
    assert await kept(adapter) == before


async def test_a_measurement_that_changed_or_went_counts_as_it_is_now(adapter: DatabaseAdapter) -> None:
    recorder = AsyncProductRecorder(adapter)
    for number in range(3):
        await recorder.record(epoch(number, 1.0 + number, 0.05))
    await recorder.record(epoch(1, 5.0, 0.05))  # the brightest one now
    await agree(adapter)
    await recorder.record(epoch(1, 1.0, 0.05))  # and no longer
    await agree(adapter)
    await recorder.record(epoch(2, 3.0))  # FAINT is no more seen in the last image
    await agree(adapter)
    assert (await kept(adapter))[FAINT.id].last_detected_mjd == MJD + 1


async def test_what_is_not_known_of_a_measurement_does_not_erase_what_is(adapter: DatabaseAdapter) -> None:
    recorder = AsyncProductRecorder(adapter)
    await recorder.record(epoch(0, 1.0))
    await recorder.record(epoch(1, 2.0))
    nothing = replace(measured(BRIGHT, 9.0, image(1)), flux_jy=float("nan"), flux_err_jy=float("inf"))
    await recorder.record(Recording(image=image(1), photometry=(nothing,)))
    await agree(adapter)
    assert (await kept(adapter))[BRIGHT.id].flux_count == 2


async def test_measurements_are_forgotten_with_their_image(adapter: DatabaseAdapter) -> None:
    recorder = AsyncProductRecorder(adapter)
    for number in range(3):
        await recorder.record(epoch(number, 1.0 + number, 0.05))
    await database.write(adapter, measurements.forget(image(2).path))
    await agree(adapter)
    assert (await kept(adapter))[BRIGHT.id].detection_count == 2
    await database.write(adapter, measurements.forget(image(0).path))
    await database.write(adapter, measurements.forget(image(1).path))
    assert (await kept(adapter))[BRIGHT.id] == FluxSums()


async def test_a_random_campaign_of_recordings_leaves_the_right_sums(adapter: DatabaseAdapter) -> None:
    recorder, choose = AsyncProductRecorder(adapter), random.Random(11)
    for _ in range(40):
        fluxes = [round(choose.uniform(-0.5, 2.0), 1) for _ in range(choose.randint(1, 2))]
        await recorder.record(epoch(choose.randrange(6), *fluxes))
    await agree(adapter)


async def test_the_same_image_recorded_at_once_by_many_counts_once(adapter: DatabaseAdapter) -> None:
    recorder = AsyncProductRecorder(adapter)
    await recorder.record(Recording(image=image(0)))
    await asyncio.gather(*(recorder.record(Recording(photometry=epoch(0, 1.0, 0.05).photometry)) for _ in range(8)))
    await agree(adapter)
    assert (await kept(adapter))[BRIGHT.id].detection_count == 1


async def test_the_same_source_twice_in_one_image_counts_once(adapter: DatabaseAdapter) -> None:
    twice: tuple[PhotometryRecord, ...] = (measured(BRIGHT, 1.0, image(0)), measured(BRIGHT, 2.0, image(0)))
    await AsyncProductRecorder(adapter).record(Recording(image=image(0), photometry=twice))
    await agree(adapter)
    assert (await kept(adapter))[BRIGHT.id].mean_flux_jy == 2.0


async def test_measurements_from_before_the_sums_are_added_up(unmigrated: DatabaseConfig) -> None:
    migrator = Migrator(unmigrated)
    await asyncio.to_thread(migrator.upgrade)
    async with open_database(unmigrated) as adapter:
        await AsyncProductRecorder(adapter).record(Recording(measurement_set=MEASUREMENT_SET, sources=SOURCES))
        for number, flux in enumerate([1.0, 1.5, 3.0]):
            await AsyncProductRecorder(adapter).record(epoch(number, flux, 0.05))
    await asyncio.to_thread(migrator.downgrade, "0002")
    await asyncio.to_thread(migrator.upgrade)
    async with open_database(unmigrated) as adapter:
        await agree(adapter)
