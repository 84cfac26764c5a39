"""The adapter between queue and science, over a real products database; only the child processes are stood in for."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsa110_contimg.absurd import workflows
from dsa110_contimg.absurd.adapter import STAGES, Adapter
from dsa110_contimg.absurd.executor import ChildResult
from dsa110_contimg.absurd.registry import BadParamsError
from dsa110_contimg.absurd.worker import ClaimedTask
from dsa110_contimg.api.async_repositories import (
    AsyncCalibrationRepository,
    AsyncImageRepository,
    AsyncJobRepository,
    AsyncMSRepository,
    AsyncProductRecorder,
    AsyncProvenanceRepository,
    AsyncSourceRepository,
)
from dsa110_contimg.api.config import DatabaseConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters.backend import DatabaseAdapter
from dsa110_contimg.api.exceptions import InvalidRecordError
from dsa110_contimg.api.interfaces import ImageRecord, JobRecord, Recording
from dsa110_contimg.api.migrations.migrator import Migrator
from fixtures.observation import light_curve

RUN, GROUP, MS = "job-2026-02-11-000010", "2026-02-11T00:00:10", "/p/ms/2026-02-11T00:00:10.ms"

CONVERTED = {
    "ms_path": MS, "start_mjd": 61082.0, "end_mjd": 61082.004, "mid_mjd": 61082.002, "pointing_ra_deg": 202.8,
    "pointing_dec_deg": 30.5, "field_name": "meridian", "missing_subbands": [3], "notes": ["subband 3 is missing"],
    "files": [MS], "inputs": ["/raw/a.hdf5"],
}  # fmt: skip
IMAGED = {
    "image_path": "/p/images/x-pb.fits", "beam_major_arcsec": 40.0, "beam_minor_arcsec": 20.0, "beam_pa_deg": 5.0,
    "noise_jy": 0.002, "thermal_noise_jy": 0.0018, "peak_flux_jy": 8.0, "dynamic_range": 4000.0,
    "center_ra_deg": 359.9, "center_dec_deg": 30.5, "imsize_x": 1200, "imsize_y": 1200, "cellsize_arcsec": 9.0,
    "freq_ghz": 1.405, "bandwidth_mhz": 187.5, "integration_sec": 309.2, "mid_mjd": 61082.002, "converged": True,
    "files": ["/p/images/x-pb.fits"], "inputs": ["/p/ms/cal.ms"], "finished_at": 1004.5,
}  # fmt: skip


def found(name: str, ra_deg: float) -> dict[str, Any]:
    return {
        "name": name, "ra_deg": ra_deg, "dec_deg": 30.5, "peak_jyb": 0.5, "peak_err_jyb": 0.002, "flux_jy": 0.52,
        "flux_err_jy": 0.004, "snr": 250.0, "local_rms": 0.002, "sep_from_center_deg": 0.1, "flags": 0,
    }  # fmt: skip


class StageContext:
    """Stands in for a worker's context: a stage returns the given product, checksums are made of names."""

    task: ClaimedTask

    def __init__(self, product: Mapping[str, Any], parents: Mapping[str, Mapping[str, Any]]) -> None:
        self.product, self.parents = product, parents
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    async def run_child(self, target: str, options: Mapping[str, Any], **words: Any) -> ChildResult:
        if "heard" in words:
            words["heard"](0.5, "half of it")
        self.asked.append((target, options))
        value: Mapping[str, Any] = self.product
        if target.endswith(":digest_all"):
            digests = [{"path": path, "size_bytes": 7, "sha256": f"digest of {path}"} for path in options["paths"]]
            value = {"digests": digests}
        return ChildResult(dict(value), 1000.0, 1004.5, 3.25, 123456, "thishost")

    async def progress(self, fraction: float, message: str) -> None:
        raise AssertionError("the child tells its progress itself")

    async def parent_results(self) -> Mapping[str, Mapping[str, Any]]:
        return self.parents


def completed(**results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"status": "completed", "result": result, "error": None} for name, result in results.items()}


def task(name: str, options: Mapping[str, Any] | None = None) -> ClaimedTask:
    params = {"run_id": RUN, "group_id": GROUP, "options": options or {}}
    return ClaimedTask(uuid.uuid4(), name, params, 2, 77, "q", None, None)


async def run(adapter: Adapter, claimed: ClaimedTask, context: StageContext) -> Mapping[str, Any]:
    """Run a task as a worker would."""
    context.task = claimed
    result: Mapping[str, Any] = await adapter.tasks().handlers()[claimed.name](claimed, context)  # type: ignore[arg-type]
    return result


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[DatabaseAdapter]:
    config = DatabaseConfig(backend="sqlite", products_path=tmp_path / "products.sqlite3")
    await asyncio.to_thread(Migrator(config).upgrade)
    async with open_database(config) as adapter:
        job = JobRecord(RUN, GROUP, "pending", MS, workflow_id=str(uuid.uuid4()), created_at=900.0)
        await AsyncProductRecorder(adapter).record(Recording(job=job))
        yield adapter


@pytest.fixture
def adapter(database: DatabaseAdapter) -> Adapter:
    return Adapter(AsyncProductRecorder(database), "0.1.0+gabc")


async def test_a_conversion_is_recorded_with_its_provenance(adapter: Adapter, database: DatabaseAdapter) -> None:
    context = StageContext(CONVERTED, {})
    result = await run(adapter, task(workflows.CONVERT, {"files": ["/raw/a.hdf5"], "ms_path": MS}), context)

    ms = await AsyncMSRepository(database).get_metadata(MS)
    assert ms is not None
    assert (ms.stage, ms.missing_subbands, ms.quality_note) == ("converted", (3,), "subband 3 is missing")
    [provenance] = await AsyncProvenanceRepository(database).list_for_run(RUN)
    assert (provenance.code_version, provenance.host, provenance.attempt) == ("0.1.0+gabc", "thishost", 2)
    assert (provenance.cpu_s, provenance.peak_rss_bytes) == (3.25, 123456)
    assert {(file.path, file.role, file.kind, file.sha256) for file in provenance.files} == {
        ("/raw/a.hdf5", "input", "uvh5", "digest of /raw/a.hdf5"),
        (MS, "output", "ms", f"digest of {MS}"),
    }
    assert "files" not in result


async def test_a_version_of_which_nothing_came_leaves_no_files(
    adapter: Adapter, database: DatabaseAdapter, tmp_path: Path
) -> None:
    recorder, now, versions = AsyncProductRecorder(database), time.time(), tmp_path / "reimages"
    await run(adapter, task(workflows.CONVERT), StageContext(CONVERTED, {}))
    await recorder.record(Recording(image=ImageRecord("/p/x.fits", MS, "has an image", "image", now)))
    known = {
        "has an image": ("failed", 1.0),
        "canceled": ("failed", 1.0),
        "just now": ("failed", now),
        "going": ("running", None),
    }
    for run_id, (status, finished_at) in known.items():
        await recorder.save_job(JobRecord(run_id, GROUP, status, MS, finished_at=finished_at))
    for name in (RUN, "of nobody", *known):
        (versions / name / "images").mkdir(parents=True)
        (versions / name / "images" / "x.fits.partial-killed").write_text("half")
    kept = {"has an image", "just now", "going", "of nobody"}
    for status, left in (("completed", {*kept, RUN}), ("failed", kept)):
        parents = {workflows.REIMAGE: {"status": status, "result": None, "error": "killed"}}
        await run(adapter, task(workflows.FINISH, {"directory": str(versions / RUN)}), StageContext({}, parents))
        assert {path.name for path in versions.iterdir()} == left


async def test_the_first_stage_sets_the_run_going(adapter: Adapter, database: DatabaseAdapter) -> None:
    await run(adapter, task(workflows.CONVERT), StageContext(CONVERTED, {}))
    job = await AsyncJobRepository(database).get_by_run_id(RUN)
    assert job is not None
    assert job.status == "running"
    assert job.started_at is not None


async def test_a_stage_that_runs_twice_leaves_the_same_rows(adapter: Adapter, database: DatabaseAdapter) -> None:
    for _ in range(2):
        await run(adapter, task(workflows.CONVERT), StageContext(CONVERTED, {}))
    assert await AsyncMSRepository(database).count() == 1
    assert len(await AsyncProvenanceRepository(database).list_for_run(RUN)) == 1


async def test_a_measurement_set_keeps_the_time_of_its_conversion_when_it_is_imaged(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    await _image_and_sources(adapter)
    ms = await AsyncMSRepository(database).get_metadata(MS)
    assert ms is not None
    assert (ms.stage, ms.processed_at) == ("cataloged", 1004.5)


async def _image_and_sources(adapter: Adapter, *sources: Mapping[str, Any]) -> Mapping[str, Any]:
    convert = {workflows.CONVERT: CONVERTED}
    await run(adapter, task(workflows.CONVERT), StageContext(CONVERTED, {}))
    await run(adapter, task(workflows.IMAGE), StageContext(IMAGED, completed(**convert)))
    parents = completed(**convert, **{workflows.IMAGE: IMAGED})
    product = {
        "catalogue_path": "/p/c.csv", "sources": list(sources), "calibrators": {"cal": "0137+331"},
        "files": ["/p/c.csv"], "inputs": [],
    }  # fmt: skip
    return await run(adapter, task(workflows.EXTRACT), StageContext(product, parents))


async def test_measurements_of_a_calibrator_are_counted_as_such(adapter: Adapter, database: DatabaseAdapter) -> None:
    await _image_and_sources(adapter, found("cal", 24.4), found("other", 24.9))
    counted = await database.fetch_all("SELECT label, n FROM event_counts WHERE name = 'photometry_records'")
    assert {row["label"]: row["n"] for row in counted} == {"calibrator": 1, "known": 1}
    assert await database.fetch_val("SELECT catalog_match FROM sources WHERE id = 'cal'") == "0137+331"


async def test_a_source_seen_again_a_little_aside_keeps_its_name_across_ra_zero(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    result = await _image_and_sources(adapter, found("J235959.9+303000", 359.9999), found("other", 359.5))
    assert result["n_sources"] == 2
    assert "sources" not in result
    await _image_and_sources(adapter, found("J000000.1+303000", 0.0005), found("other", 359.5))
    names = [source.id for source in await AsyncSourceRepository(database).list_all()]
    assert names == ["J235959.9+303000", "other"]  # 0.0006 deg = 2.2 arcsec apart: the same source
    [image] = await AsyncImageRepository(database).list_all()
    assert image.noise_jy == 0.002


async def test_of_two_sources_close_to_a_known_one_the_nearer_is_that_and_the_other_a_new_one(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    sources = AsyncSourceRepository(database)
    await _image_and_sources(adapter, found("known", 359.9))
    for _ in range(2):
        await _image_and_sources(adapter, found("new", 359.9025) | {"flux_jy": 0.9}, found("J1", 359.899))
    fluxes = {
        one.id: [point["flux_jy"] for point in await light_curve(database, one.id)] for one in await sources.list_all()
    }
    assert fluxes == {"known": [0.52], "new": [0.9]}


async def test_of_two_sources_under_one_name_the_brighter_is_kept(adapter: Adapter, database: DatabaseAdapter) -> None:
    await _image_and_sources(adapter, found("a", 359.9), found("a", 359.90001) | {"flux_jy": 0.1})
    [point] = await light_curve(database, "a")
    assert point["flux_jy"] == 0.52


async def test_a_measurement_belongs_to_the_moment_of_its_observation_however_late_and_often_it_is_made(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    for _ in range(2):
        await _image_and_sources(adapter, found("a", 359.9))
        [epoch] = await light_curve(database, "a")
        assert epoch["mjd"] == IMAGED["mid_mjd"] == 61082.002
    row = await database.fetch_one("SELECT mjd, measured_at FROM photometry")
    assert row is not None
    assert (row["mjd"], row["measured_at"] > time.time() - 3600) == (61082.002, True)


async def test_a_source_and_its_image_find_each_other_by_the_path_under_which_both_were_recorded(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    await _image_and_sources(adapter, found("a", 359.9))
    [image] = await AsyncImageRepository(database).list_all()
    [found_in] = await AsyncSourceRepository(database).list_contributions("a", 10)
    assert found_in["path"] == image.path


async def test_the_assessment_gets_the_numbers_of_the_stages_before_it_and_grades_the_image(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    await _image_and_sources(adapter, found("a", 359.9))
    parents = completed(
        **{
            workflows.CONVERT: CONVERTED, workflows.FLAG: {"flagged_fraction_live": 0.07}, workflows.IMAGE: IMAGED,
            workflows.SOLVE: {"median_snr": 90.0, "calibrator": "3C286"},
            workflows.EXTRACT: {"n_sources": 1, "n_unfitted": 0, "catalogue_path": "/p/c.csv"},
        }
    )  # fmt: skip
    verdict = {
        "grade": "warn", "summary": "RMS 2.00 mJy", "reasons": ["subband 3 is missing"],
        "metrics": {"noise_ratio": 1.1},
        "files": [], "inputs": [],
    }  # fmt: skip
    context = StageContext(verdict, parents)
    await run(adapter, task(workflows.ASSESS), context)
    assert context.asked[0][1]["median_snr"] == 90.0
    [image] = await AsyncImageRepository(database).list_all()
    assert (image.qa_grade, image.qa_summary) == ("warn", "RMS 2.00 mJy")
    assert image.qa_metrics == {"noise_ratio": 1.1, "reasons": ["subband 3 is missing"]}
    assert image.created_at == 1004.5  # when imaging ended, not when the verdict was given


async def test_a_run_ends_completed_only_when_every_stage_did(adapter: Adapter, database: DatabaseAdapter) -> None:
    all_done = completed(**{name: {} for name in workflows.STAGES})
    assert (await run(adapter, task(workflows.FINISH), StageContext({}, all_done)))["status"] == "completed"
    job = await AsyncJobRepository(database).get_by_run_id(RUN)
    assert job is not None
    assert (job.status, job.error) == ("completed", None)


async def test_a_run_ends_failed_with_the_reason_of_the_first_stage_that_did_not_complete(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    ends = completed(**{name: {} for name in workflows.STAGES})
    ends[workflows.SOLVE] = {"status": "failed", "result": None, "error": "DataQualityError: no calibrator in the beam"}
    for name in (workflows.APPLY, workflows.IMAGE, workflows.EXTRACT, workflows.ASSESS):
        ends[name] = {"status": "skipped", "result": None, "error": None}
    await run(adapter, task(workflows.FINISH), StageContext({}, ends))
    job = await AsyncJobRepository(database).get_by_run_id(RUN)
    assert job is not None
    assert job.status == "failed"
    assert job.error == "calibration-solve: DataQualityError: no calibrator in the beam"
    assert job.finished_at is not None


async def test_a_run_that_makes_a_version_of_an_image_ends_as_its_one_stage_does(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    ends = {workflows.REIMAGE: {"status": "failed", "result": None, "error": "BadInputError: no such Measurement Set"}}
    assert (await run(adapter, task(workflows.FINISH), StageContext({}, ends)))["status"] == "failed"
    job = await AsyncJobRepository(database).get_by_run_id(RUN)
    assert job is not None
    assert (job.status, job.error) == ("failed", "reimaging: BadInputError: no such Measurement Set")
    done = completed(**{workflows.REIMAGE: {}})
    assert (await run(adapter, task(workflows.FINISH), StageContext({}, done)))["status"] == "completed"


async def test_a_version_of_an_image_that_was_deleted_meanwhile_is_not_made_again(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    whose = {"parent_id": 99, "root_id": 99, "version": 2, **CONVERTED}
    verdict = {"grade": "good", "summary": "fine", "reasons": [], "metrics": {}, "n_sources": 0, "n_unfitted": 0}
    claimed = task(workflows.REIMAGE)
    claimed = replace(claimed, params={**claimed.params, "lineage": whose})
    with pytest.raises(InvalidRecordError, match=r"image 99, of which .* is a version, was deleted") as caught:
        await run(adapter, claimed, StageContext({**IMAGED, **verdict}, {}))
    assert caught.value.retryable is False


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"group_id": GROUP, "options": {}}, "convert-uvh5-to-ms: params lacks run_id"),
        ({"run_id": RUN, "group_id": 5, "options": {}}, "params.group_id is 5; give a value of type str"),
        ({"run_id": RUN, "group_id": GROUP, "options": {}, "colour": "red"}, "'colour' is unknown"),
    ],
)
async def test_wrong_parameters_are_named_and_not_tried_again(adapter: Adapter, params: Any, says: str) -> None:
    with pytest.raises(BadParamsError, match=says) as caught:
        await run(adapter, replace(task(workflows.CONVERT), params=params), StageContext(CONVERTED, {}))
    assert caught.value.retryable is False


def test_every_task_of_the_workflow_has_a_handler(adapter: Adapter) -> None:
    assert set(adapter.tasks().handlers()) == {*workflows.STAGES, workflows.REIMAGE, workflows.FINISH}
    assert set(STAGES) == {*workflows.STAGES, *workflows.REIMAGE_STAGES}


async def test_a_run_that_failed_and_then_completes_forgets_its_error(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    done = completed(**{name: {} for name in workflows.STAGES})
    failed = {**done, workflows.IMAGE: {"status": "failed", "result": None, "error": "disk full"}}
    await run(adapter, task(workflows.FINISH), StageContext({}, failed))
    await run(adapter, task(workflows.CONVERT), StageContext(CONVERTED, {}))
    await run(adapter, task(workflows.FINISH), StageContext({}, done))
    job = await AsyncJobRepository(database).get_by_run_id(RUN)
    assert job is not None
    assert (job.status, job.error) == ("completed", None)


async def test_a_run_that_failed_goes_on_without_an_end_when_whichever_stage_is_tried_again(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    done = completed(**{name: {} for name in workflows.STAGES})
    failed = {**done, workflows.IMAGE: {"status": "failed", "result": None, "error": "disk full"}}
    await run(adapter, task(workflows.FINISH), StageContext({}, failed))
    await run(adapter, task(workflows.CONVERT), StageContext(CONVERTED, completed(**{"a stage before it": {}})))
    job = await AsyncJobRepository(database).get_by_run_id(RUN)
    assert job is not None
    assert (job.status, job.finished_at, job.error) == ("running", None, None)


def solved(directory: str) -> StageContext:
    """Stand in for the solving of tables that lie in a directory."""
    names = ("phase_scatter_deg", "amplitude_scatter", "amplitude_min", "amplitude_max")
    product = dict.fromkeys(names, 0.1) | {
        "bandpass_path": f"{directory}/x.b", "gain_path": f"{directory}/x.g", "calibrator": "3C286",
        "refant": "DSA-103", "valid_start_mjd": 1.0, "valid_end_mjd": 2.0, "flagged_fraction_live": 0.1,
        "median_snr_bandpass": 90.0, "median_snr_gain": 90.0, "files": [], "inputs": [],
    }  # fmt: skip
    return StageContext(product, completed(**{workflows.CONVERT: CONVERTED}))


async def test_a_calibration_table_says_which_version_solved_it(adapter: Adapter, database: DatabaseAdapter) -> None:
    await run(adapter, task(workflows.CONVERT), StageContext(CONVERTED, {}))
    await run(adapter, task(workflows.SOLVE), solved("/p"))
    tables = await AsyncCalibrationRepository(database).list_all()
    assert {(table.path, table.solver_version) for table in tables} == {
        ("/p/x.b", "0.1.0+gabc"),
        ("/p/x.g", "0.1.0+gabc"),
    }


async def test_tables_of_a_rerun_are_a_set_of_their_own_that_is_applied_alone(
    adapter: Adapter, database: DatabaseAdapter
) -> None:
    rerun = f"{RUN}_rerun_20260212_000000_0a1b2c"
    await AsyncProductRecorder(database).record(Recording(job=JobRecord(rerun, GROUP, "running", MS, created_at=901.0)))
    again = task(workflows.SOLVE)
    await run(adapter, task(workflows.CONVERT), StageContext(CONVERTED, {}))
    await run(adapter, task(workflows.SOLVE), solved("/p"))
    await run(adapter, replace(again, params={**again.params, "run_id": rerun}), solved("/p/reruns"))
    valid = await AsyncCalibrationRepository(database).list_active(1.5)
    assert [table.path for table in valid] == ["/p/reruns/x.b", "/p/reruns/x.g"]


async def test_the_log_of_a_run_tells_that_a_stage_was_stopped_from_outside(database: DatabaseAdapter) -> None:
    class Stopped(StageContext):
        async def run_child(self, target: str, options: Mapping[str, Any], **words: Any) -> ChildResult:
            raise asyncio.CancelledError

    class Lines:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def append(self, run_id: str, level: str, source: str, message: str) -> None:
            self.lines.append(f"{level} {source}: {message}")

    log = Lines()
    adapter = Adapter(AsyncProductRecorder(database), "0.1.0+gabc", logbook=log)
    with pytest.raises(asyncio.CancelledError):
        await run(adapter, task(workflows.CONVERT), Stopped({}, {}))
    assert log.lines[-1].startswith("WARNING convert-uvh5-to-ms: stopped from outside")
