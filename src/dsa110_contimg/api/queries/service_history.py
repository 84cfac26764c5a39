"""Statements on the states of monitored services."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, select
from sqlalchemy.sql import ClauseElement

from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.operation_records import ServiceState
from dsa110_contimg.api.queries.decoding import as_given, ask
from dsa110_contimg.api.tables import service_history

_OF = service_history.c


def _keeping(insert: Callable[..., Any]) -> ClauseElement:
    values = as_given(_OF)
    built: ClauseElement = insert(service_history).values(values).on_conflict_do_nothing()
    return built


_KEEP = Statement(_keeping)
_PRUNE = Statement(delete(service_history).where(_OF.minute_at < bindparam("before", type_=_OF.minute_at.type)))
_SINCE = Statement(
    select(*_OF)
    .where(_OF.minute_at >= bindparam("since", type_=_OF.minute_at.type))
    .order_by(_OF.service, _OF.minute_at, _OF.status)
)


def keep(states: Sequence[ServiceState], minute_at: float, oldest_at: float) -> Steps[None]:
    """Keep states that were seen in a minute, each once, and forget what is older than ``oldest_at``."""
    yield Query(_PRUNE, {"before": oldest_at})
    ordered = sorted(states, key=lambda state: state.name)
    yield Query(_KEEP, many=[_row(state, minute_at) for state in ordered])


def _row(state: ServiceState, minute_at: float) -> dict[str, Any]:
    return {
        "service": state.name, "minute_at": minute_at, "status": state.status, "response_ms": state.response_ms,
        "error": state.error and state.error.replace("\0", "")[:500],
    }  # fmt: skip


def _read(rows: Sequence[Row]) -> list[ServiceState]:
    return [ServiceState(row[0], 0, "", row[2], row[3], row[1], row[4]) for row in rows]


def since(since_at: float) -> Steps[list[ServiceState]]:
    """Read the states since a time, by service and time."""
    return ask(Query(_SINCE, {"since": since_at}, _read))
