"""From rows to records, and the few phrases that several statements share."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

from sqlalchemy import BigInteger, BindParameter, Table, bindparam
from sqlalchemy.sql import ColumnElement, Select

from dsa110_contimg.api.column_kinds import Flag, Json
from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import LARGEST_INTEGER, Query, Statement, Steps

T = TypeVar("T")

SHORT = 256
"""Rows that are read in less time than a change of threads and a queue of others behind it would cost."""


def record_columns(record: type[Any], table: Table, *more: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    """Return the columns that ``record`` has fields for, in the order of the fields.

    A field gets the column of its name among ``more``, else in ``table``; what has neither keeps its default.
    """
    named: dict[str, ColumnElement[Any]] = {**dict(table.c.items()), **{column.key or "": column for column in more}}
    return [named[item.name] for item in dataclasses.fields(record) if item.name in named]


def record_reader(record: type[T], columns: Sequence[ColumnElement[Any]]) -> Callable[[Row], T]:
    """Return what makes a record of a row that has ``columns``, which must be its first fields, in order.

    JSON texts become their values (NULL becomes the field's default: an empty mapping or tuple), flags become bool.
    """
    fields = dataclasses.fields(record)  # type: ignore[arg-type]
    if [column.key for column in columns] != [item.name for item in fields[: len(columns)]]:
        raise TypeError(f"{record.__name__} has not these columns as its first fields: {columns}")
    special = [
        (place, column.type.process_result_value, _default(item))
        for place, (column, item) in enumerate(zip(columns, fields, strict=False))
        if isinstance(column.type, Json | Flag)
    ]

    def read(row: Row) -> T:
        values = list(row)
        for place, decode, default in special:
            value = decode(values[place], None)
            values[place] = default if value is None else tuple(value) if isinstance(value, list) else value
        return record(*values)

    return read


def _default(item: "dataclasses.Field[Any]") -> Any:
    """Return what a field without a value has; shared between records, which are not to be changed."""
    return item.default_factory() if callable(item.default_factory) else item.default


def side_by_side(*parts: tuple[Callable[[Any], Any], int]) -> Callable[[Row], tuple[Any, ...]]:
    """Return what makes several things of one row; each has its reader and the number of its columns.

    One whose first column is NULL is None: an outer join found no row.
    """
    ends = list(accumulate(width for _, width in parts))
    cuts = [(read, end - width, end) for (read, width), end in zip(parts, ends, strict=True)]

    def read_all(row: Row) -> tuple[Any, ...]:
        values = tuple(row)
        return tuple([None if values[begin] is None else read(values[begin:end]) for read, begin, end in cuts])

    return read_all


def value_of(values: Row | Sequence[Any]) -> Any:
    """Return the first value of a row, or of a part of one."""
    return values[0]


def every(read: Callable[[Row], T]) -> Callable[[Sequence[Row]], list[T]]:
    """Return a decoder of all rows."""
    return lambda rows: [read(row) for row in rows]


def first(read: Callable[[Row], T]) -> Callable[[Sequence[Row]], T | None]:
    """Return a decoder of the first row; None without one."""
    return lambda rows: read(rows[0]) if rows else None


def value(rows: Sequence[Row]) -> Any:
    """Decode the first value of the first row; None without one."""
    return rows[0][0] if rows else None


def pairs(rows: Sequence[Row]) -> dict[Any, Any]:
    """Decode rows of two columns: of each its first value, and what belongs to it."""
    return {row[0]: row[1] for row in rows}


def as_they_are(rows: Sequence[Row]) -> Sequence[Row]:
    """Leave rows as the database gives them."""
    return rows


def is_short(limit: int, offset: int) -> bool:
    """Tell whether so few rows are read that the event loop may wait for them."""
    return limit + offset <= SHORT


def ask(query: Query) -> Steps[Any]:
    """Yield one query and return its result."""
    return (yield query)


def as_given(columns: Iterable[ColumnElement[Any]]) -> dict[str, BindParameter[Any]]:
    """Return what sets each of some columns to the parameter of its name."""
    return {str(column.key): bindparam(str(column.key), type_=column.type) for column in columns}


def page_limit() -> BindParameter[int]:
    """Return the parameter ``limit``."""
    return bindparam("limit", type_=BigInteger)


def page_offset() -> BindParameter[int]:
    """Return the parameter ``offset``."""
    return bindparam("offset", type_=BigInteger)


def paged(statement: Select[Any]) -> Statement:
    """Return a statement with the parameters ``limit`` and ``offset``."""
    return Statement(statement.limit(page_limit()).offset(page_offset()))


def row_number(text: str) -> int | None:
    """Return the number that an opaque id stands for; None if it can be no row's."""
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdecimal()) or len(stripped) > 19:
        return None
    number = int(stripped)
    return number if number <= LARGEST_INTEGER else None
