"""Kinds of columns that keep the same values in both databases."""

import math
from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import BigInteger, Double, Integer, Text, TypeDecorator
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class Number(TypeDecorator[float]):
    """Double precision; NaN and the infinities become NULL."""

    impl = Double
    cache_ok = True
    python_type = float  # of a decorated type it is `object`, and a cursor could bring anything

    def process_bind_param(self, value: float | None, dialect: Dialect | None) -> float | None:
        """Return a finite number or None."""
        return float(value) if value is not None and math.isfinite(value) else None


class DatabaseTime(FunctionElement[float]):
    """The time by the clock of the database (Unix seconds, UTC), which is one for the processes of all hosts."""

    type = Number()
    inherit_cache = True


@compiles(DatabaseTime, "sqlite")
def _time_in_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(DatabaseTime, "postgresql")
def _time_in_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


class Flag(TypeDecorator[bool]):
    """Yes or no, kept as 1 or 0."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: bool | None, dialect: Dialect | None) -> int | None:
        """Return 0 or 1."""
        return None if value is None else int(value)

    def process_result_value(self, value: Any | None, dialect: Dialect | None) -> bool | None:
        """Return True or False."""
        return None if value is None else bool(value)


class Json(TypeDecorator[Any]):
    """A JSON value, kept as text; NaN and the infinities in it become null."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect | None) -> str | None:
        """Return the text of a value; an SQL NULL for None."""
        return None if value is None else orjson.dumps(value, default=_plain).decode()

    def process_result_value(self, value: Any | None, dialect: Dialect | None) -> Any | None:
        """Return the value of a text."""
        return None if value is None else orjson.loads(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


# PostgreSQL sorts text by the rules of its locale unless told otherwise; identifiers are in byte order on both.
Identifier = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
# SQLite numbers rows by itself only in a column that is exactly INTEGER.
RowNumber = BigInteger().with_variant(Integer, "sqlite")
