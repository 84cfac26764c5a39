"""Another version of an image: ordered durably, made by the real imager of the same visibilities, recorded whole."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from astropy.io import fits

from dsa110_contimg.absurd.adapter import Adapter
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.workflows import CONVERT, FINISH, FLAG, REIMAGE, SOLVE
from dsa110_contimg.api import schemas
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import ProductFile, ProvenanceRecord, Recording
from fixtures import writers
from fixtures.api_server import serving
from fixtures.api_world import QUEUE_OFF, RUN_ID, SOURCE_ID, World, recordings
from fixtures.queue_bench import Bench, open_bench
from fixtures.work_bench import WorkBench, work_bench

pytest_plugins = ["fixtures.queue_database"]

FACTS = {
    CONVERT: {"missing_subbands": [3, 11]}, FLAG: {"flagged_fraction_live": 0.05},
    SOLVE: {"median_snr": 90.0, "calibrator": "3C48"},
}  # fmt: skip
EARLIER_CLIENT = {
    "imsize": [5040, 5040], "cell": "2.5arcsec", "niter": 10000, "threshold": "0.5mJy", "weighting": "briggs",
    "robust": 0.5, "deconvolver": "mtmfs", "use_existing_mask": False,
}  # fmt: skip


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


def provenance_of(world: World) -> ProvenanceRecord:
    """Return how the world's image was made."""
    [known] = recordings(world)
    assert known.provenance is not None
    return known.provenance


async def record(world: World, *stages: ProvenanceRecord) -> None:
    async with open_database(world.config.database, world.config.timeouts) as adapter:
        for stage in stages:
            await AsyncProductRecorder(adapter).record(Recording(provenance=stage))


async def tell_stages(world: World, facts: Mapping[str, Mapping[str, Any]] = FACTS) -> None:
    """Record what the stages before imaging said."""
    imaging = provenance_of(world)
    await record(world, *(replace(imaging, stage=name, summary=said, files=()) for name, said in facts.items()))


async def refused(bench: WorkBench, body: Any, *words: str, status: int = 422, image_id: str = "1") -> None:
    reply = await bench.ask("POST", f"/images/{image_id}/reimage", body)
    assert reply.status_code == status, (body, reply.text)
    told = schemas.ErrorBody.model_validate_json(reply.content)
    assert all(word in reply.text for word in words), (words, told.message)


async def test_a_version_is_ordered_once_with_what_is_otherwise(
    redis_url: str, tmp_path: Path, queue: Bench, each_database: dict[str, str]
) -> None:
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path / "state", redis_url, tasks, **each_database) as bench:
        await tell_stages(bench.world)
        wanted = {"imsize": [256, 256], "cell": "2.5 arcsec", "robust": -0.5, "weighting": "briggs"}
        told = await bench.done("POST", "/images/1/reimage", wanted, Idempotency_Key="a")
        schemas.ReimageReply.model_validate(told)
        assert (told["status"], told["parent_image_id"], told["new_version"]) == ("queued", "1", 2)
        assert await bench.done("POST", "/images/1/reimage", wanted, Idempotency_Key="a") == told
        await bench.services.work.orders.forget_replies(float("inf"))  # the reply was lost, the order was not
        again = await bench.done("POST", "/images/1/reimage", wanted, Idempotency_Key="a")
        assert (again["job_id"], again["new_version"]) == (told["job_id"], 2)
        job = await bench.job(told["run_id"])
        assert (job.status, job.ms_path, job.params["reimage_of"]) == ("pending", bench.world.ms_path, "1")
        workflow = await queue.client.get_workflow(UUID(str(job.workflow_id)))
        assert workflow is not None
        imaging, finish = workflow["tasks"]
        assert (imaging["task_name"], finish["task_name"]) == (REIMAGE, FINISH)
        options = imaging["params"]["options"]
        chosen = {"ms_path": bench.world.ms_path, "n_pixels": 256, "cell_arcsec": 2.5, "robust": -0.5}
        assert options.items() >= {**chosen, "calibrator": "3C48"}.items()
        assert f"/reimages/{told['run_id']}/images/" in options["image_path"]
        assert len(await queue.client.list_workflows()) == 1
        shown = await bench.done("GET", f"/queue/jobs/{told['job_id']}")
        assert (shown["kind"], shown["meta"]["requested_by"]) == ("reimage-chain", "key for write:jobs")
        both = [bench.done("POST", "/images/1/reimage") for _ in range(2)]
        assert sorted(one["new_version"] for one in await asyncio.gather(*both)) == [3, 4]
        assert (await bench.ask("POST", f"/jobs/{told['run_id']}/rerun")).status_code == 409
        reply = await bench.ask("POST", "/images/1/reimage", {}, **{"X-API-Key": bench.keys["write:qa"]})
        assert reply.status_code == 403


async def test_what_cannot_be_imaged_is_refused_by_name_and_nothing_is_ordered(
    redis_url: str, tmp_path: Path, queue: Bench
) -> None:
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path / "state", redis_url, tasks) as bench:
        await tell_stages(bench.world, {name: said for name, said in FACTS.items() if name != SOLVE})
        await refused(bench, {}, "calibration-solve", "do the run again")
        await tell_stages(bench.world)
        await refused(bench, EARLIER_CLIENT, "deconvolver, threshold cannot be chosen", "imsize, cell, niter, robust")
        await refused(
            bench, {"robst": 0}, "robst cannot be chosen: did you mean 'robust'?", "imsize, cell, niter, robust"
        )
        for wrong, named in (
            ({"imsize": [256, 128]}, "imsize"), ({"imsize": [255, 255]}, "imsize"), ({"imsize": [64]}, "imsize"),
            ({"imsize": [16384, 16384]}, "imsize"), ({"cell": "2.5"}, "cell"), ({"cell": "0arcsec"}, "cell"),
            ({"cell": 2.5}, "cell"), ({"robust": 3}, "robust"), ({"niter": 0}, "niter"),
            ({"weighting": "natural"}, "weighting"), ({"use_existing_mask": True}, "use_existing_mask"),
            ({"image_path": "/etc/x"}, "image_path"), ({"ms_path": "/data/x.ms"}, "ms_path"),
            ({"imsize": [8192, 8192], "cell": "60arcsec"}, "degrees a side"),
        ):  # fmt: skip
            await refused(bench, wrong, named)
        await refused(bench, {}, "IMAGE_NOT_FOUND", status=404, image_id="77")
        visibilities, elsewhere = bench.world.ms_path, tmp_path / "archived.ms"
        await asyncio.to_thread(Path(visibilities).rename, elsewhere)
        await refused(bench, {}, Path(visibilities).name, "archived or deleted")
        await asyncio.to_thread(Path(visibilities).symlink_to, elsewhere)
        await refused(bench, {}, "archived or deleted")
        await record(bench.world, replace(provenance_of(bench.world), files=()))
        await refused(bench, {}, "not recorded which visibilities")
        assert await queue.client.list_workflows() == []
        assert (await bench.done("GET", "/queue"))["accepted"] == {}
        async with serving(bench.world.config, QUEUE_OFF, world=bench.world) as without:
            await refused(WorkBench(bench.environ, without, bench.keys), {}, "ABSURD_DISABLED", status=503)


async def work_through(world: World, queue: Bench, run_id: str, pictures: list[str]) -> None:
    """Have a worker with the real stages do the run."""

    async def picture(path: str) -> None:
        pictures.append(path)

    async with open_database(world.config.database, world.config.timeouts) as adapter:
        tasks = Adapter(AsyncProductRecorder(adapter), "1.2.3", picture).tasks()
        async with queue.worker(tasks.handlers()):
            [row] = [row for row in await queue.client.list_workflows() if run_id in str(row)]
            await queue.client.wait_workflow(row["workflow_id"], 120)


async def observed(world: World, directory: Path) -> str:
    """Write calibrated visibilities, and record that the world's image was made of them; return their path."""
    simulation = writers.write_ideal_observation(
        directory, n_antennas=16, n_times=4, noise=True, missing_subbands=writers.ALL_BUT_FOUR
    )
    path = world.ms_path.replace(".ms", "_cal.ms")
    await asyncio.to_thread(writers.convert_observation, simulation, Path(path))
    files = (
        ProductFile(path, "input", "ms", 1, "0" * 64),
        ProductFile(world.image_path, "output", "image", 1, "f" * 64),
    )
    params = {"ms_path": path, "n_pixels": 512, "cell_arcsec": 7.0, "robust": 0.25}
    await record(world, replace(provenance_of(world), params=params, files=files))
    await tell_stages(world)
    return path


@pytest.mark.slow
async def test_a_version_with_other_pixels_is_made_judged_and_recorded_whole(
    redis_url: str, tmp_path: Path, queue: Bench
) -> None:
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path / "state", redis_url, tasks) as bench:
        ms_path = await observed(bench.world, tmp_path / "raw")
        before = [
            await bench.done("GET", path) for path in ("/images/1", "/ms", f"/sources/{SOURCE_ID.replace('+', '%2B')}")
        ]
        told = await bench.done("POST", "/images/1/reimage", {"imsize": [256, 256]})
        pictures: list[str] = []
        await work_through(bench.world, queue, told["run_id"], pictures)

        job = await bench.job(told["run_id"])
        assert (job.status, job.error) == ("completed", None)
        made = await bench.done("GET", "/images/2")
        assert (made["version"], made["parent_id"], made["run_id"]) == (2, "1", told["run_id"])
        assert made["imaging_params"] == {
            "imsize": [256, 256], "cell": "7arcsec", "niter": 20000, "robust": 0.25, "weighting": "briggs",
        }  # fmt: skip
        header = fits.getheader(made["path"])
        assert (header["NAXIS1"], header["NAXIS2"], header["ROBUST"]) == (256, 256, 0.25)
        assert made["qa_grade"] in ("good", "warn", "fail")
        assert (await bench.done("GET", "/images/2/qa"))["quality_metrics"]["calibration_snr"] == 90.0
        assert pictures == [made["path"]]
        [stage] = (await bench.done("GET", "/images/2/provenance"))["stages"]
        assert (stage["stage"], stage["code_version"]) == (REIMAGE, "1.2.3")
        assert ms_path in [file["path"] for file in stage["inputs"]]
        assert {Path(file["path"]).suffix for file in stage["outputs"]} == {".fits", ".csv"}
        assert all(file["size_bytes"] > 0 for file in stage["outputs"])
        versions = await bench.done("GET", "/images/2/versions")
        assert [(one["id"], one["version"]) for one in versions["chain"]] == [("1", 1), ("2", 2)]
        after = [
            await bench.done("GET", path) for path in ("/images/1", "/ms", f"/sources/{SOURCE_ID.replace('+', '%2B')}")
        ]
        assert after == before, "the first image, the observation and the light curves stay as they were"

        third = await bench.done("POST", "/images/2/reimage", {"robust": 1.0})
        assert third["new_version"] == 3
        options = (await bench.job(third["run_id"])).params["options"]
        expected = {"ms_path": ms_path, "n_pixels": 256, "cell_arcsec": 7.0, "robust": 1.0, "median_snr": 90.0}
        assert options.items() >= expected.items()
        assert third["run_id"].startswith(f"{RUN_ID}_reimage_")
        assert third["run_id"].count("_reimage_") == 1
