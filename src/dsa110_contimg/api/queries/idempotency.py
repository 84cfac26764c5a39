"""Statements on replies that are kept for requests that come again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, case, delete, select, update
from sqlalchemy.sql import ClauseElement

from dsa110_contimg.api.column_kinds import Number
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.queries.decoding import as_given, ask, first, record_columns, record_reader, value
from dsa110_contimg.api.tables import idempotency_keys


@dataclass(frozen=True, slots=True)
class KeptReply:
    """A request that bore a key, and the reply to it.

    ``status`` is None until there is one; ``reply`` is empty then when the request came to nothing: its key is free.
    """

    actor: str
    key: str
    fingerprint: str
    created_at: float
    status: int | None = None
    reply: str | None = None


_kept = idempotency_keys.c
_COLUMNS = record_columns(KeptReply, idempotency_keys)
_read = first(record_reader(KeptReply, _COLUMNS))
_OF_REQUEST = (_kept.actor == bindparam("of_actor")) & (_kept.key == bindparam("of_key"))


def _reserving(insert: Callable[..., Any]) -> ClauseElement:
    names = ("actor", "key", "fingerprint", "created_at")
    values = as_given(_kept[name] for name in names)
    statement: ClauseElement = (
        insert(idempotency_keys).values(values).on_conflict_do_nothing(index_elements=["actor", "key"])
    ).returning(_kept.key)
    return statement


_RESERVE = Statement(_reserving)
_FIND = Statement(select(*_COLUMNS).where(_OF_REQUEST))
_KEEP = Statement(
    update(idempotency_keys)
    .where(_OF_REQUEST, _kept.status.is_(None))
    .values(
        status=bindparam("new_status", type_=_kept.status.type), reply=bindparam("new_reply", type_=_kept.reply.type)
    )
    .returning(_kept.key)
)
# What the request may have made nevertheless has the ids that follow from its first time, which therefore stays.
_RELEASE = Statement(update(idempotency_keys).where(_OF_REQUEST, _kept.status.is_(None)).values(reply=""))
_SAME = _kept.fingerprint == bindparam("new_fingerprint", type_=_kept.fingerprint.type)
_TAKE_AGAIN = Statement(
    update(idempotency_keys)
    .where(_OF_REQUEST, _kept.status.is_(None), _kept.reply == "")
    .values(
        fingerprint=bindparam("new_fingerprint", type_=_kept.fingerprint.type), reply=None,
        created_at=case((_SAME, _kept.created_at), else_=bindparam("new_created_at", type_=Number)),
    )
    .returning(*_COLUMNS)
)  # fmt: skip
_FORGET = Statement(delete(idempotency_keys).where(_kept.created_at < bindparam("before_s", type_=Number)))


def reserve(request: KeptReply) -> Steps[tuple[bool, KeptReply]]:
    """Take a key for a request, and tell whether it was free and what is kept under it now."""
    names = ("actor", "key", "fingerprint", "created_at")
    new = yield Query(_RESERVE, {name: getattr(request, name) for name in names}, value)
    if new is not None:
        return True, request
    mine = {"of_actor": request.actor, "of_key": request.key}
    values = {"new_fingerprint": request.fingerprint, "new_created_at": request.created_at}
    again: KeptReply | None = yield Query(_TAKE_AGAIN, {**mine, **values}, _read)
    if again is not None:
        return True, again
    found: KeptReply | None = yield Query(_FIND, mine, _read)
    return found is None, found or request


def keep(actor: str, key: str, status: int, reply: str) -> Steps[KeptReply | None]:
    """Keep the reply, unless another is kept by now; return that one."""
    mine = {"of_actor": actor, "of_key": key}
    if (yield Query(_KEEP, {**mine, "new_status": status, "new_reply": reply}, value)) is not None:
        return None
    found: KeptReply | None = yield Query(_FIND, mine, _read)
    return found


def release(actor: str, key: str) -> Steps[None]:
    """Give a key free whose request came to nothing, as far as its sender was told."""
    yield Query(_RELEASE, {"of_actor": actor, "of_key": key})


def forget(before_s: float) -> Steps[None]:
    """Drop what is older."""
    return ask(Query(_FORGET, {"before_s": before_s}))
