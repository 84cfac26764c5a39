"""Where the queue meets the science: one row per task name.

Each row says which stage function runs in the child process and what of its product is recorded. A handler runs the
stage, takes the checksums of what went in and came out, and records everything in one transaction; only then does the
worker complete the task, under its claim. A crash anywhere in between makes the task run again, and running again
leaves the same files and the same rows.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsa110_contimg.absurd import workflows
from dsa110_contimg.absurd.executor import ChildFailed, ChildResult
from dsa110_contimg.absurd.registry import Tasks, TaskType
from dsa110_contimg.absurd.stage_log import Logbook, StageLog
from dsa110_contimg.absurd.worker import ClaimedTask, TaskContext
from dsa110_contimg.api.interfaces import (
    CalibrationTableRecord,
    ImageRecord,
    JobRecord,
    MeasurementSetRecord,
    PhotometryRecord,
    ProductFile,
    ProductRecorder,
    ProvenanceRecord,
    Recording,
    SourceRecord,
)
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord
from dsa110_contimg.pipeline.errors import BadInputError
from dsa110_contimg.pipeline.products import remove
from dsa110_contimg.pipeline.quality import dynamic_range_word, flagged_word

Result = Mapping[str, Any]

#: Two positions closer than this are one source: well under the synthesised beam, well over the position errors.
SAME_SOURCE_DEG = 10.0 / 3600.0

#: Seconds after which nobody works any more on a run that was canceled.
_CANCELED_S = 3600.0

#: What of a product is written to the database row by row and therefore not repeated in the task's result.
_BULKY = ("sources", "files", "inputs")


@dataclass(frozen=True, slots=True)
class StageParams:
    """Parameters of every task of an observation's workflow."""

    run_id: str
    group_id: str
    options: Result
    lineage: Result = field(default_factory=dict)  # of another version of an image: whose, which, of what


@dataclass(frozen=True, slots=True)
class Finished:
    """A stage that has run: its own product and the products of the stages before it, by task name."""

    params: StageParams
    product: Result
    earlier: Mapping[str, Result]
    code_version: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the table: what runs in the child, with which further options, and what is recorded of it."""

    function: str
    record: Callable[[Finished], Recording]
    options: Callable[[Mapping[str, Result]], Result] = lambda earlier: {}


def _measurement_set(run: Finished, stage: str, **known: Any) -> MeasurementSetRecord:
    """Return the row of the run's Measurement Set at a stage of its life."""
    made = run.product if "start_mjd" in run.product else run.earlier[workflows.CONVERT]
    return MeasurementSetRecord(
        path=made["ms_path"], run_id=run.params.run_id, group_id=run.params.group_id, stage=stage,
        start_mjd=made["start_mjd"], end_mjd=made["end_mjd"], mid_mjd=made["mid_mjd"],
        pointing_ra_deg=made["pointing_ra_deg"], pointing_dec_deg=made["pointing_dec_deg"],
        field_name=made["field_name"], missing_subbands=tuple(made["missing_subbands"]),
        quality_note="; ".join(made["notes"]) or None, **known,
    )  # fmt: skip


def record_conversion(run: Finished) -> Recording:
    """Return the new Measurement Set."""
    return Recording(measurement_set=_measurement_set(run, "converted", processed_at=run.product["finished_at"]))


def record_flags(run: Finished) -> Recording:
    """Return the Measurement Set with its flagged fraction."""
    fraction = run.product["flagged_fraction"]
    return Recording(measurement_set=_measurement_set(run, "flagged", flagged_fraction=fraction))


def record_solution(run: Finished) -> Recording:
    """Return the bandpass and the gain table."""
    made = run.product
    bandpass = CalibrationTableRecord(
        path=made["bandpass_path"], set_name=run.params.run_id, table_type="BP", order_index=30,
        source_ms_path=run.earlier[workflows.CONVERT]["ms_path"], cal_field=made["calibrator"], refant=made["refant"],
        created_at=made["finished_at"], valid_start_mjd=made["valid_start_mjd"], valid_end_mjd=made["valid_end_mjd"],
        solver_command="dsa110_contimg.pipeline.calibration.solve", solver_version=run.code_version,
        solver_params=run.params.options,
        quality_metrics={key: value for key, value in made.items() if isinstance(value, float | int)},
    )  # fmt: skip
    gains = replace(bandpass, path=made["gain_path"], table_type="GP", order_index=50)
    return Recording(calibration_tables=(bandpass, gains), calibration_qa=_calibration_qa(run))


def _calibration_qa(run: Finished) -> CalibrationQARecord:
    """Return what the solver says of its solutions; absent antennas are in none of these numbers."""
    made = run.product
    flagged = made["flagged_fraction_live"]
    gains = ("phase_scatter_deg", "amplitude_scatter", "amplitude_min", "amplitude_max")
    return CalibrationQARecord(
        ms_path=run.earlier[workflows.CONVERT]["ms_path"], overall_quality=flagged_word(flagged), flags_total=flagged,
        timestamp=made["finished_at"], bp_metrics={"avg_snr": made["median_snr_bandpass"]},
        g_metrics={"avg_snr": made["median_snr_gain"], **{name: made[name] for name in gains}},
    )  # fmt: skip


def record_application(run: Finished) -> Recording:
    """Return the Measurement Set as calibrated."""
    return Recording(measurement_set=_measurement_set(run, "calibrated", cal_applied=True))


_IMAGE_FIELDS = (
    "beam_major_arcsec", "beam_minor_arcsec", "beam_pa_deg", "noise_jy", "thermal_noise_jy", "peak_flux_jy",
    "dynamic_range", "center_ra_deg", "center_dec_deg", "imsize_x", "imsize_y", "cellsize_arcsec", "freq_ghz",
    "bandwidth_mhz", "integration_sec", "mid_mjd",
)  # fmt: skip


def _image(run: Finished, made: Result, observed: Result) -> ImageRecord:
    """Return the row of the run's image; ``observed`` says of what."""
    return ImageRecord(
        path=made["image_path"], ms_path=observed["ms_path"], run_id=run.params.run_id, type="image", pbcor=True,
        created_at=made["finished_at"], field_name=observed["field_name"], imaging_params=_imaging_params(made),
        **{name: made[name] for name in _IMAGE_FIELDS},
    )  # fmt: skip


def _imaging_params(made: Result) -> Result:
    """Return the parameters of an image, in the words in which the API takes them for another version of it."""
    if "robust" not in made:  # a task that ended before the imager told them
        return {}
    return {
        "imsize": [made["imsize_x"], made["imsize_y"]], "cell": f"{made['cellsize_arcsec']:.12g}arcsec",
        "niter": made["max_minor_iterations"], "robust": made["robust"], "weighting": "briggs",
    }  # fmt: skip


def record_image(run: Finished) -> Recording:
    """Return the image, and its Measurement Set as imaged."""
    imaged = _measurement_set(run, "imaged", cal_applied=True, imagename=run.product["image_path"])
    return Recording(measurement_set=imaged, image=_image(run, run.product, run.earlier[workflows.CONVERT]))


def record_sources(run: Finished) -> Recording:
    """Return the sources with their measurements, the brighter of two under one name.

    Each has its own name here; which of them are known already is seen when they are recorded.
    """
    image, calibrators = run.earlier[workflows.IMAGE], run.product["calibrators"]
    found = {one["name"]: one for one in reversed(run.product["sources"])}  # they come the brightest first
    return Recording(
        measurement_set=_measurement_set(run, "cataloged", cal_applied=True, imagename=image["image_path"]),
        sources=tuple(
            SourceRecord(
                name,
                name,
                one["ra_deg"],
                one["dec_deg"],
                calibrators.get(name),
                "calibrator" if name in calibrators else None,
            )
            for name, one in found.items()
        ),
        photometry=tuple(_measurement(one, image) for one in found.values()),
        same_source_deg=SAME_SOURCE_DEG,
    )


_PHOTOMETRY_FIELDS = (
    "ra_deg", "dec_deg", "peak_jyb", "peak_err_jyb", "flux_jy", "flux_err_jy", "snr", "local_rms",
    "sep_from_center_deg", "flags",
)  # fmt: skip


def _measurement(found: Result, image: Result) -> PhotometryRecord:
    """Return the row of one source in one image."""
    return PhotometryRecord(
        source_id=found["name"], image_path=image["image_path"], mjd=image["mid_mjd"], measured_at=time.time(),
        **{name: found[name] for name in _PHOTOMETRY_FIELDS},
    )  # fmt: skip


def record_assessment(run: Finished) -> Recording:
    """Return the image with its grade and the reasons for it."""
    image = _image(run, run.earlier[workflows.IMAGE], run.earlier[workflows.CONVERT])
    graded = _graded(image, run.product)
    return Recording(image=graded, image_qa=_image_qa(graded, run, run.earlier[workflows.EXTRACT]["n_sources"]))


def _graded(image: ImageRecord, verdict: Result) -> ImageRecord:
    """Return an image with the verdict on it."""
    metrics = {**verdict["metrics"], "reasons": list(verdict["reasons"])}
    return replace(image, qa_grade=verdict["grade"], qa_summary=verdict["summary"], qa_metrics=metrics)


def record_version(run: Finished) -> Recording:
    """Return another version of an image, with its verdict; the Measurement Set and light curves stay as they are."""
    lineage = run.params.lineage
    image = replace(
        _image(run, run.product, lineage),
        parent_id=lineage["parent_id"], root_id=lineage["root_id"], version=lineage["version"],
    )  # fmt: skip
    graded = _graded(image, run.product)
    return Recording(image=graded, image_qa=_image_qa(graded, run, run.product["n_sources"]))


def _image_qa(image: ImageRecord, run: Finished, n_sources: int) -> ImageQARecord:
    """Return what was measured on the image."""
    return ImageQARecord(
        ms_path=image.ms_path, image_path=image.path, rms_noise=image.noise_jy, peak_flux=image.peak_flux_jy,
        dynamic_range=image.dynamic_range, beam_major=image.beam_major_arcsec, beam_minor=image.beam_minor_arcsec,
        beam_pa=image.beam_pa_deg, num_sources=n_sources,
        overall_quality=dynamic_range_word(image.dynamic_range), timestamp=run.product["finished_at"],
    )  # fmt: skip


def assessment_options(earlier: Mapping[str, Result]) -> Result:
    """Gather the numbers that the assessment judges from the products before it."""
    image, flags = earlier[workflows.IMAGE], earlier[workflows.FLAG]
    return {
        "noise_jy": image["noise_jy"],
        "thermal_noise_jy": image["thermal_noise_jy"],
        "dynamic_range": image["dynamic_range"],
        "converged": image["converged"],
        "flagged_fraction_live": flags["flagged_fraction_live"],
        "median_snr": earlier[workflows.SOLVE]["median_snr"],
        "missing_subbands": earlier[workflows.CONVERT]["missing_subbands"],
        "n_sources": earlier[workflows.EXTRACT]["n_sources"],
        "n_unfitted": earlier[workflows.EXTRACT]["n_unfitted"],
        "catalogue_path": earlier[workflows.EXTRACT]["catalogue_path"],
        "calibrator": earlier[workflows.SOLVE]["calibrator"],
    }


#: Task name → stage. The one table to extend for a new stage.
STAGES: Mapping[str, Stage] = {
    workflows.CONVERT: Stage("dsa110_contimg.pipeline.conversion:convert", record_conversion),
    workflows.FLAG: Stage("dsa110_contimg.pipeline.flagging:flag", record_flags),
    workflows.SOLVE: Stage("dsa110_contimg.pipeline.calibration:solve", record_solution),
    workflows.APPLY: Stage("dsa110_contimg.pipeline.application:apply", record_application),
    workflows.IMAGE: Stage("dsa110_contimg.pipeline.imaging:image", record_image),
    workflows.EXTRACT: Stage("dsa110_contimg.pipeline.extraction:extract", record_sources),
    workflows.ASSESS: Stage("dsa110_contimg.pipeline.assessment:assess", record_assessment, assessment_options),
    workflows.REIMAGE: Stage("dsa110_contimg.pipeline.reimaging:reimage", record_version),
}


class Adapter:
    """Runs the tasks of the pipeline for a worker.

    Parameters
    ----------
    recorder : ProductRecorder
        Where products are recorded.
    code_version : str
        Which code runs, for provenance.
    image_made : callable, optional
        Called with the path of each new image, after it is recorded; for pictures made in advance.
    logbook : Logbook, optional
        Where each run has its log.
    """

    def __init__(
        self,
        recorder: ProductRecorder,
        code_version: str,
        image_made: Callable[[str], Awaitable[None]] | None = None,
        logbook: Logbook | None = None,
    ) -> None:
        self._recorder = recorder
        self._code_version = code_version
        self._image_made = image_made
        self._logbook = logbook

    def tasks(self) -> Tasks:
        """Return the task of each name."""
        stages = (TaskType(name, self.run_stage) for name in STAGES)
        return Tasks(*stages, TaskType(workflows.FINISH, self.finish_run))

    async def run_stage(self, params: StageParams, context: TaskContext) -> Result:
        """Run the stage of a task in a child process and record what it made."""
        task, stage = context.task, STAGES[context.task.name]
        earlier = {name: parent["result"] for name, parent in (await context.parent_results()).items()}
        await self._set_going(params)
        ran = await self._run(stage, {**params.options, **stage.options(earlier)}, params, context)
        product = {**ran.value, "finished_at": ran.finished_at}
        run = Finished(params, product, earlier, self._code_version)
        provenance = await self._provenance(task, params, context, ran)
        await self._recorder.record(replace(stage.record(run), provenance=provenance))
        if task.name in (workflows.IMAGE, workflows.REIMAGE) and self._image_made:
            await self._image_made(ran.value["image_path"])
        return _concise(product)

    async def _run(self, stage: Stage, options: Result, params: StageParams, context: TaskContext) -> ChildResult:
        """Run a stage's function in a child, and have the log of the run tell of it."""
        log = StageLog(self._logbook, params.run_id, context.task.name)
        log.say(f"attempt {context.task.attempt} begins")
        try:
            ran = await context.run_child(stage.function, options, heard=log.progress)
        except ChildFailed as error:
            log.failed(error)
            raise
        except asyncio.CancelledError:
            log.say("stopped from outside: the task was cancelled, or its worker goes", "WARNING")
            raise
        log.done(ran)
        return ran

    async def finish_run(self, params: StageParams, context: TaskContext) -> Result:
        """Record how the run ended: completed when every stage did, else failed with the first stage's reason."""
        ends = await context.parent_results()
        stages = workflows.REIMAGE_STAGES if workflows.REIMAGE in ends else workflows.STAGES
        failed = [name for name in stages if ends[name]["status"] != "completed"]
        status = "failed" if failed else "completed"
        error = f"{failed[0]}: {ends[failed[0]]['error'] or ends[failed[0]]['status']}" if failed else None
        job = replace(await self._job(params), status=status, finished_at=time.time(), error=error)
        await self._recorder.record(Recording(job=job))
        StageLog(self._logbook, params.run_id, workflows.FINISH).say(
            f"the run {status}{f': {error}' if error else ''}", "ERROR" if failed else "INFO"
        )
        if "directory" in params.options:
            await self._clear_away(Path(params.options["directory"]))
        return {"status": status, "error": error}

    async def _clear_away(self, directory: Path) -> None:
        """Remove what versions left of which nothing came: the one of this directory, and earlier ones beside it.

        A run that was canceled has no end of its own at which that could be done, and whoever works on it may write on
        for a while.
        """
        beside = await asyncio.to_thread(_names_in, directory.parent)
        now_s = time.time()
        own = await self._recorder.came_to_nothing([directory.name], now_s + 1.0)
        canceled = await self._recorder.came_to_nothing(beside, now_s - _CANCELED_S)
        for run_id in dict.fromkeys([*own, *canceled]):
            await asyncio.to_thread(remove, directory.with_name(run_id))

    async def _job(self, params: StageParams) -> JobRecord:
        job = await self._recorder.get_job(params.run_id)
        if job is None:
            raise BadInputError(f"run {params.run_id} is not recorded; ingest the observation {params.group_id} again")
        return job

    async def _set_going(self, params: StageParams) -> None:
        """Record that the run is going on; one that had ended, and of which a stage is tried again, has no end now."""
        job = await self._job(params)
        if job.status != "running":
            started_at = job.started_at or time.time()
            going = replace(job, status="running", started_at=started_at, finished_at=None, error=None)
            await self._recorder.record(Recording(job=going))

    async def _provenance(
        self, task: ClaimedTask, params: StageParams, context: TaskContext, ran: ChildResult
    ) -> ProvenanceRecord:
        """Return how the stage was run, with the checksums of what went in and came out."""
        roles = dict.fromkeys(ran.value["inputs"], "input") | dict.fromkeys(ran.value["files"], "output")
        digests = await context.run_child("dsa110_contimg.pipeline.checksums:digest_all", {"paths": list(roles)})
        files = tuple(
            ProductFile(one["path"], roles[one["path"]], _kind(one["path"]), one["size_bytes"], one["sha256"])
            for one in digests.value["digests"]
        )
        return ProvenanceRecord(
            run_id=params.run_id, stage=task.name, task_id=str(task.task_id), attempt=task.attempt,
            code_version=self._code_version, host=ran.host, started_at=ran.started_at, finished_at=ran.finished_at,
            cpu_s=ran.cpu_s, peak_rss_bytes=ran.peak_rss_bytes, params=params.options, summary=_concise(ran.value),
            files=files,
        )  # fmt: skip


_KINDS = {".hdf5": "uvh5", ".ms": "ms", ".b": "caltable", ".g": "caltable", ".fits": "image", ".csv": "catalogue"}


def _names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()] if directory.is_dir() else []


def _kind(path: str) -> str:
    return _KINDS.get(Path(path).suffix, "file")


def _concise(product: Result) -> Result:
    """Return a product without the parts that are recorded row by row; a list of sources becomes its length."""
    short = {key: value for key, value in product.items() if key not in _BULKY}
    return {**short, "n_sources": len(product["sources"])} if "sources" in product else short
