"""Statements for a named table and columns, in the dialect of either database.

For callers that know a table only by name; the statements of this package itself are in ``queries``. A condition
(``where``) is SQL text with the database's own placeholders, such as ``builder.placeholder(1)`` gives them; names of
tables and columns are quoted where they need it and must be plain identifiers.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import column, delete, func, literal_column, select, table, update
from sqlalchemy.sql import ClauseElement, ColumnElement
from sqlalchemy.sql.expression import TableClause, UnaryExpression

from dsa110_contimg.api.db_adapters.backend import DatabaseBackend
from dsa110_contimg.api.db_adapters.statement import DIALECTS, INSERTS
from dsa110_contimg.api.exceptions import ValidationError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ORDER = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:\s+(?P<way>asc|desc))?", re.IGNORECASE)


class QueryBuilder:
    """Builds statements for one database; parameters are numbered from 1 in the order in which they are written."""

    def __init__(self, backend: DatabaseBackend | str) -> None:
        self.backend = DatabaseBackend(backend)

    def placeholder(self, index: int = 1) -> str:
        """Return the sign of parameter ``index``: ``?``, or ``$index``."""
        return "?" if self.backend is DatabaseBackend.SQLITE else f"${index}"

    def placeholders(self, count: int, start: int = 1) -> str:
        """Return the signs of ``count`` parameters with commas between, the first being number ``start``."""
        return ", ".join(self.placeholder(start + i) for i in range(count))

    def select(
        self,
        table: str,
        columns: Sequence[str] = (),
        where: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> str:
        """Return a SELECT; no ``columns`` means all. ``order_by`` is like ``created_at DESC, id``."""
        source = _table(table, columns)
        statement = select(*source.c) if columns else select(literal_column("*")).select_from(source)
        if where:
            statement = statement.where(literal_column(where))
        for expression in _order(order_by):
            statement = statement.order_by(expression)
        if limit is not None:
            statement = statement.limit(_count("limit", limit))
        if offset is not None:
            statement = statement.offset(_count("offset", offset))
        return self._text(statement)

    def insert(self, table: str, columns: Sequence[str], returning: str | None = None) -> str:
        """Return an INSERT of one row, with RETURNING when a column is named."""
        target = _table(table, columns)
        statement = INSERTS[self.backend](target).values({name: self._sign(i) for i, name in enumerate(columns, 1)})
        return self._text(statement.returning(column(_name(returning))) if returning else statement)

    def update(self, table: str, columns: Sequence[str], where: str, where_param_offset: int = 0) -> str:
        """Return an UPDATE; the parameters of ``where`` come first when ``where_param_offset`` counts them.

        The new values are parameters number ``where_param_offset + 1`` and on. (On SQLite, whose placeholders have no
        numbers, values stand before the condition.)
        """
        target = _table(table, columns)
        values = {name: self._sign(where_param_offset + i) for i, name in enumerate(columns, 1)}
        return self._text(update(target).values(values).where(literal_column(where)))

    def delete(self, table: str, where: str) -> str:
        """Return a DELETE."""
        return self._text(delete(_table(table, ())).where(literal_column(where)))

    def upsert(
        self,
        table: str,
        columns: Sequence[str],
        conflict_columns: Sequence[str],
        update_columns: Sequence[str] | None = None,
    ) -> str:
        """Return an INSERT that updates the row whose ``conflict_columns`` are the same.

        ``update_columns`` are all others unless given; with none to update the row stays as it is.
        """
        target = _table(table, columns)
        chosen = (
            [name for name in columns if name not in conflict_columns] if update_columns is None else update_columns
        )
        statement = INSERTS[self.backend](target).values({name: self._sign(i) for i, name in enumerate(columns, 1)})
        keys = [_name(name) for name in conflict_columns]
        if not chosen:
            return self._text(statement.on_conflict_do_nothing(index_elements=keys))
        fresh = {_name(name): statement.excluded[name] for name in chosen}
        return self._text(statement.on_conflict_do_update(index_elements=keys, set_=fresh))

    def count(self, table: str, where: str | None = None) -> str:
        """Return a SELECT of the number of rows."""
        statement = select(func.count()).select_from(_table(table, ()))
        return self._text(statement.where(literal_column(where)) if where else statement)

    def exists(self, table: str, where: str) -> str:
        """Return a SELECT that tells whether there is such a row."""
        return self._text(
            select(select(literal_column("1")).select_from(_table(table, ())).where(literal_column(where)).exists())
        )

    def _sign(self, index: int) -> ColumnElement[Any]:
        return literal_column(self.placeholder(index))

    def _text(self, statement: ClauseElement) -> str:
        return str(statement.compile(dialect=DIALECTS[self.backend], compile_kwargs={"literal_binds": True}))


def _name(name: str) -> str:
    if not _IDENTIFIER.fullmatch(name):
        raise ValidationError(f"{name!r} is no name of a table or column", field="column", value=name)
    return name


def _table(name: str, columns: Sequence[str]) -> TableClause:
    return table(_name(name), *(column(_name(each)) for each in columns))


def _order(order_by: str | None) -> Iterator[ColumnElement[Any] | UnaryExpression[Any]]:
    for part in order_by.split(",") if order_by else ():
        match = _ORDER.fullmatch(part.strip())
        if match is None:
            raise ValidationError(f"{part.strip()!r} is no order: write a column, then ASC or DESC", "order_by", part)
        name: ColumnElement[Any] = column(match["name"])
        yield name.desc() if (match["way"] or "").lower() == "desc" else name.asc()


def _count(field: str, value: int) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValidationError(f"{field}={value!r} cannot be used: it must be a whole number from 0", field, value)
    return value
