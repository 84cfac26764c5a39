"""Statements on tickets."""

import dataclasses

from sqlalchemy import bindparam, delete, insert

from dsa110_contimg.api.credentials import TicketRecord
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.queries.decoding import as_given, ask, first, record_columns, record_reader
from dsa110_contimg.api.tables import websocket_tickets

_COLUMNS = record_columns(TicketRecord, websocket_tickets)
_kept = websocket_tickets.c

_FORGET = Statement(
    delete(websocket_tickets).where(_kept.expires_at <= bindparam("now_s", type_=_kept.expires_at.type))
)
_ADD = Statement(insert(websocket_tickets).values(as_given(_kept)))
_TAKE = Statement(
    delete(websocket_tickets).where(_kept.secret_sha256 == bindparam("secret_sha256")).returning(*_COLUMNS)
)


def add(ticket: TicketRecord, now_s: float) -> Steps[None]:
    """Keep a ticket, and forget those that nobody used in time."""
    yield Query(_FORGET, {"now_s": now_s})
    yield Query(_ADD, dataclasses.asdict(ticket))


def take(secret_sha256: str) -> Steps[TicketRecord | None]:
    """Return a ticket, which is gone then."""
    return ask(Query(_TAKE, {"secret_sha256": secret_sha256}, first(record_reader(TicketRecord, _COLUMNS))))
