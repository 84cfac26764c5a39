"""Upserts: a row is inserted, or the one of the same natural key is updated by what the new one has to say."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table, func
from sqlalchemy.sql import ClauseElement, ColumnElement

from dsa110_contimg.api.db_adapters.statement import Statement
from dsa110_contimg.api.queries.decoding import as_given

Rules = Callable[[Any], Mapping[str, ColumnElement[Any]]]
"""From an upsert's ``excluded`` (the row that was to be inserted) to the values of particular columns."""


def no_rules(new: Any) -> Mapping[str, ColumnElement[Any]]:
    """Leave no column to a rule of its own."""
    return {}


def upsert(
    table: Table, keys: Sequence[str], columns: Iterable[str], rules: Rules = no_rules, returning: str | None = None
) -> Statement:
    """Return the statement that inserts a row, or updates the one of the same ``keys``.

    An update takes the new value of a column unless that is NULL, or what ``rules`` say.
    """
    names = list(columns)

    def build(insert: Callable[..., Any]) -> ClauseElement:
        statement = insert(table).values(as_given(table.c[name] for name in names))
        new = statement.excluded
        known = {name: func.coalesce(new[name], table.c[name]) for name in names if name not in keys}
        statement = statement.on_conflict_do_update(index_elements=list(keys), set_={**known, **rules(new)})
        built: ClauseElement = statement.returning(table.c[returning]) if returning else statement
        return built

    return Statement(build)


def column_names(record: type[Any], table: Table) -> list[str]:
    """Return the columns of a table that a kind of record has fields for, without the row number."""
    return [item.name for item in dataclasses.fields(record) if item.name in table.c and item.name != "id"]


def field_values(record: Any) -> dict[str, Any]:
    """Return the fields of a record as parameters; an empty mapping has nothing to say."""
    values = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    return {name: None if isinstance(given, Mapping) and not given else given for name, given in values.items()}
