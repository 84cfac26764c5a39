"""Verdicts on quality over HTTP: from measured numbers and the pipeline's limits, with the reason (defects 5, 31)."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from dsa110_contimg.api.async_repositories import AsyncProductRecorder, AsyncQARepository, AsyncReportRepository
from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import BlockingDatabase, open_database
from dsa110_contimg.api.db_adapters import DatabaseAdapter
from dsa110_contimg.api.interfaces import (
    ImageRecord,
    JobRecord,
    MeasurementSetRecord,
    ProvenanceRecord,
    Recording,
)
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord
from dsa110_contimg.api.repositories import ReportRepository
from fixtures.api_server import Served
from fixtures.api_world import CREATED_AT, RUN_ID

MS, GROUP, RUN = "/data/ms/x.ms", "2026-02-12T03:00:00", "job-2026-02-12-030000"
IMAGE = ImageRecord(
    "/data/images/x.fits", MS, RUN, "image", CREATED_AT, noise_jy=2e-3, thermal_noise_jy=1e-3, dynamic_range=500.0,
    peak_flux_jy=1.0, beam_major_arcsec=30.0,
)  # fmt: skip
MEASURED = ImageQARecord(MS, IMAGE.path, 2e-3, 1.0, 500.0, 30.0, 20.0, 5.0, 12, "good", CREATED_AT + 5)
SOLVED = CalibrationQARecord(
    MS, "excellent", 0.05, CREATED_AT + 3, bp_metrics={"avg_snr": 60.0}, g_metrics={"avg_snr": 55.0}
)


async def record(served: Served, *recordings: Recording) -> None:
    config = served.world.config
    async with open_database(config.database, config.timeouts) as adapter:
        for one in recordings:
            await AsyncProductRecorder(adapter).record(one)


def observation(**changes: Any) -> Recording:
    ms = MeasurementSetRecord(MS, RUN, GROUP, "imaged", 1.0, 2.0, 1.5, 0.0, 0.0, processed_at=CREATED_AT)
    return Recording(
        job=JobRecord(RUN, GROUP, "completed", MS, created_at=CREATED_AT, finished_at=CREATED_AT + 9),
        measurement_set=replace(ms, **changes),
    )


async def test_an_image_has_the_grade_of_its_assessment_with_its_reasons(own: Served) -> None:
    graded = replace(
        IMAGE, qa_grade="warn", qa_summary="noisy",
        qa_metrics={"rms_ratio": 2.0, "dynamic_range": 500.0, "sources": 12.0, "reasons": ["warn: the noise is high"]},
    )  # fmt: skip
    await record(own, observation(), Recording(image=graded, image_qa=MEASURED))
    told = await own.json("/api/v1/qa/image/2")
    assert (told["qa_grade"], told["assessed"], told["reasons"]) == ("warn", True, ["warn: the noise is high"])
    assert told["flags"] == ["rms_ratio"]
    assert told["quality_metrics"]["rms_noise"] == 2e-3
    assert (told["overall_quality"], told["n_sources"]) == ("good", 12)
    assert (await own.json("/api/v1/images/2/qa"))["source_stats"] == {"n_sources": 12, "peak_flux_jy": 1.0}
    await record(own, Recording(image_qa=replace(MEASURED, num_sources=None)))  # measured again, by pixels alone
    assert (await own.json("/api/v1/qa/image/2"))["n_sources"] == 12
    assert told["timestamp"] == "2025-12-01T00:01:05Z"


async def test_an_image_that_was_never_assessed_is_judged_by_the_same_limits(own: Served) -> None:
    await record(own, observation(), Recording(image=IMAGE))
    told = await own.json("/api/v1/qa/image/2")
    assert (told["qa_grade"], told["assessed"], told["overall_quality"]) == ("warn", False, "unknown")
    assert told["reasons"] == ["warn: the noise is 2.00 times the thermal one (good: at most 1.5, usable: at most 3)"]


@pytest.mark.parametrize(
    ("changes", "grade"),
    [({"dynamic_range": 10.0}, "fail"), ({"noise_jy": 5e-3}, "fail"), ({"noise_jy": 1.2e-3}, "good")],
)
async def test_the_worst_number_counts(own: Served, changes: dict[str, float], grade: str) -> None:
    await record(own, observation(), Recording(image=replace(IMAGE, **changes)))  # type: ignore[arg-type]
    assert (await own.json("/api/v1/qa/image/2"))["qa_grade"] == grade


async def test_an_image_without_numbers_has_no_grade(own: Served) -> None:
    await record(own, observation(), Recording(image=ImageRecord("/data/n.fits", MS, RUN, "image", CREATED_AT)))
    told = await own.json("/api/v1/qa/image/2")
    assert (told["qa_grade"], told["reasons"], told["findings"]) == (None, [], [])


async def test_a_failed_measurement_set_is_not_good_because_it_was_imaged(own: Served) -> None:
    await record(own, observation(status="failed"))
    told = await own.json(f"/api/v1/qa/ms/{GROUP}")
    assert (told["qa_grade"], told["reasons"]) == ("fail", ["fail: its processing failed"])


async def test_a_measurement_set_tells_what_was_measured_on_its_calibration_and_by_its_stages(own: Served) -> None:
    stage = ProvenanceRecord(
        RUN, "flagging", "t", 1, "0", "h", CREATED_AT, CREATED_AT + 1, 1.0, 1, {}, {"flagged_fraction_live": 0.4}
    )
    whole = observation(missing_subbands=(3,), stage="calibrated", cal_applied=True)
    await record(own, replace(whole, calibration_qa=SOLVED, provenance=stage))
    told = await own.json(f"/api/v1/qa/ms/{GROUP}")
    assert told["calibration"]["overall_quality"] == "excellent"
    assert told["calibration"]["bp_metrics"] == {"avg_snr": 60.0}
    assert told["flags"] == ["flagged_fraction_live", "missing_subbands"]
    assert told["quality_metrics"]["flagged_fraction_live"] == 0.4
    assert told["cal_applied"] is True
    assert told["reasons"] == [
        "warn: no image of it was assessed; stage calibrated",
        "warn: 40% of the live data are flagged (good: at most 0.3, usable: at most 0.5)",
        "warn: 1 subbands are missing (good: at most 0, usable: at most 8)",
    ]


async def test_a_run_tells_verdict_table_state_and_parameters(own: Served) -> None:
    told = await own.json("/api/v1/qa/job/{run}")
    assert (told["run_id"], told["qa_grade"], told["qa_summary"]) == (RUN_ID, "good", "all well")
    assert told["cal_table"] == own.world.caltable_path
    assert (told["queue_status"], told["pipeline_config"], told["stages"]) == (
        "completed",
        {"reason": "test"},
        ["imaging"],
    )
    failed = JobRecord(RUN, GROUP, "failed", MS, created_at=CREATED_AT, error="flagging: no data")
    await record(own, Recording(job=failed))
    told = await own.json(f"/api/v1/qa/job/{RUN}")
    assert (told["qa_grade"], told["reasons"]) == ("fail", ["fail: flagging: no data"])


@pytest.mark.parametrize("address", ["/image/99", "/image/x", "/ms/2020-01-01T00:00:00", "/ms/%2Fnone", "/job/job-%25"])
async def test_what_is_not_known_is_not_found(small: Served, address: str) -> None:
    assert (await small.get(f"/api/v1/qa{address}")).status_code == 404


def read_blocking(config: DatabaseConfig) -> CalibrationQARecord | None:
    with BlockingDatabase(config, TimeoutConfig()) as database:
        found = ReportRepository(database).get_ms(MS)
        return found.measured if found else None


async def measured_on_image(adapter: DatabaseAdapter) -> ImageQARecord | None:
    found = await AsyncReportRepository(adapter).get_image("1")
    return found.measured if found else None


async def test_what_is_measured_again_replaces_what_was_measured(empty_products: DatabaseConfig) -> None:
    config = empty_products
    async with open_database(config, TimeoutConfig()) as adapter:
        recorder, measured = AsyncProductRecorder(adapter), AsyncQARepository(adapter)
        for _ in range(2):
            await recorder.record(replace(observation(), image=IMAGE, image_qa=MEASURED, calibration_qa=SOLVED))
        assert await measured_on_image(adapter) == MEASURED
        assert await asyncio.to_thread(read_blocking, config) == SOLVED
        later = replace(MEASURED, rms_noise=float("nan"), timestamp=CREATED_AT + 99)
        await measured.save_image_qa(later)
        assert await measured_on_image(adapter) == replace(later, rms_noise=None)
        await measured.save_calibration_qa(replace(SOLVED, overall_quality="poor"))
        for table in ("image_qa", "calibration_qa"):
            row = await adapter.fetch_one(f"SELECT count(*) AS n, min(job_id) AS job FROM {table}")
            assert row is not None
            assert (row["n"], row["job"]) == (1, 1)
    assert await asyncio.to_thread(read_blocking, config) == replace(SOLVED, overall_quality="poor")
