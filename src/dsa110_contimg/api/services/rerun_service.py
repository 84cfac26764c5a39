"""Runs that are done again: configured by the database, and by what the caller wants otherwise."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from dsa110_contimg.absurd.options import OptionsError, shown, unknown
from dsa110_contimg.absurd.workflows import STAGES, choosable, fixed_options, require_choices, rerun_products
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.credentials import Principal
from dsa110_contimg.api.exceptions import (
    InvalidPathError,
    InvalidStateError,
    QueueDisabledError,
    RecordNotFoundError,
    ValidationError,
)
from dsa110_contimg.api.interfaces import JobRecord
from dsa110_contimg.api.replies import iso_time
from dsa110_contimg.api.services.async_services import AsyncJobService, AsyncMSService
from dsa110_contimg.api.services.work_service import WorkService
from dsa110_contimg.api.work_orders import RERUN_CHAIN, RERUN_COMMAND, WorkOrder, order_id, run_name, workflow_of

View = dict[str, Any]
Config = Mapping[str, Any]

_NUMBERS = {"phase_center_ra": (0.0, 360.0), "phase_center_dec": (-90.0, 90.0)}
_PATHS = ("ms_path", "cal_table")
_MARK = "_rerun_"
MOST_EXPORTED = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, within which request: the same seed asks for the same thing."""

    seed: str
    principal: Principal

    @property
    def meta(self) -> dict[str, str | None]:
        """What is told of them with the work that they ordered."""
        who = self.principal
        return {"requested_by": who.actor, "key_id": who.key_id, "auth_method": who.auth_method}


@dataclass(frozen=True, slots=True)
class Plan:
    """A rerun that could be accepted."""

    order: WorkOrder
    job: JobRecord


class RerunService:
    """Orders that a run be done again.

    Parameters
    ----------
    jobs, measurement_sets
        What is known of the run.
    work : WorkService
        Accepts it.
    config : APIConfig
        The command that does it, if there is one, and where data lie.
    tasks_enabled : bool
        Whether there is a durable queue, which does it where there is no command.
    """

    def __init__(
        self,
        jobs: AsyncJobService,
        measurement_sets: AsyncMSService,
        work: WorkService,
        config: APIConfig,
        *,
        tasks_enabled: bool,
    ) -> None:
        self._jobs = jobs
        self._measurement_sets = measurement_sets.measurement_sets
        self._work = work
        self._command = config.queue.rerun_command
        self._products_dir = config.paths.products_dir
        self._roots = config.paths.served_roots
        self._tasks_enabled = tasks_enabled

    async def rerun(self, run_id: str, wanted: Config, asked: Asked) -> View:
        """Order a run again, as a new run; durable when this returns.

        Parameters
        ----------
        run_id : str
            The run that is done again; it and its products stay as they are.
        wanted : mapping
            What is to be otherwise: for the command ``ms_path, cal_table, phase_center_ra, phase_center_dec``; for the
            stages of the queue, stage → options.
        asked : Asked
            Who asks.

        Raises
        ------
        RecordNotFoundError
            There is no such run.
        ValidationError
            What is wanted cannot be.
        InvalidStateError
            Too little is known of the run.
        QueueDisabledError
            There is neither a command nor a durable queue.
        """
        job = await self._jobs.find(run_id)
        name = order_id(asked.seed, f"rerun {run_id}")
        known = await self._work.orders.find(name)  # the same request, whose reply was lost
        plan = None if known else await self._plan(job, wanted, asked, name)
        connected = await self._work.accept(plan.order, plan.job) if plan else True
        new_run = known.run_id if known else plan.job.run_id if plan else None
        where = "is in the queue" if connected else "is kept in the database and goes to the queue when that answers"
        return {
            "status": "queued", "job_id": name, "original_run_id": run_id, "run_id": new_run, "new_run_id": new_run,
            "message": f"{run_id} is done again as {new_run}, which {where}", "queue_connected": connected,
        }  # fmt: skip

    async def rerun_many(self, run_ids: list[str], asked: Asked) -> View:
        """Order several runs again; each for itself."""
        told: View = {"status": "queued", "enqueued": [], "not_found": [], "refused": [], "queue_connected": True}
        for run_id in dict.fromkeys(run_ids):
            try:
                one = await self.rerun(run_id, {}, asked)
            except RecordNotFoundError:
                told["not_found"].append(run_id)
            except (InvalidStateError, ValidationError) as error:
                told["refused"].append({"run_id": run_id, "reason": error.message})
            else:
                told["enqueued"].append({key: one[key] for key in ("job_id", "new_run_id")} | {"run_id": run_id})
                told["queue_connected"] = told["queue_connected"] and one["queue_connected"]
        return told

    async def cancel_many(self, run_ids: list[str]) -> View:
        """Cancel several runs; each for itself."""
        told: View = {"status": "ok", "canceled": [], "not_found": [], "ended": []}
        for run_id in dict.fromkeys(run_ids):
            try:
                await self._work.cancel_run(run_id)
            except RecordNotFoundError:
                told["not_found"].append(run_id)
            except InvalidStateError:
                told["ended"].append(run_id)
            else:
                told["canceled"].append(run_id)
        return told

    async def export(self, ids: str) -> list[tuple[Any, ...]]:
        """Return rows about runs, given by their ids with commas between.

        Raises
        ------
        ValidationError
            There are too many.
        """
        run_ids = list(dict.fromkeys(filter(None, map(str.strip, ids.split(",")))))
        if len(run_ids) > MOST_EXPORTED:
            raise ValidationError(f"ids names {len(run_ids)} runs; at most {MOST_EXPORTED} can be had at once", "ids")
        rows = await self._work.orders.export_runs(run_ids)
        return [(run, status, iso_time(began), iso_time(ended), *more) for run, status, began, ended, *more in rows]

    # ----------------------------------------------------------------------------------------------------------- plans
    async def _plan(self, job: JobRecord, wanted: Config, asked: Asked, name: str) -> Plan:
        now_s = time.time()
        new_run = run_name(job.run_id, _MARK, name, now_s)
        meta = {"original_run_id": job.run_id, **asked.meta}
        order = WorkOrder(name, RERUN_COMMAND, "rq", {}, new_run, meta, created_at=now_s)
        fresh = JobRecord(new_run, job.group_id, "pending", job.ms_path, created_at=now_s)
        if self._command:
            return await self._by_command(job, wanted, order, fresh)
        return self._by_stages(job, wanted, order, fresh)

    async def _by_command(self, job: JobRecord, wanted: Config, order: WorkOrder, fresh: JobRecord) -> Plan:
        config = {**await self._known(job), **job.params.get("config", {}), **self._checked(wanted)}
        arguments = {**config, "original_run_id": job.run_id}
        try:
            self._command.fill({**arguments, "run_id": fresh.run_id})
        except ValueError as error:
            raise InvalidStateError(f"Run {job.run_id} cannot be done again: {error}") from error
        params = {"rerun_of": job.run_id, "config": config}
        return Plan(replace(order, arguments=arguments), replace(fresh, ms_path=config["ms_path"], params=params))

    async def _known(self, job: JobRecord) -> View:
        """Return the configuration of a run, as the database has it."""
        ms = await self._measurement_sets.get_origin(job.ms_path)
        return {
            "ms_path": job.ms_path,
            "cal_table": ms.cal_table if ms else None,
            "phase_center_ra": ms.pointing_ra_deg if ms else None,
            "phase_center_dec": ms.pointing_dec_deg if ms else None,
        }

    def _checked(self, wanted: Config) -> Config:
        """Return what a caller wants of the command, when it can be."""
        for name, value in wanted.items():
            if name in _PATHS:
                self._require_path(name, value)
            elif name in _NUMBERS:
                _require_number(name, value, *_NUMBERS[name])
            else:
                raise ValidationError(unknown(name, value, (*_PATHS, *_NUMBERS)), field=name[:60])
        return wanted

    def _require_path(self, name: str, value: Any) -> None:
        path = PurePosixPath(value) if isinstance(value, str) else PurePosixPath()
        if not any(path.is_relative_to(root) for root in self._roots) or ".." in path.parts or "\0" in str(value):
            raise InvalidPathError(str(value)[:200], f"{name} must be a path below a data directory")

    def _by_stages(self, job: JobRecord, wanted: Config, order: WorkOrder, fresh: JobRecord) -> Plan:
        if not self._tasks_enabled:
            raise QueueDisabledError
        if "reimage_of" in job.params:
            raise InvalidStateError(
                f"Run {job.run_id} made another version of image {job.params['reimage_of']}; reimage that once more"
            )
        files = job.params.get("files")
        if not files:
            raise InvalidStateError(
                f"Run {job.run_id} cannot be done again: it is not recorded which raw files it was made of; "
                "ingest the observation again"
            )
        options = _possible(_merged(job.params.get("options") or {}, _stage_options(wanted)))
        params = {"rerun_of": job.run_id, "files": list(files), "options": options}
        products = rerun_products(Path(self._products_dir), fresh.run_id, job.group_id)
        planned = replace(
            fresh, ms_path=str(products.measurement_set), workflow_id=workflow_of(order.id), params=params
        )
        return Plan(replace(order, kind=RERUN_CHAIN, target="absurd"), planned)


def _require_number(name: str, value: Any, low: float, high: float) -> None:
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not right or not low <= value <= high:
        raise ValidationError(f"{name} is {shown(value)}; give a number of degrees from {low:g} to {high:g}", name)


def _stage_options(wanted: Config) -> Mapping[str, Config]:
    """Return what a caller wants of the stages, when there are such stages, and it is not the pipeline that chooses."""
    for stage, options in wanted.items():
        if stage not in STAGES:
            raise ValidationError(f"stages: {unknown(stage, options, STAGES)}", field=stage[:60])
        if not isinstance(options, Mapping):
            raise ValidationError(f"{stage} is {shown(options)}; give an object: option → value", field=stage)
        if fixed := fixed_options(stage) & set(options):
            raise ValidationError(f"{min(fixed)} of {stage} is chosen by the pipeline", field=min(fixed))
    return wanted


def _merged(before: Mapping[str, Config], wanted: Mapping[str, Config]) -> View:
    """Return the options of a run with what is wanted over them; what no stage takes any more could be chosen once."""
    stages = [stage for stage in STAGES if stage in before or stage in wanted]
    return {stage: {**_still_known(stage, before.get(stage, {})), **wanted.get(stage, {})} for stage in stages}


def _still_known(stage: str, recorded: Config) -> View:
    return {name: value for name, value in recorded.items() if name in choosable(stage)}


def _possible(options: View) -> View:
    """Return options that each stage would take, and nothing that it would refuse after hours."""
    for stage, chosen in options.items():
        try:
            require_choices(stage, chosen)
        except OptionsError as error:
            raise ValidationError(str(error), field=stage) from error
    return options
