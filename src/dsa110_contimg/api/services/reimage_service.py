"""Another version of an image: ordered here, made by the stage ``reimaging`` of the durable queue."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from dsa110_contimg.absurd.options import nearest
from dsa110_contimg.absurd.workflows import CONVERT, FLAG, IMAGE, REIMAGE, SOLVE
from dsa110_contimg.api.exceptions import (
    DSA110APIError,
    FileNotAccessibleError,
    QueueDisabledError,
    required,
)
from dsa110_contimg.api.file_access import FileStore
from dsa110_contimg.api.interfaces import (
    ImageRecord,
    JobRecord,
    MSRepositoryProtocol,
    ProvenanceRecord,
    ProvenanceRepositoryProtocol,
)
from dsa110_contimg.api.lineage_repository import AsyncLineageRepository
from dsa110_contimg.api.schemas.lineage import ReimageRequest
from dsa110_contimg.api.services.async_services import AsyncImageService
from dsa110_contimg.api.services.lineage_service import number_of, root_of
from dsa110_contimg.api.services.rerun_service import Asked
from dsa110_contimg.api.services.work_service import WorkService
from dsa110_contimg.api.work_orders import REIMAGE_CHAIN, WorkOrder, order_id, run_name, workflow_of
from dsa110_contimg.pipeline.choices import ImageChoices

View = dict[str, Any]
Options = Mapping[str, Any]

#: What can be chosen, in the words of the imager.
CHOICES = tuple(field.name for field in fields(ImageChoices))
#: The same, in the words of clients.
_SUPPORTED = ("imsize", "cell", "niter", "robust")
#: What the verdict on an image needs to know of its visibilities: stage that told it → names.
_FACTS: Mapping[str, tuple[str, ...]] = {
    CONVERT: ("missing_subbands",), FLAG: ("flagged_fraction_live",), SOLVE: ("median_snr", "calibrator"),
}  # fmt: skip
_MARK = "_reimage_"


class ReimageError(DSA110APIError):
    """A version of an image that cannot be made: by what is wanted, or because its visibilities are not there."""

    status_code = 422
    error_code = "CANNOT_REIMAGE"
    action = "Correct the named parameter; or, if the data are gone, do the run again."


@dataclass(frozen=True, slots=True)
class Origin:
    """What an image was made of, and how."""

    ms_path: str  # calibrated
    chosen: Options
    facts: Options


class ReimageService:
    """Orders further versions of images.

    Parameters
    ----------
    images, measurement_sets, provenance
        What is known of an image.
    lineage : AsyncLineageRepository
        Numbers versions.
    files : FileStore
        Knows whether the visibilities are still there.
    work : WorkService
        Accepts the order.
    tasks_enabled : bool
        Whether there is a durable queue.
    """

    def __init__(
        self,
        images: AsyncImageService,
        measurement_sets: MSRepositoryProtocol,
        provenance: ProvenanceRepositoryProtocol,
        lineage: AsyncLineageRepository,
        files: FileStore,
        work: WorkService,
        *,
        tasks_enabled: bool,
    ) -> None:
        self._images = images
        self._measurement_sets = measurement_sets
        self._provenance = provenance
        self._lineage = lineage
        self._files = files
        self._work = work
        self._tasks_enabled = tasks_enabled

    async def reimage(self, image_id: str, wanted: ReimageRequest, asked: Asked) -> View:
        """Order another version of an image, as a new run; durable when this returns.

        Parameters
        ----------
        image_id : str
            The image that it is made after; it stays as it is.
        wanted : ReimageRequest
            What is to be otherwise than with that image.
        asked : Asked
            Who asks.

        Raises
        ------
        RecordNotFoundError
            There is no such image.
        ReimageError
            The imager has no such parameter, or the calibrated visibilities are not there.
        QueueDisabledError
            There is no durable queue.
        """
        parent = await self._images.find(image_id)
        name = order_id(asked.seed, f"reimage {number_of(parent)}")
        known = await self._work.orders.find(name)  # the same request, whose reply was lost
        if known is not None:
            return await self._reply(parent, known, connected=True)
        order, job = await self._plan(parent, wanted, asked, name)
        return await self._reply(parent, order, await self._work.accept(order, job))

    async def _reply(self, parent: ImageRecord, order: WorkOrder, connected: bool) -> View:
        kept = await self._work.orders.find(order.id) or order  # of two at once, the first
        version, run_id = kept.meta["version"], kept.run_id
        where = "is in the queue" if connected else "is kept in the database and goes to the queue when that answers"
        return {
            "status": "queued", "job_id": kept.id, "parent_image_id": str(parent.id), "new_version": version,
            "run_id": run_id, "queue_connected": connected,
            "message": f"version {version} of image {root_of(parent)} is made by run {run_id}, which {where}",
        }  # fmt: skip

    async def _plan(
        self, parent: ImageRecord, wanted: ReimageRequest, asked: Asked, name: str
    ) -> tuple[WorkOrder, JobRecord]:
        if not self._tasks_enabled:
            raise QueueDisabledError
        _require_supported(wanted)
        origin = await self._origin(parent)
        chosen = {**origin.chosen, **wanted.choices()}
        _require_possible(chosen)
        ms = required(await self._measurement_sets.get_metadata(parent.ms_path), "MeasurementSet", parent.ms_path)
        version = await self._lineage.next_version(root_of(parent))
        now_s = time.time()
        run_id = run_name(parent.run_id, _MARK, name, now_s)
        meta = {"parent_image_id": str(parent.id), "version": version, **asked.meta}
        params = {
            "reimage_of": str(parent.id),
            "options": {"ms_path": origin.ms_path, **chosen, **origin.facts},
            "lineage": {
                "parent_id": parent.id, "root_id": root_of(parent), "version": version, "ms_path": parent.ms_path,
                "field_name": parent.field_name,
            },
        }  # fmt: skip
        job = JobRecord(run_id, ms.group_id, "pending", parent.ms_path, workflow_of(name), now_s, params=params)
        return WorkOrder(name, REIMAGE_CHAIN, "absurd", {}, run_id, meta, created_at=now_s), job

    # ---------------------------------------------------------------------------------------------- where it comes from
    async def _origin(self, image: ImageRecord) -> Origin:
        """Return what an image was made of, when that is still there."""
        made = [
            stage
            for stage in await self._provenance.list_for_file(image.path)
            if stage.stage in (IMAGE, REIMAGE) and _paths(stage, "output", image.path)
        ]
        if not made:
            raise ReimageError(
                f"It is not recorded which visibilities image {image.id} was made of; do the run {image.run_id} again",
                {"image_id": str(image.id)},
            )
        imaging = made[-1]
        [ms_path, *_] = [*_paths(imaging, "input"), None]
        await self._require_there(image, ms_path)
        chosen = {key: imaging.params[key] for key in CHOICES if imaging.params.get(key) is not None}
        return Origin(str(ms_path), chosen, await self._facts(image, imaging))

    async def _require_there(self, image: ImageRecord, ms_path: str | None) -> None:
        name = PurePosixPath(str(ms_path)).name
        try:
            opened = await self._files.ask(self._files.open_directory, str(ms_path))
        except FileNotAccessibleError as error:
            raise ReimageError(
                f"The calibrated Measurement Set {name} of image {image.id} is not there: it was archived or deleted; "
                f"do the run {image.run_id} again, which makes it anew",
                {"image_id": str(image.id)},
                f"the calibrated Measurement Set {ms_path} of image {image.id} cannot be opened: {error}",
            ) from error
        opened.close()

    async def _facts(self, image: ImageRecord, imaging: ProvenanceRecord) -> Options:
        """Return what is known of the visibilities: as a version was told it, or as the stages of the run said it."""
        names = [name for told in _FACTS.values() for name in told]
        if imaging.stage == REIMAGE:
            return {name: imaging.params[name] for name in names}
        stages = {stage.stage: stage.summary for stage in await self._provenance.list_for_run(imaging.run_id)}
        facts = {
            name: stages[stage][name]
            for stage, told in _FACTS.items()
            for name in told
            if name in stages.get(stage, {})
        }
        if missing := [stage for stage, told in _FACTS.items() if not facts.keys() >= set(told)]:
            raise ReimageError(
                f"It is not recorded what {' and '.join(missing)} of run {imaging.run_id} said, by which another "
                f"version of image {image.id} would be judged; do the run again",
                {"image_id": str(image.id), "run_id": imaging.run_id},
            )
        return facts


def _paths(stage: ProvenanceRecord, role: str, path: str | None = None) -> Sequence[str]:
    """Return the files that a stage used or made, or whether it was this one."""
    return [file.path for file in stage.files if file.role == role and path in (None, file.path)]


def _require_supported(wanted: ReimageRequest) -> None:
    """Refuse by name what the imager cannot be told."""
    if names := [name[:60] for name in wanted.unsupported()]:
        near = [one for name in names if (one := nearest(name, _SUPPORTED))]
        why = f"did you mean {near[0]!r}?" if near else "CLEAN makes its own mask and goes down to the noise by itself;"
        raise ReimageError(
            f"{', '.join(names[:10])} cannot be chosen: {why} what can be chosen: {', '.join(_SUPPORTED)}",
            {"fields": names[:10], "supported": list(_SUPPORTED)},
        )


def _require_possible(chosen: Options) -> None:
    """Refuse what the imager would refuse: each was possible by itself, together they are more sky than it images."""
    try:
        ImageChoices(**chosen)
    except ValueError as error:
        raise ReimageError(f"imsize and cell do not go together: {error}", {"fields": ["imsize", "cell"]}) from error
