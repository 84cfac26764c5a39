"""Statements on API keys and on the record of changes."""

import dataclasses

from sqlalchemy import bindparam, insert, select, update

from dsa110_contimg.api.credentials import ApiKeyRecord, AuditRecord
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.queries.decoding import (
    ask,
    every,
    first,
    page_limit,
    record_columns,
    record_reader,
    value,
)
from dsa110_contimg.api.tables import api_keys, audit_log

_KEY_COLUMNS = record_columns(ApiKeyRecord, api_keys)
_read_key = record_reader(ApiKeyRecord, _KEY_COLUMNS)
_AUDIT_COLUMNS = record_columns(AuditRecord, audit_log)
_read_audit = record_reader(AuditRecord, _AUDIT_COLUMNS)

_NOW = bindparam("now_s", type_=api_keys.c.created_at.type)
_OF_KEY = api_keys.c.id == bindparam("key_id")

_FIND = Statement(select(*_KEY_COLUMNS).where(_OF_KEY))
_LIST = Statement(select(*_KEY_COLUMNS).order_by(api_keys.c.created_at, api_keys.c.id))
_ADD = Statement(
    insert(api_keys).values({column.name: bindparam(column.name, type_=column.type) for column in api_keys.c})
)
_REVOKE = Statement(
    update(api_keys).where(_OF_KEY, api_keys.c.revoked_at.is_(None)).values(revoked_at=_NOW).returning(api_keys.c.id)
)
_USED = Statement(update(api_keys).where(_OF_KEY).values(last_used_at=_NOW))

_AUDITED = [column for column in audit_log.c if column.name != "id"]
_BEGIN = Statement(
    insert(audit_log)
    .values({column.name: bindparam(column.name, type_=column.type) for column in _AUDITED})
    .returning(audit_log.c.id)
)
_CONCLUDE = Statement(
    update(audit_log)
    .where(audit_log.c.id == bindparam("audit_id", type_=audit_log.c.id.type))
    .values(status=bindparam("new_status", type_=audit_log.c.status.type))
)
_NEWEST = Statement(select(*_AUDIT_COLUMNS).order_by(audit_log.c.id.desc()).limit(page_limit()))


def find_key(key_id: str) -> Steps[ApiKeyRecord | None]:
    """Find a key by its id."""
    return ask(Query(_FIND, {"key_id": key_id}, first(_read_key)))


def list_keys() -> Steps[list[ApiKeyRecord]]:
    """Read all keys, the oldest first."""
    return ask(Query(_LIST, {}, every(_read_key)))


def add_key(key: ApiKeyRecord) -> Steps[None]:
    """Keep a new key."""
    yield Query(_ADD, {item.name: getattr(key, item.name) for item in dataclasses.fields(key)})


def revoke_key(key_id: str, now_s: float) -> Steps[bool]:
    """Take a key back; False when there is no such key or it was taken back before."""
    found = yield Query(_REVOKE, {"key_id": key_id, "now_s": now_s}, value)
    return found is not None


def begin_change(entry: AuditRecord, mark_key_used: bool) -> Steps[int]:
    """Write down that somebody begins a change and return the number of the row."""
    if mark_key_used:
        yield Query(_USED, {"key_id": entry.key_id, "now_s": entry.at})
    number: int = yield Query(_BEGIN, {column.name: getattr(entry, column.name) for column in _AUDITED}, value)
    return number


def conclude_change(audit_id: int, status: int) -> Steps[None]:
    """Write down how a change ended."""
    yield Query(_CONCLUDE, {"audit_id": audit_id, "new_status": status})


def newest_changes(limit: int) -> Steps[list[AuditRecord]]:
    """Read the newest changes first."""
    return ask(Query(_NEWEST, {"limit": limit}, every(_read_audit)))
