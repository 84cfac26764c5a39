"""Statements on API keys."""

import dataclasses

from sqlalchemy import bindparam, insert, select, update

from dsa110_contimg.api.audit import AuditRecord
from dsa110_contimg.api.credentials import ApiKeyRecord
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.queries.audit import append
from dsa110_contimg.api.queries.decoding import as_given, ask, every, first, record_columns, record_reader, value
from dsa110_contimg.api.tables import api_keys

_KEY_COLUMNS = record_columns(ApiKeyRecord, api_keys)
_read_key = record_reader(ApiKeyRecord, _KEY_COLUMNS)

_NOW = bindparam("now_s", type_=api_keys.c.created_at.type)
_OF_KEY = api_keys.c.id == bindparam("key_id")

_FIND = Statement(select(*_KEY_COLUMNS).where(_OF_KEY))
_LIST = Statement(select(*_KEY_COLUMNS).order_by(api_keys.c.created_at, api_keys.c.id))
_ADD = Statement(insert(api_keys).values(as_given(api_keys.c)))
_REVOKE = Statement(
    update(api_keys).where(_OF_KEY, api_keys.c.revoked_at.is_(None)).values(revoked_at=_NOW).returning(api_keys.c.id)
)
_USED = Statement(update(api_keys).where(_OF_KEY).values(last_used_at=_NOW))


def find_key(key_id: str) -> Steps[ApiKeyRecord | None]:
    """Find a key by its id."""
    return ask(Query(_FIND, {"key_id": key_id}, first(_read_key)))


def list_keys() -> Steps[list[ApiKeyRecord]]:
    """Read all keys, the oldest first."""
    return ask(Query(_LIST, {}, every(_read_key)))


def add_key(key: ApiKeyRecord) -> Steps[None]:
    """Keep a new key."""
    yield Query(_ADD, dataclasses.asdict(key))


def revoke_key(key_id: str, now_s: float) -> Steps[bool]:
    """Take a key back; False when there is no such key or it was taken back before."""
    found = yield Query(_REVOKE, {"key_id": key_id, "now_s": now_s}, value)
    return found is not None


def begin_change(entry: AuditRecord, mark_key_used: bool) -> Steps[AuditRecord]:
    """Write down that somebody begins a change and return the entry."""
    if mark_key_used:
        yield Query(_USED, {"key_id": entry.key_id, "now_s": entry.at})
    return (yield from append(entry))
