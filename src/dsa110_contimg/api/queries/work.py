"""Statements on accepted work and on the ends of runs."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Integer, bindparam, case, func, or_, select, update
from sqlalchemy.sql import ClauseElement, ColumnElement

from dsa110_contimg.api.column_kinds import DatabaseTime, Number
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.exceptions import RecordAlreadyExistsError
from dsa110_contimg.api.interfaces import JobRecord
from dsa110_contimg.api.queries import batches
from dsa110_contimg.api.queries.decoding import (
    as_given,
    ask,
    every,
    first,
    page_limit,
    pairs,
    record_columns,
    record_reader,
    value,
)
from dsa110_contimg.api.queries.recording import save_job
from dsa110_contimg.api.tables import images, jobs, work_orders
from dsa110_contimg.api.work_orders import BATCH, OPEN, UNENDED, WAITING, WorkOrder

_COLUMNS = record_columns(WorkOrder, work_orders)
_read = record_reader(WorkOrder, _COLUMNS)
_JOB_COLUMNS = record_columns(JobRecord, jobs)
_read_job = record_reader(JobRecord, _JOB_COLUMNS)

_orders = work_orders.c
_OF_ORDER = _orders.id == bindparam("order_id")
_NOW = bindparam("now_s", type_=Number)


def _one_of(column: ColumnElement[Any], values: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition; IN would be expanded at execution, and these statements are compiled once."""
    return or_(*(column == value for value in values))


def _accepting(insert: Callable[..., Any]) -> ClauseElement:
    values = as_given(_orders)
    statement: ClauseElement = (
        insert(work_orders).values(values).on_conflict_do_nothing(index_elements=["id"]).returning(_orders.id)
    )
    return statement


def _changing(condition: ColumnElement[bool], **values: Any) -> Statement:
    """Return the statement that changes an order of which ``condition`` holds, and returns it as it is then."""
    return Statement(update(work_orders).where(_OF_ORDER, condition).values(**values).returning(*_COLUMNS))


# Nobody claims the order of a run whose tasks the durable queue does: it is under way once its run has begun.
_WITH_RUNS = work_orders.outerjoin(jobs, jobs.c.run_id == _orders.run_id)
_has_begun = (_orders.target == "absurd") & (_orders.status == "sent") & jobs.c.started_at.is_not(None)
_STATUS = case((_has_begun, "running"), else_=_orders.status)
_BEGIN = func.coalesce(_orders.started_at, jobs.c.started_at)
_SELECT = select(
    *record_columns(WorkOrder, work_orders, _STATUS.label("status"), _BEGIN.label("started_at"))
).select_from(_WITH_RUNS)
_ACCEPT = Statement(_accepting)
_FIND = Statement(_SELECT.where(_OF_ORDER))
_OF_RUN = Statement(
    _SELECT.where(_orders.run_id == bindparam("run_id")).order_by(_orders.created_at.desc(), _orders.id.desc())
)
_NEWEST = _SELECT.order_by(_orders.created_at.desc(), _orders.id.desc()).limit(page_limit())
_LISTS = {
    None: Statement(_NEWEST),
    "queued": Statement(_NEWEST.where(_one_of(_orders.status, WAITING), _STATUS != "running")),
    "started": Statement(_NEWEST.where(_one_of(_orders.status, ("sent", "running")), _STATUS == "running")),
    "finished": Statement(_NEWEST.where(_orders.status == "finished")),
    "failed": Statement(_NEWEST.where(_orders.status == "failed")),
    "canceled": Statement(_NEWEST.where(_orders.status == "canceled")),
}
_OLDEST = select(*_COLUMNS).order_by(_orders.created_at, _orders.id).limit(page_limit())
_UNSENT = Statement(_OLDEST.where(_orders.status == "accepted"))
_COUNTS = Statement(
    select(_STATUS.label("state"), func.count())
    .select_from(_WITH_RUNS)
    .where(_one_of(_orders.status, OPEN))
    .group_by("state")
)

# Who works is on another host than who looks, so that both go by the clock of the database.
_is_silent = (_orders.status == "running") & or_(
    _orders.beat_at.is_(None), _orders.beat_at < DatabaseTime() - bindparam("silent_s", type_=Number)
)
_STUCK = Statement(_OLDEST.where(or_(_orders.status == "sent", _is_silent)))
_SEND = _changing(_one_of(_orders.status, WAITING), status="sent", sent_at=_NOW)
_CLAIM = _changing(
    or_(_one_of(_orders.status, WAITING), _is_silent),
    status="running", claim=bindparam("new_claim", type_=_orders.claim.type), beat_at=DatabaseTime(),
    started_at=func.coalesce(_orders.started_at, _NOW), attempts=_orders.attempts + 1,
)  # fmt: skip
_IS_MINE = (_orders.status == "running") & (_orders.claim == bindparam("old_claim", type_=_orders.claim.type))
_BEAT = _changing(_IS_MINE, beat_at=DatabaseTime())
_END_VALUES = {
    "status": bindparam("new_status", type_=_orders.status.type), "ended_at": _NOW,
    "result": bindparam("new_result", type_=_orders.result.type),
    "error": bindparam("new_error", type_=_orders.error.type),
}  # fmt: skip
_END = _changing(_IS_MINE, **_END_VALUES)
_SETTLE = _changing(_one_of(_orders.status, OPEN), **_END_VALUES)
_PUT_BACK = _changing(or_(_orders.status == "sent", _is_silent), status="accepted", claim=None)
_BEGIN_RUN = Statement(
    update(jobs)
    .where(jobs.c.run_id == bindparam("begun_run"), _one_of(jobs.c.status, UNENDED))
    .values(status="running", started_at=func.coalesce(jobs.c.started_at, _NOW))
)
_END_RUN = Statement(
    update(jobs)
    .where(jobs.c.run_id == bindparam("ended_run"), _one_of(jobs.c.status, UNENDED))
    .values(status="failed", finished_at=_NOW, error=bindparam("new_error", type_=jobs.c.error.type))
    .returning(jobs.c.run_id)
)
_EXPORT = Statement(
    select(
        jobs.c.run_id, jobs.c.status, jobs.c.started_at, jobs.c.finished_at, jobs.c.ms_path,
        select(func.max(images.c.id)).where(images.c.run_id == jobs.c.run_id).scalar_subquery(),
    ).where(jobs.c.run_id == bindparam("run_id"))
)  # fmt: skip
_SOME = bindparam("limit", type_=Integer)
_GOING = Statement(
    select(*_JOB_COLUMNS)
    .where(_one_of(jobs.c.status, UNENDED))
    .order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
    .limit(_SOME)
)
_GONE = Statement(
    select(*_JOB_COLUMNS)
    .where(jobs.c.finished_at >= _NOW, jobs.c.status != UNENDED[0], jobs.c.status != UNENDED[1])
    .order_by(jobs.c.finished_at.desc(), jobs.c.id.desc())
    .limit(_SOME)
)


def accept(order: WorkOrder, job: JobRecord | None) -> Steps[bool]:
    """Keep an order, and the run that it makes; False, and nothing is changed, when the order is there already."""
    given = {item.name: getattr(order, item.name) for item in dataclasses.fields(order)}
    new = yield Query(_ACCEPT, given, value)
    if new is not None and job is not None:
        yield from save_job(job)
    return new is not None


def accept_batch(order: WorkOrder, kind: str, names: Sequence[str]) -> Steps[int]:
    """Keep a batch and the order to work on it, and return its number.

    Raises
    ------
    RecordAlreadyExistsError
        The order is there already; nothing is kept.
    """
    number = yield from batches.create(kind, names, {"order_id": order.id})
    if not (yield from accept(dataclasses.replace(order, arguments={"batch_id": number}), None)):
        raise RecordAlreadyExistsError(f"There is an order {order.id} already")
    return number


def find(order_id: str) -> Steps[WorkOrder | None]:
    """Find an order."""
    return ask(Query(_FIND, {"order_id": order_id}, first(_read)))


def of_run(run_id: str) -> Steps[list[WorkOrder]]:
    """Find the orders of a run, the newest first."""
    return ask(Query(_OF_RUN, {"run_id": run_id}, every(_read)))


def newest(status: str | None, limit: int) -> Steps[list[WorkOrder]]:
    """Read orders, the newest first: all, or those whose state has this name in RQ."""
    statement = _LISTS.get(status)
    if statement is None:
        return _none()
    return ask(Query(statement, {"limit": limit}, every(_read)))


def _none() -> Steps[list[WorkOrder]]:
    yield from ()
    return []


def due(limit: int, silent_s: float) -> Steps[list[WorkOrder]]:
    """Read orders that nobody is seen to work on, first those that were not sent, the oldest first; of each a limit."""
    unsent: list[WorkOrder] = yield Query(_UNSENT, {"limit": limit}, every(_read))
    stuck: list[WorkOrder] = yield Query(_STUCK, {"limit": limit, "silent_s": silent_s}, every(_read))
    return unsent + stuck


def counts() -> Steps[dict[str, int]]:
    """Count the orders that have not ended by state."""
    return ask(Query(_COUNTS, {}, pairs))


def _change(statement: Statement, order_id: str, **params: Any) -> Steps[WorkOrder | None]:
    return ask(Query(statement, {"order_id": order_id, **params}, first(_read)))


def send(order_id: str, now_s: float) -> Steps[WorkOrder | None]:
    """Write down that the queue has an order; None when nobody waits for it any more."""
    return _change(_SEND, order_id, now_s=now_s)


def claim(order_id: str, claim_: str, now_s: float, silent_s: float) -> Steps[WorkOrder | None]:
    """Begin an order, and the run that it makes; None when it has ended, or somebody who lives works on it."""
    begun = yield from _change(_CLAIM, order_id, new_claim=claim_, now_s=now_s, silent_s=silent_s)
    if begun is not None and begun.run_id:
        yield Query(_BEGIN_RUN, {"begun_run": begun.run_id, "now_s": begun.started_at})
    return begun


def beat(order_id: str, claim_: str) -> Steps[WorkOrder | None]:
    """Give a sign of life; None when the order is not one's own any more."""
    return _change(_BEAT, order_id, old_claim=claim_)


def end(order: WorkOrder, job: JobRecord | None) -> Steps[bool]:
    """Write down how an order ended, and the run with it; False when it is not one's own any more."""
    ended = yield from _change(
        _END, order.id, old_claim=order.claim, now_s=order.ended_at, new_status=order.status,
        new_result=order.result, new_error=order.error,
    )  # fmt: skip
    if ended is not None and job is not None:
        yield from save_job(job)
    yield from _end_batch(ended)
    return ended is not None


def settle(order_id: str, status: str, now_s: float, result: Any, error: str | None) -> Steps[WorkOrder | None]:
    """End an order from outside (canceled, or ended elsewhere); None when it has ended."""
    settled = yield from _change(_SETTLE, order_id, new_status=status, now_s=now_s, new_result=result, new_error=error)
    yield from _end_batch(settled)
    return settled


def _end_batch(ended: WorkOrder | None) -> Steps[None]:
    """End what an order left of its batch: nobody will work on it any more."""
    if ended is None or ended.kind != BATCH:
        return
    batch_id = int(ended.arguments["batch_id"])
    if ended.status == "canceled":
        yield from batches.cancel(batch_id)
    elif ended.status == "failed":
        yield from batches.give_up(batch_id, ended.error or "the work on the batch failed")


def put_back(order_id: str, silent_s: float) -> Steps[WorkOrder | None]:
    """Have an order that was lost sent again; None when it was not."""
    return _change(_PUT_BACK, order_id, silent_s=silent_s)


def end_run(run_id: str, now_s: float, error: str) -> Steps[bool]:
    """Write down that a run will not go on; False when it has ended."""
    found = yield Query(_END_RUN, {"ended_run": run_id, "now_s": now_s, "new_error": error}, value)
    return found is not None


def lively_runs(ended_since_s: float, limit: int) -> Steps[list[JobRecord]]:
    """Read the newest runs that have not ended, then those that ended since a time, the last first; of each a limit."""
    going: list[JobRecord] = yield Query(_GOING, {"limit": limit}, every(_read_job))
    gone: list[JobRecord] = yield Query(_GONE, {"now_s": ended_since_s, "limit": limit}, every(_read_job))
    return [*going, *gone]


def export(run_ids: Sequence[str]) -> Steps[list[tuple[Any, ...]]]:
    """Read run, state, begin, end, Measurement Set and newest image of those runs that are known."""
    found: list[tuple[Any, ...]] = []
    for run_id in run_ids:
        found += yield Query(_EXPORT, {"run_id": run_id}, every(tuple))
    return found
