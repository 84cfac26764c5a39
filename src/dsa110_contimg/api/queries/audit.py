"""Statements on the record of changes; entries are added at the end of the chain and never changed."""

from sqlalchemy import Integer, and_, bindparam, func, insert, literal, select, update

from dsa110_contimg.api.audit import AuditRecord, ChainCheck
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.queries.decoding import as_given, ask, every, page_limit, record_columns, record_reader
from dsa110_contimg.api.tables import audit_head, audit_log

_COLUMNS = record_columns(AuditRecord, audit_log)
_read = record_reader(AuditRecord, _COLUMNS)
_PAGE = 1000

#: Whoever adds an entry takes the head first: writers on all processes follow each other.
_TAKE_HEAD = Statement(
    update(audit_head).values(seq=audit_head.c.seq + 1).returning(audit_head.c.seq, audit_head.c.hash)
)
_ADD = Statement(insert(audit_log).values(as_given(audit_log.c)))
_SET_HEAD = Statement(update(audit_head).values(hash=bindparam("new_hash", type_=audit_head.c.hash.type)))
_HEAD = Statement(select(audit_head.c.seq, audit_head.c.hash))
_BETWEEN = Statement(
    select(*_COLUMNS)
    .where(
        audit_log.c.id > bindparam("after", type_=audit_log.c.id.type),
        audit_log.c.id <= bindparam("last", type_=audit_log.c.id.type),
    )
    .order_by(audit_log.c.id)
    .limit(page_limit())
)

_ended = audit_log.alias("ended")
_WITH_OUTCOME = record_columns(
    AuditRecord, audit_log, func.coalesce(_ended.c.status, audit_log.c.status, type_=Integer).label("status")
)
_read_outcome = record_reader(AuditRecord, _WITH_OUTCOME)
_NEWEST = Statement(
    select(*_WITH_OUTCOME)
    .select_from(
        audit_log.outerjoin(
            _ended, and_(_ended.c.change_id == audit_log.c.id, _ended.c.kind == literal("ended", _ended.c.kind.type))
        )
    )
    .where(audit_log.c.change_id.is_(None))  # what began something, and wrong keys
    .order_by(audit_log.c.id.desc())
    .limit(page_limit())
)


def append(entry: AuditRecord) -> Steps[AuditRecord]:
    """Add an entry to the end of the chain and return it as it was added."""
    number, prev_hash = yield Query(_TAKE_HEAD, {}, lambda rows: tuple(rows[0]))
    chained = entry.chained(number, prev_hash)
    yield Query(_ADD, {column.name: getattr(chained, column.name) for column in audit_log.c})
    yield Query(_SET_HEAD, {"new_hash": chained.hash})
    return chained


def newest_changes(limit: int) -> Steps[list[AuditRecord]]:
    """Read the newest changes first, each with the status that it ended with."""
    return ask(Query(_NEWEST, {"limit": limit}, every(_read_outcome)))


def check_chain() -> Steps[ChainCheck]:
    """Walk along the whole chain."""
    check = ChainCheck()
    head = yield Query(_HEAD, {}, lambda rows: tuple(rows[0]))
    while not check.fault:
        records = yield Query(_BETWEEN, {"after": check.last_id, "last": head[0], "limit": _PAGE}, every(_read))
        if not records:
            break
        check.walk(records)
    check.conclude(*head)
    return check
