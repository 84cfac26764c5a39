"""The shape of the work on one observation: which tasks there are, and what waits for what.

::

    convert-uvh5-to-ms → flagging → calibration-solve → calibration-apply → imaging → source-finding → validation
            └──────────────┴───────────────┴─────────── done ──┴──────────────┴───────────┴──────────────┴→ finish-run

Every stage depends on all stages before it, so that it is offered their results; ``finish-run`` waits until each of
them has ended in whatever way, and writes the end of the run. Another version of an image has one stage:
``reimaging ─ done → finish-run``.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol
from uuid import NAMESPACE_OID, UUID, uuid5

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.options import build
from dsa110_contimg.absurd.specs import Dependency, Policy, TaskSpec
from dsa110_contimg.absurd.task_calls import ENDED
from dsa110_contimg.api.interfaces import JobRecord, ProductRecorder, Recording
from dsa110_contimg.pipeline.choices import (
    ApplyChoices,
    AssessChoices,
    Choices,
    ConvertChoices,
    ExtractChoices,
    FlagChoices,
    ImageChoices,
    SolveChoices,
)
from dsa110_contimg.pipeline.naming import Products, run_id

CONVERT = "convert-uvh5-to-ms"
FLAG = "flagging"
SOLVE = "calibration-solve"
APPLY = "calibration-apply"
IMAGE = "imaging"
EXTRACT = "source-finding"
ASSESS = "validation"
FINISH = "finish-run"
_SOON = 100  # before all stages that wait: who looks at a run is not to see it going on when its work is done
REIMAGE = "reimaging"

#: The stages in their order, and what can be chosen of each.
CHOICES: Mapping[str, type[Choices]] = {
    CONVERT: ConvertChoices, FLAG: FlagChoices, SOLVE: SolveChoices, APPLY: ApplyChoices, IMAGE: ImageChoices,
    EXTRACT: ExtractChoices, ASSESS: AssessChoices,
}  # fmt: skip
STAGES = tuple(CHOICES)
#: The stage of a run that makes another version of an image.
REIMAGE_STAGES = (REIMAGE,)


class ObservationFiles(Protocol):
    """The subband files of one observation."""

    @property
    def stamp(self) -> str:
        """Stamp of the group, ``YYYY-MM-DDTHH:MM:SS``."""

    @property
    def files(self) -> Sequence[str]:
        """Absolute paths of the subband files."""


@dataclass(frozen=True, slots=True)
class SpawnedRun:
    """A run of the pipeline that is in the queue."""

    run_id: str
    workflow_id: UUID
    created: bool  # False: this observation is already done, or on its way


async def spawn_observation(
    client: AbsurdClient, recorder: ProductRecorder, group: ObservationFiles, data_root: Path
) -> SpawnedRun:
    """Put the whole work on one observation into the queue, once.

    An observation that is completed, waiting or running is left as it is; one that failed is started again with a new
    workflow. The run is recorded before its tasks are spawned: a crash between the two leaves a run without tasks,
    which the next call completes. Calls at the same time choose the same id for the workflow, and each task has an
    idempotency key within it, so that one of them spawns and the others find what it spawned.
    """
    products = Products(data_root, group.stamp)
    run = run_id(str(products.measurement_set))
    known = await recorder.get_job(run)
    if known and known.workflow_id and known.status != "failed" and await client.get_workflow(UUID(known.workflow_id)):
        return SpawnedRun(run, UUID(known.workflow_id), created=False)
    workflow_id = await _free_workflow_id(client, run, known)
    job = JobRecord(
        run_id=run, group_id=group.stamp, status="pending", ms_path=str(products.measurement_set),
        workflow_id=str(workflow_id), created_at=time.time(), params={"files": list(group.files)},
    )  # fmt: skip
    await recorder.record(Recording(job=job))
    spawned = await client.spawn_workflow(
        f"observation {group.stamp}", _nodes(run, group, products, workflow_id), workflow_id=workflow_id,
        metadata={"run_id": run, "group_id": group.stamp},
    )  # fmt: skip
    return SpawnedRun(run, workflow_id, created=any(task.created for task in spawned))


async def spawn_rerun(client: AbsurdClient, job: JobRecord, data_root: Path) -> None:
    """Put the work on an observation into the queue as another run, which writes beside the first and not over it.

    Calling it again changes nothing: the run says which workflow it has.

    Parameters
    ----------
    client : AbsurdClient
    job : JobRecord
        The recorded run; ``params`` holds ``files`` and, if any, ``options``: stage → options that differ.
    data_root : Path
        Directory of all data products.
    """
    if job.workflow_id is None:
        raise ValueError(f"run {job.run_id} has no workflow id; record it with one")
    group = _RecordedFiles(job.group_id, tuple(job.params["files"]))
    workflow_id = UUID(job.workflow_id)
    products = rerun_products(data_root, job.run_id, job.group_id)
    await client.spawn_workflow(
        f"observation {job.group_id} again",
        _nodes(job.run_id, group, products, workflow_id, job.params.get("options") or {}), workflow_id=workflow_id,
        metadata={"run_id": job.run_id, "group_id": job.group_id, "rerun_of": job.params.get("rerun_of")},
    )  # fmt: skip


async def spawn_reimage(client: AbsurdClient, job: JobRecord, data_root: Path) -> None:
    """Put the making of another version of an image into the queue; calling it again changes nothing.

    Parameters
    ----------
    client : AbsurdClient
    job : JobRecord
        The recorded run; ``params`` holds ``options`` of the stage but for the paths it writes, and ``lineage``: what
        the image is recorded with.
    data_root : Path
        Directory of all data products.
    """
    if job.workflow_id is None:
        raise ValueError(f"run {job.run_id} has no workflow id; record it with one")
    products = Products(data_root / "reimages" / job.run_id, job.group_id)
    paths = {
        "image_path": str(products.image), "flat_noise_path": str(products.flat_noise_image),
        "residual_path": str(products.residual_image), "catalogue_path": str(products.catalogue),
    }  # fmt: skip
    common = {"run_id": job.run_id, "group_id": job.group_id}
    params = {**common, "options": {**job.params["options"], **paths}, "lineage": job.params["lineage"]}
    imaging = TaskSpec(REIMAGE, params, idempotency_key=f"{job.workflow_id} {REIMAGE}")
    end = TaskSpec(
        FINISH, {**common, "options": {"directory": str(products.root)}},
        depends_on=(Dependency(imaging.task_id, "done"),), idempotency_key=f"{job.workflow_id} {FINISH}",
        priority=_SOON,
    )  # fmt: skip
    await client.spawn_workflow(
        f"image {job.params['reimage_of']} again", [imaging, end], workflow_id=UUID(job.workflow_id),
        metadata={**common, "reimage_of": job.params["reimage_of"]},
    )  # fmt: skip


def rerun_products(data_root: Path, run: str, stamp: str) -> Products:
    """Return the paths of what a rerun makes: a directory of its own."""
    return Products(data_root / "reruns" / run, stamp)


def require_choices(stage: str, chosen: Mapping[str, Any]) -> None:
    """Refuse what cannot be chosen of a stage; the stage itself judges by the same class.

    Raises
    ------
    OptionsError
        Names the option, its value and the remedy.
    """
    build(CHOICES[stage], dict(chosen), stage)


def choosable(stage: str) -> frozenset[str]:
    """Return the names of what can be chosen of a stage."""
    return frozenset(choice.name for choice in fields(CHOICES[stage]))


def fixed_options(stage: str) -> frozenset[str]:
    """Return the options of a stage that a caller cannot choose: the paths."""
    return frozenset(_options(_RecordedFiles("", ()), Products(Path(), ""))[stage])


@dataclass(frozen=True, slots=True)
class _RecordedFiles:
    stamp: str
    files: Sequence[str]


async def _free_workflow_id(client: AbsurdClient, run: str, known: JobRecord | None) -> UUID:
    """Return the id under which a run is spawned: the same for everybody who finds it in the same state.

    Workflows of this run that have ended are passed over: the run failed, or the record of it was lost.
    """
    if known and known.workflow_id and known.status != "failed":
        return UUID(known.workflow_id)  # recorded, and not yet spawned
    workflow_id = _next_workflow_id(run, known.workflow_id if known else None)
    while (there := await client.get_workflow(workflow_id)) and there["status"] in ENDED:
        workflow_id = _next_workflow_id(run, str(workflow_id))
    return workflow_id


def _next_workflow_id(run: str, before: str | None) -> UUID:
    return uuid5(NAMESPACE_OID, f"{run} after {before}")


def _nodes(
    run: str,
    group: ObservationFiles,
    products: Products,
    workflow_id: UUID,
    chosen: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[TaskSpec]:
    """Return the tasks of one observation with their dependencies; ``chosen``: stage → further options."""
    common = {"run_id": run, "group_id": group.stamp}
    nodes: list[TaskSpec] = []
    for name, options in [*_options(group, products).items(), (FINISH, {})]:
        policy: Policy = "done" if name == FINISH else "success"
        earlier = tuple(Dependency(node.task_id, policy) for node in nodes)
        key = f"{workflow_id} {name}"
        given = {**(chosen or {}).get(name, {}), **options}
        priority = _SOON if name == FINISH else 0
        task = TaskSpec(
            name, {**common, "options": given}, depends_on=earlier, idempotency_key=key, priority=priority
        )  # fmt: skip
        nodes.append(task)
    return nodes


def _options(group: ObservationFiles, products: Products) -> Mapping[str, Mapping[str, Any]]:
    """Return the options of each stage that are known before the first one runs: the paths."""
    ms, calibrated = str(products.measurement_set), str(products.calibrated_ms)
    tables = {"bandpass_path": str(products.bandpass_table), "gain_path": str(products.gain_table)}
    image, flat_noise = str(products.image), str(products.flat_noise_image)
    return {
        CONVERT: {"files": list(group.files), "ms_path": ms},
        FLAG: {"ms_path": ms},
        SOLVE: {"ms_path": ms, **tables},
        APPLY: {"ms_path": ms, **tables, "output_path": calibrated},
        IMAGE: {
            "ms_path": calibrated, "image_path": image, "flat_noise_path": flat_noise,
            "residual_path": str(products.residual_image),
        },
        EXTRACT: {"image_path": image, "flat_noise_path": flat_noise, "catalogue_path": str(products.catalogue)},
        ASSESS: {},
    }  # fmt: skip
