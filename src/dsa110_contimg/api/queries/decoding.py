"""From rows to records, and the few phrases that several statements share."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import BigInteger, BindParameter, Column, Table, bindparam, func, select
from sqlalchemy.sql import ColumnElement, Select
from sqlalchemy.types import TypeDecorator

from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import LARGEST_INTEGER, Query, Statement, Steps

T = TypeVar("T")


def record_columns(record: type[Any], table: Table) -> list[Column[Any]]:
    """Return the columns of ``table`` that ``record`` has fields for, in the order of the fields."""
    return [table.c[item.name] for item in dataclasses.fields(record) if item.name in table.c]


def record_reader(record: Callable[..., T], columns: Sequence[ColumnElement[Any]]) -> Callable[[Row], T]:
    """Return what makes a record of a row that has ``columns``; each goes to the field of its name.

    JSON texts become their values (an empty mapping or tuple where the record wants one and the row has NULL), flags
    become bool.
    """
    names = [column.name for column in columns]
    special = [
        (name, column.type.process_result_value)
        for name, column in zip(names, columns, strict=True)
        if isinstance(column.type, TypeDecorator) and type(column.type).process_result_value is not _INHERITED
    ]

    def read(row: Row) -> T:
        values = dict(zip(names, row, strict=True))
        for name, decode in special:
            value = decode(values[name], None)  # type: ignore[arg-type]
            if value is None:
                del values[name]  # the record's own default: nothing known
            else:
                values[name] = tuple(value) if isinstance(value, list) else value
        return record(**values)

    return read


_INHERITED = TypeDecorator.process_result_value


def every(read: Callable[[Row], T]) -> Callable[[Sequence[Row]], list[T]]:
    """Return a decoder of all rows."""
    return lambda rows: [read(row) for row in rows]


def first(read: Callable[[Row], T]) -> Callable[[Sequence[Row]], T | None]:
    """Return a decoder of the first row; None without one."""
    return lambda rows: read(rows[0]) if rows else None


def value(rows: Sequence[Row]) -> Any:
    """Decode the first value of the first row; None without one."""
    return rows[0][0] if rows else None


def ask(query: Query) -> Steps[Any]:
    """Yield one query and return its result."""
    return (yield query)


def page_limit() -> BindParameter[int]:
    """Return the parameter ``limit``."""
    return bindparam("limit", type_=BigInteger)


def page_offset() -> BindParameter[int]:
    """Return the parameter ``offset``."""
    return bindparam("offset", type_=BigInteger)


def paged(statement: Select[Any]) -> Statement:
    """Return a statement with the parameters ``limit`` and ``offset``."""
    return Statement(statement.limit(page_limit()).offset(page_offset()))


def counting(table: Table) -> Statement:
    """Return the statement that counts the rows of a table."""
    return Statement(select(func.count()).select_from(table))


def row_number(text: str) -> int | None:
    """Return the number that an opaque id stands for; None if it can be no row's."""
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdecimal()) or len(stripped) > 19:
        return None
    number = int(stripped)
    return number if number <= LARGEST_INTEGER else None
