"""Statements on batches: what is worked on, item by item.

How many items are done or failed is added up as each ends, in the transaction in which it ends and only if it had not:
nothing is ever counted again. A batch ends with its last item: failed when one of them failed, else done; or with the
order that works on it.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, bindparam, case, insert, or_, select, update

from dsa110_contimg.api.batch_interfaces import BatchItemRecord, BatchRecord
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.queries.decoding import (
    ask,
    every,
    first,
    page_limit,
    page_offset,
    record_columns,
    record_reader,
    row_number,
    value,
)
from dsa110_contimg.api.queries.listing import ListQuery
from dsa110_contimg.api.tables import batch_job_items as items
from dsa110_contimg.api.tables import batch_jobs as batches

_COLUMNS = record_columns(BatchRecord, batches)
_read = record_reader(BatchRecord, _COLUMNS)
_ITEM_COLUMNS = record_columns(BatchItemRecord, items, items.c.ms_path.label("name"))
_read_item = record_reader(BatchItemRecord, _ITEM_COLUMNS)
_NAMES = ("id", "type", "created_at", "status", "total_items", "completed_items", "failed_items", "params")
LIST = ListQuery(
    "batch_jobs",
    {name: batches.c[name] for name in _NAMES},
    key="id",
    order="-created_at",
    sortable=("id",),
    bucket="status",
)

_ID = bindparam("id", type_=BigInteger)
_NOW = bindparam("now_s", type_=items.c.started_at.type)
_ONE = Statement(select(*_COLUMNS).where(batches.c.id == _ID))
_ITEMS = select(*_ITEM_COLUMNS).where(items.c.batch_id == _ID).order_by(items.c.id)
_PAGE = Statement(_ITEMS.limit(page_limit()).offset(page_offset()))
_UNENDED_ITEM = or_(items.c.status == "pending", items.c.status == "running")
_UNENDED = Statement(_ITEMS.where(_UNENDED_ITEM).limit(page_limit()))
_CREATE = Statement(
    insert(batches)
    .values(
        type=bindparam("type"), created_at=_NOW, status="pending", total_items=bindparam("total"), completed_items=0,
        failed_items=0, params=bindparam("params", type_=batches.c.params.type),
    )
    .returning(batches.c.id)
)  # fmt: skip
_ADD_ITEM = Statement(
    insert(items).values(batch_id=bindparam("batch", type_=BigInteger), ms_path=bindparam("name"), status="pending")
)
_BEGIN = Statement(
    update(items)
    .where(items.c.id == _ID, _UNENDED_ITEM)
    .values(status="running", started_at=_NOW)
    .returning(items.c.id)
)
_RUNS = Statement(update(batches).where(batches.c.id == _ID, batches.c.status == "pending").values(status="running"))
_BATCH_OF = Statement(select(items.c.batch_id).where(items.c.id == _ID))
_END = Statement(
    update(items)
    .where(items.c.id == _ID, _UNENDED_ITEM)
    .values(status=bindparam("how"), error=bindparam("error"), completed_at=_NOW)
    .returning(items.c.batch_id)
)
_GOOD, _BAD = bindparam("good", type_=BigInteger), bindparam("bad", type_=BigInteger)
_ENDED = batches.c.completed_items + batches.c.failed_items + _GOOD + _BAD >= batches.c.total_items
_COUNT_IN = Statement(
    update(batches)
    .where(batches.c.id == _ID)
    .values(
        completed_items=batches.c.completed_items + _GOOD,
        failed_items=batches.c.failed_items + _BAD,
        status=case(
            (batches.c.status == "cancelled", "cancelled"),
            (_ENDED & (batches.c.failed_items + _BAD > 0), "failed"),
            (_ENDED, "done"),
            else_="running",
        ),
    )
)
_CANCEL = Statement(
    update(batches)
    .where(batches.c.id == _ID, or_(batches.c.status == "pending", batches.c.status == "running"))
    .values(status="cancelled")
    .returning(batches.c.id)
)
_CANCEL_ITEMS = Statement(
    update(items).where(items.c.batch_id == _ID, _UNENDED_ITEM).values(status="cancelled", completed_at=_NOW)
)
_GIVE_UP_ITEMS = Statement(
    update(items)
    .where(items.c.batch_id == _ID, _UNENDED_ITEM)
    .values(status="failed", error=bindparam("error"), completed_at=_NOW)
    .returning(items.c.id)
)


def create(kind: str, names: Sequence[str], params: Mapping[str, Any]) -> Steps[int]:
    """Keep a new batch with its items, all pending; return its number."""
    given = {"type": kind, "total": len(names), "params": dict(params), "now_s": time.time()}
    number: int = yield Query(_CREATE, given, value)
    yield Query(_ADD_ITEM, many=[{"batch": number, "name": name} for name in names])
    return number


def get(batch_id: str) -> Steps[BatchRecord | None]:
    """Find a batch by its number in decimal text."""
    number = row_number(batch_id)
    return ask(Query(_ONE, {"id": -1 if number is None else number}, first(_read)))


def page_of_items(batch_id: int, limit: int, offset: int) -> Steps[list[BatchItemRecord]]:
    """Read a part of the items of a batch, in their order."""
    return ask(Query(_PAGE, {"id": batch_id, "limit": limit, "offset": offset}, every(_read_item)))


def unended(batch_id: int, limit: int) -> Steps[list[BatchItemRecord]]:
    """Read items of a batch that have not ended, in their order."""
    return ask(Query(_UNENDED, {"id": batch_id, "limit": limit}, every(_read_item)))


def begin_item(item_id: int) -> Steps[bool]:
    """Begin an item, unless it has ended."""
    begun = yield Query(_BEGIN, {"id": item_id, "now_s": time.time()}, value)
    if begun is not None:
        batch_id = yield Query(_BATCH_OF, {"id": item_id}, value)
        yield Query(_RUNS, {"id": batch_id})
    return begun is not None


def end_item(item_id: int, error: str | None) -> Steps[bool]:
    """End an item and count it, unless it has ended."""
    how = "done" if error is None else "failed"
    batch_id = yield Query(_END, {"id": item_id, "how": how, "error": error, "now_s": time.time()}, value)
    if batch_id is not None:
        yield Query(_COUNT_IN, {"id": batch_id, "good": int(error is None), "bad": int(error is not None)})
    return batch_id is not None


def cancel(batch_id: int) -> Steps[bool]:
    """Cancel a batch, unless it has ended."""
    cancelled = yield Query(_CANCEL, {"id": batch_id}, value)
    if cancelled is not None:
        yield Query(_CANCEL_ITEMS, {"id": batch_id, "now_s": time.time()})
    return cancelled is not None


def give_up(batch_id: int, error: str) -> Steps[None]:
    """Fail what of a batch has not ended."""
    bad: int = yield Query(_GIVE_UP_ITEMS, {"id": batch_id, "error": error, "now_s": time.time()}, len)
    if bad:
        yield Query(_COUNT_IN, {"id": batch_id, "good": 0, "bad": bad})
