"""Batches: items counted as they end, work by workers, asked over HTTP."""

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.api.async_repositories import (
    AsyncBatchRepository,
    AsyncCalibrationRepository,
    AsyncProductRecorder,
    AsyncQARepository,
    AsyncReportRepository,
)
from dsa110_contimg.api.batch.batches import work_on_batch
from dsa110_contimg.api.batch.qa import QualityMeter
from dsa110_contimg.api.config import APIConfig, DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import DatabaseAdapter
from dsa110_contimg.api.exceptions import FileNotAccessibleError, FITSParsingError
from dsa110_contimg.api.file_access import FileStore
from dsa110_contimg.api.interfaces import CalibrationTableRecord, ImageRecord, Recording
from dsa110_contimg.api.services.limited_child import LimitedChild
from dsa110_contimg.api.work_orders import BATCH, WorkOrder
from dsa110_contimg.api.work_repository import AsyncWorkRepository
from dsa110_contimg.pipeline.caltable import BANDPASS
from dsa110_contimg.pipeline.visibilities import read_layout
from fixtures.api_server import Served
from fixtures.api_world import CREATED_AT, GROUP_ID, RUN_ID
from fixtures.live_api import add_keys
from fixtures.measurement_sets import ABSENT, DEAD
from fixtures.work_bench import work_bench
from unit.test_table_report import write


@pytest.fixture
async def adapter(empty_products: DatabaseConfig) -> AsyncIterator[DatabaseAdapter]:
    async with open_database(empty_products, TimeoutConfig()) as opened:
        yield opened


@pytest.fixture
def batches(adapter: DatabaseAdapter) -> AsyncBatchRepository:
    return AsyncBatchRepository(adapter)


async def ordered(
    adapter: DatabaseAdapter, names: list[str], kind: str = "thumbnail", order: str = "job_0123456789ab"
) -> int:
    """Order a batch, as a client's request does; return its number."""
    work = WorkOrder(order, BATCH, "rq", {}, created_at=CREATED_AT)
    return await AsyncWorkRepository(adapter).accept_batch(work, kind, names)


async def states(batches: AsyncBatchRepository, number: int) -> tuple[str, int, int]:
    batch = await batches.get(str(number))
    assert batch is not None
    return batch.status, batch.completed_items, batch.failed_items


async def test_items_are_counted_once_as_they_end_and_the_last_ends_the_batch(
    adapter: DatabaseAdapter, batches: AsyncBatchRepository
) -> None:
    number = await ordered(adapter, ["a", "b", "c"])
    assert await states(batches, number) == ("pending", 0, 0)
    one, two, three = await batches.list_unended(number)
    assert await batches.begin_item(one.id)
    assert await states(batches, number) == ("running", 0, 0)
    assert await batches.end_item(one.id)
    assert not await batches.end_item(one.id)
    assert not await batches.end_item(one.id, "late")
    assert not await batches.begin_item(one.id)
    assert await states(batches, number) == ("running", 1, 0)
    await batches.end_item(two.id, "no such image")
    assert await states(batches, number) == ("running", 1, 1)
    await batches.end_item(three.id)
    assert await states(batches, number) == ("failed", 2, 1)
    items = await batches.list_items(number)
    assert [(item.name, item.status, item.error) for item in items] == [
        ("a", "done", None), ("b", "failed", "no such image"), ("c", "done", None),
    ]  # fmt: skip
    assert not await batches.cancel(number)


async def test_a_batch_whose_items_are_all_done_is_done(
    adapter: DatabaseAdapter, batches: AsyncBatchRepository
) -> None:
    number = await ordered(adapter, ["a"])
    (item,) = await batches.list_unended(number)
    await batches.end_item(item.id)
    assert await states(batches, number) == ("done", 1, 0)


async def test_ends_at_once_lose_no_count(adapter: DatabaseAdapter, batches: AsyncBatchRepository) -> None:
    number = await ordered(adapter, [str(one) for one in range(40)])
    items = await batches.list_unended(number)
    twice = [item for item in items for _ in range(2)]
    ended = await asyncio.gather(*(batches.end_item(item.id, "x" if item.id % 4 == 0 else None) for item in twice))
    assert sum(ended) == 40
    assert await states(batches, number) == ("failed", 30, 10)


async def test_a_cancelled_batch_stays_cancelled_and_none_of_its_items_begins(
    adapter: DatabaseAdapter, batches: AsyncBatchRepository
) -> None:
    number = await ordered(adapter, ["a", "b"])
    one, two = await batches.list_unended(number)
    await batches.begin_item(one.id)
    assert await batches.cancel(number)
    assert not await batches.begin_item(two.id)
    assert not await batches.end_item(one.id)
    assert await states(batches, number) == ("cancelled", 0, 0)
    assert await batches.list_unended(number) == []


# --- work -----------------------------------------------------------------------------------------------------------


async def run_batch(config: APIConfig, kind: str, names: list[str]) -> tuple[dict[str, Any], list[str | None]]:
    async with open_database(config.database, config.timeouts) as adapter:
        batches = AsyncBatchRepository(adapter)
        number = await ordered(adapter, names, kind)
        told = await work_on_batch(number, config)
        assert await work_on_batch(number, config) == told  # again: nothing to do
        return dict(told), [item.error for item in await batches.list_items(number)]


async def test_images_are_measured_and_what_fails_is_told_item_by_item(own: Served) -> None:
    config = own.world.config
    told, errors = await run_batch(config, "image-qa", ["1", own.world.image_path, "99"])
    assert told == {"status": "failed", "completed_items": 2, "failed_items": 1}
    assert errors == [None, None, "Image not found: 99"]
    async with open_database(config.database, config.timeouts) as adapter:
        found = await AsyncReportRepository(adapter).get_image("1")
    assert found is not None
    assert found.measured is not None
    assert found.measured.rms_noise == pytest.approx(1e-3, rel=0.1)
    assert (found.measured.peak_flux, found.measured.overall_quality) == (1.0, "good")


async def test_an_image_and_its_report_have_one_verdict_however_it_is_measured(own: Served) -> None:
    """The noise of the file, which is corrected for the primary beam, is not that by which the image was graded."""
    config, recorded = own.world.config, {"noise_jy": 2e-3, "peak_flux_jy": 0.19, "dynamic_range": 95.0}
    image = ImageRecord(
        own.world.image_path, own.world.ms_path, RUN_ID, "image", CREATED_AT, qa_grade="warn",
        qa_metrics={"dynamic_range": 95.0, "sources": 7.0}, beam_major_arcsec=70.0, **recorded,
    )  # fmt: skip
    async with open_database(config.database, config.timeouts) as adapter:
        await AsyncProductRecorder(adapter).record(Recording(image=image))
    _, errors = await run_batch(config, "image-qa", ["1"])
    assert errors == [None]
    async with open_database(config.database, config.timeouts) as adapter:
        found = await AsyncReportRepository(adapter).get_image("1")
    assert found is not None
    measured = found.measured
    assert measured is not None
    assert (measured.rms_noise, measured.peak_flux, measured.dynamic_range) == tuple(recorded.values())
    assert (measured.num_sources, measured.beam_major, measured.overall_quality) == (7, 70.0, "marginal")
    async with open_database(config.database, config.timeouts) as adapter:  # a row of before, by the file
        by_file = dataclasses.replace(measured, dynamic_range=1000.0, overall_quality="good")
        await AsyncQARepository(adapter).save_image_qa(by_file)
    report = await own.json("/api/v1/qa/image/1")
    assert (report["qa_grade"], report["flags"], report["overall_quality"]) == ("warn", ["dynamic_range"], "marginal")
    assert (report["quality_metrics"]["rms_noise"], report["n_sources"]) == (2e-3, 7)


async def test_pictures_are_made_in_advance(own: Served) -> None:
    told, _ = await run_batch(own.world.config, "thumbnail", ["1"])
    assert told["status"] == "done"
    assert len(list((own.world.config.paths.state_dir / "thumbnails").iterdir())) == 1


async def test_calibration_is_measured_on_its_tables_with_absent_antennas_apart(own: Served) -> None:
    config, path = own.world.config, Path(own.world.caltable_path)
    layout = read_layout(own.world.ms_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, layout, BANDPASS, {**dict.fromkeys(ABSENT, 1.0), DEAD: 1.0})
    told, errors = await run_batch(config, "calibration-qa", [GROUP_ID, "/none.ms"])
    assert errors == [None, "MeasurementSet not found: /none.ms"]
    report = (await own.json(f"/api/v1/qa/ms/{GROUP_ID}"))["calibration"]
    assert report["overall_quality"] == "excellent"
    assert report["flags_total"] == pytest.approx(1 / 96)
    assert (len(report["bp_metrics"]["absent"]), report["bp_metrics"]["dead"]) == (21, [layout.antenna_names[DEAD]])
    assert report["bp_metrics"]["flag_fraction_table"] == pytest.approx(22 / 117)
    assert told["completed_items"] == 1


async def test_tables_of_one_kind_are_all_measured_and_the_worst_of_them_counts(own: Served) -> None:
    config, path = own.world.config, Path(own.world.caltable_path)
    layout = read_layout(own.world.ms_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, layout, BANDPASS, dict.fromkeys(ABSENT, 1.0) | {DEAD: 1.0})
    async with open_database(config.database, config.timeouts) as adapter:
        known = await AsyncCalibrationRepository(adapter).get_by_id(str(path))
        assert known is not None
        amplitudes, again = f"{path}.amplitude", f"{path}.again"
        for other, kind in ((amplitudes, "BA"), (again, "BA")):
            shutil.copytree(path, other)
            table = dataclasses.replace(known, path=other, table_type=kind, order_index=40)
            await AsyncProductRecorder(adapter).record(Recording(calibration_tables=(table,)))
    write(Path(amplitudes), layout, BANDPASS, dict.fromkeys(range(117), 0.75))
    await run_batch(config, "calibration-qa", [GROUP_ID])
    report = (await own.json(f"/api/v1/qa/ms/{GROUP_ID}"))["calibration"]
    assert report["bp_metrics"]["flag_fraction"] == pytest.approx(1 / 96)
    measured = [(one["table_type"], round(one["flag_fraction"], 3)) for one in report["bp_metrics"]["further"]]
    assert sorted(measured) == [("BA", 0.01), ("BA", 0.75)]
    assert (round(report["flags_total"], 3), report["overall_quality"]) == (0.75, "poor")


async def test_what_cannot_be_measured_says_why(tmp_path: Path) -> None:
    meter = QualityMeter(FileStore([tmp_path]), LimitedChild())
    broken = tmp_path / "broken.fits"
    broken.write_bytes(b"no FITS" * 100)
    with pytest.raises(FITSParsingError, match=r"broken\.fits"):
        await meter.of_image(ImageRecord(str(broken), "/m", "r", "image", 0.0))
    with pytest.raises(FileNotAccessibleError):
        await meter.of_image(ImageRecord("/etc/passwd", "/m", "r", "image", 0.0))
    with pytest.raises(FileNotAccessibleError, match="no calibration table"):
        await meter.of_tables("/m", [])
    outside = CalibrationTableRecord("/etc", "s", "BP", 30, "/m", None, None, 0.0, None, None)
    with pytest.raises(FileNotAccessibleError):
        await meter.of_tables("/m", [outside])


@pytest.mark.slow
async def test_an_rq_worker_does_a_batch_from_its_order_to_its_end(redis_url: str, tmp_path: Path) -> None:
    async with work_bench(tmp_path / "state", redis_url) as bench:
        body = {"type": "thumbnail", "items": ["1", "99"]}
        before = datetime.now(UTC)
        ordered = await bench.ask("POST", "/batches", body)
        assert (ordered.status_code, ordered.json()["status"]) == (202, "pending")
        await asyncio.to_thread(bench.work)
        batch = await bench.done("GET", f"/batches/{ordered.json()['id']}")
        assert (batch["status"], batch["completed_items"], batch["failed_items"]) == ("failed", 1, 1)
        items = await bench.done("GET", f"/batches/{batch['id']}/items")
        assert [(item["status"], item["error"]) for item in items] == [
            ("done", None), ("failed", "Image not found: 99"),
        ]  # fmt: skip
        assert len(list((bench.world.config.paths.state_dir / "thumbnails").iterdir())) == 1
        [job] = await bench.done("GET", "/queue/jobs")
        assert job["status"] == "finished"
        assert before - timedelta(seconds=1) <= datetime.fromisoformat(job["created_at"]) <= datetime.now(UTC)


async def test_a_batch_ends_with_the_order_that_works_on_it(
    adapter: DatabaseAdapter, batches: AsyncBatchRepository
) -> None:
    orders = AsyncWorkRepository(adapter)
    ends = []
    for name, status in (("job_c", "canceled"), ("job_f", "failed"), ("job_e", "failed")):
        number = await ordered(adapter, ["a", "b", "c"], order=name)
        begun = await orders.claim(name, "w", 1.0)
        assert begun is not None
        await batches.end_item((await batches.list_unended(number))[0].id)
        if name == "job_e":
            await orders.end(dataclasses.replace(begun, status=status, error="out of memory", ended_at=2.0))
        else:
            await orders.settle(name, status, 2.0, error="given up")
        ends.append((*await states(batches, number), [one.error for one in await batches.list_items(number)]))
    assert ends == [
        ("cancelled", 1, 0, [None, None, None]),
        ("failed", 1, 2, [None, "given up", "given up"]),
        ("failed", 1, 2, [None, "out of memory", "out of memory"]),
    ]


# --- over HTTP ------------------------------------------------------------------------------------------------------


async def test_a_batch_is_ordered_asked_for_and_cancelled(own: Served) -> None:
    keys = await add_keys(own.world.config)
    write_jobs = {"X-API-Key": keys["write:jobs"]}
    body = {"type": "thumbnail", "items": ["1", "2", "1"]}
    assert (await own.client.post("/api/v1/batches", json=body)).status_code == 401
    assert (await own.client.post("/api/v1/batches", json=body, headers={"X-API-Key": keys["ops"]})).status_code == 403
    first = await own.client.post("/api/v1/batches", json=body, headers={**write_jobs, "Idempotency-Key": "k1"})
    again = await own.client.post("/api/v1/batches", json=body, headers={**write_jobs, "Idempotency-Key": "k1"})
    assert first.status_code == 202, first.text
    assert again.json() == first.json()
    batch = first.json()
    assert (batch["status"], batch["total_items"]) == ("pending", 2)
    assert await own.json(f"/api/v1/batches/{batch['id']}") == batch
    assert await own.json("/api/v1/batches?status=pending") == [batch]
    items = await own.get(f"/api/v1/batches/{batch['id']}/items")
    assert [item["name"] for item in items.json()] == ["1", "2"]
    assert items.headers["x-total-count"] == "2"
    cancelled = await own.client.post(f"/api/v1/batches/{batch['id']}/cancel", headers=write_jobs)
    assert cancelled.json()["status"] == "cancelled"
    assert (await own.client.post(f"/api/v1/batches/{batch['id']}/cancel", headers=write_jobs)).status_code == 409


@pytest.mark.parametrize(
    "body",
    [{}, {"type": "rm", "items": ["1"]}, {"type": "thumbnail", "items": []}, {"type": "thumbnail", "items": ["\x00"]},
     {"type": "thumbnail", "items": ["1"] * 1001}, {"type": "thumbnail", "items": ["1"], "command": "x"}, []],
)  # fmt: skip
async def test_a_batch_that_makes_no_sense_is_refused(own: Served, body: Any) -> None:
    keys = await add_keys(own.world.config)
    reply = await own.client.post("/api/v1/batches", json=body, headers={"X-API-Key": keys["write:jobs"]})
    assert reply.status_code == 422
    assert await own.json("/api/v1/batches") == []


async def test_an_unknown_batch_is_not_found(small: Served) -> None:
    for address in ("/batches/99", "/batches/x", "/batches/99/items", "/batches/-1"):
        assert (await small.get(f"/api/v1{address}")).status_code == 404


async def test_an_image_that_was_recorded_without_an_assessment_can_be_measured_later(own: Served) -> None:
    config = own.world.config
    image = ImageRecord(f"{own.world.image_path}.gone", own.world.ms_path, "r", "image", CREATED_AT)
    async with open_database(config.database, config.timeouts) as adapter:
        await AsyncProductRecorder(adapter).record(Recording(image=image))
    told, errors = await run_batch(config, "image-qa", [image.path])
    assert told["failed_items"] == 1
    assert errors[0] is not None
    assert "does not exist" in errors[0]
