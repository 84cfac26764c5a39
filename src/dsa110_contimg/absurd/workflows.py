"""The shape of the work on one observation: which tasks there are, and what waits for what.

::

    convert-uvh5-to-ms → flagging → calibration-solve → calibration-apply → imaging → source-finding → validation
            └──────────────┴───────────────┴─────────── done ──┴──────────────┴───────────┴──────────────┴→ finish-run

Every stage depends on all stages before it, so that it is offered their results; ``finish-run`` waits until each of
them has ended in whatever way, and writes the end of the run.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import NAMESPACE_OID, UUID, uuid5

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.specs import Dependency, Policy, TaskSpec
from dsa110_contimg.absurd.task_calls import ENDED
from dsa110_contimg.api.interfaces import JobRecord, ProductRecorder, Recording
from dsa110_contimg.pipeline.naming import Products, run_id

CONVERT = "convert-uvh5-to-ms"
FLAG = "flagging"
SOLVE = "calibration-solve"
APPLY = "calibration-apply"
IMAGE = "imaging"
EXTRACT = "source-finding"
ASSESS = "validation"
FINISH = "finish-run"

#: The stages in their order.
STAGES = (CONVERT, FLAG, SOLVE, APPLY, IMAGE, EXTRACT, ASSESS)


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


def _nodes(run: str, group: ObservationFiles, products: Products, workflow_id: UUID) -> list[TaskSpec]:
    """Return the tasks of one observation with their dependencies."""
    common = {"run_id": run, "group_id": group.stamp}
    nodes: list[TaskSpec] = []
    for name, options in [*_options(group, products).items(), (FINISH, {})]:
        policy: Policy = "done" if name == FINISH else "success"
        earlier = tuple(Dependency(node.task_id, policy) for node in nodes)
        key = f"{workflow_id} {name}"
        nodes.append(TaskSpec(name, {**common, "options": options}, depends_on=earlier, idempotency_key=key))
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
