"""Statements on replies that are kept for requests that come again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.sql import ClauseElement

from dsa110_contimg.api.column_kinds import Number
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.queries.decoding import ask, first, record_columns, record_reader, value
from dsa110_contimg.api.tables import idempotency_keys


@dataclass(frozen=True, slots=True)
class KeptReply:
    """A request that bore a key, and the reply to it (None while it is made)."""

    actor: str
    key: str
    fingerprint: str
    created_at: float
    status: int | None = None
    reply: str | None = None


_kept = idempotency_keys.c
_COLUMNS = record_columns(KeptReply, idempotency_keys)
_OF_REQUEST = (_kept.actor == bindparam("of_actor")) & (_kept.key == bindparam("of_key"))


def _reserving(insert: Callable[..., Any]) -> ClauseElement:
    names = ("actor", "key", "fingerprint", "created_at")
    values = {name: bindparam(name, type_=_kept[name].type) for name in names}
    statement: ClauseElement = (
        insert(idempotency_keys).values(values).on_conflict_do_nothing(index_elements=["actor", "key"])
    ).returning(_kept.key)
    return statement


_RESERVE = Statement(_reserving)
_FIND = Statement(select(*_COLUMNS).where(_OF_REQUEST))
_KEEP = Statement(
    update(idempotency_keys)
    .where(_OF_REQUEST)
    .values(
        status=bindparam("new_status", type_=_kept.status.type), reply=bindparam("new_reply", type_=_kept.reply.type)
    )
)
_RELEASE = Statement(delete(idempotency_keys).where(_OF_REQUEST, _kept.status.is_(None)))
_FORGET = Statement(delete(idempotency_keys).where(_kept.created_at < bindparam("before_s", type_=Number)))


def reserve(request: KeptReply) -> Steps[KeptReply | None]:
    """Take a key for a request; what is kept under it when it is taken already."""
    names = ("actor", "key", "fingerprint", "created_at")
    new = yield Query(_RESERVE, {name: getattr(request, name) for name in names}, value)
    if new is not None:
        return None
    read = first(record_reader(KeptReply, _COLUMNS))
    found: KeptReply | None = yield Query(_FIND, {"of_actor": request.actor, "of_key": request.key}, read)
    return found


def keep(actor: str, key: str, status: int, reply: str) -> Steps[None]:
    """Keep the reply."""
    yield Query(_KEEP, {"of_actor": actor, "of_key": key, "new_status": status, "new_reply": reply})


def release(actor: str, key: str) -> Steps[None]:
    """Give a key free whose request came to nothing."""
    yield Query(_RELEASE, {"of_actor": actor, "of_key": key})


def forget(before_s: float) -> Steps[None]:
    """Drop what is older."""
    return ask(Query(_FORGET, {"before_s": before_s}))
