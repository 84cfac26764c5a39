"""Lists: pages of one table in the orders that have an index, by cursor or offset, with conditions.

A list that is sorted by a number has the rows that have it. Ties are broken by the key, in the same direction, so that
an order is total and one index serves it both ways.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Double, Integer, bindparam, select, tuple_
from sqlalchemy.sql import ColumnElement, Select
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.types import TypeEngine

from dsa110_contimg.api.column_kinds import Flag, Json
from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.exceptions import ValidationError
from dsa110_contimg.api.pages import Document, Page, Wish, read_cursor, write_cursor
from dsa110_contimg.api.queries import counts
from dsa110_contimg.api.queries.decoding import as_they_are, is_short, page_limit, page_offset

Columns = Mapping[str, ColumnElement[Any]]
Conditions = tuple[tuple[str, str], ...]

_KEPT_STATEMENTS = 256  # of one list: its usual forms, however many others are asked for


class ListQuery:
    """A list of one table.

    Parameters
    ----------
    table : str
        Table whose rows are listed; its count is the number of all.
    columns : mapping
        What a row shows, by the names that clients know.
    key : str
        Name of the column that tells rows apart.
    order : str
        Name to sort by unless told otherwise, with ``-`` for falling.
    sortable : sequence of str
        Names that one may sort by; each has an index with the key behind it.
    more : mapping
        What else may be sorted by or asked for.
    source : FromClause, optional
        What to select from, when it is more than the table of the columns.
    bucket : str, optional
        Name of the condition whose values are counted apart (``table_counts``).

    Attributes
    ----------
    names : tuple of str
        What a row shows.
    order : str
        Name to sort by unless told otherwise.
    orders : tuple of str
        Names that one may sort by.
    """

    def __init__(
        self, table: str, columns: Columns, *, key: str, order: str, sortable: Sequence[str],
        more: Columns | None = None, source: FromClause | None = None, bucket: str | None = None,
    ) -> None:  # fmt: skip
        self.names = tuple(columns)
        self._table = table
        self._known: dict[str, ColumnElement[Any]] = {**columns, **(more or {})}
        self._key_name = key
        self._key = self._known[key]
        self.order = order
        self.orders = tuple(sorted({*sortable, order.lstrip("-")}))
        self._source = source
        self._bucket = bucket
        self._statement = lru_cache(maxsize=_KEPT_STATEMENTS)(self._build)

    def page(self, wish: Wish) -> Steps[Page]:
        """Read one page."""
        sort = wish.sort or self.order
        fields = wish.fields or self.names
        place = (sort.removeprefix("-"), self._key_name)  # what a cursor says of a row
        columns = (*fields, *dict.fromkeys(name for name in place if name not in fields))
        statement = self._statement(sort, columns, _shape(wish), wish.cursor is not None)
        params = {"limit": wish.limit + 1, "offset": wish.offset, **condition_values(wish)}
        if wish.cursor is not None:
            params["after_value"], params["after_key"] = read_cursor(wish.cursor, sort, self._kinds(sort))
        prompt = not wish.filters and is_short(wish.limit, wish.offset)
        rows: Sequence[Row] = yield Query(statement, params, as_they_are, prompt=prompt)
        last = rows[wish.limit - 1] if len(rows) > wish.limit else None
        return Page(
            self.documents(fields, rows[: wish.limit]),
            (yield from self._total(wish, sort)),
            None if last is None else write_cursor(sort, *(last[columns.index(name)] for name in place)),
        )

    def _total(self, wish: Wish, sort: str) -> Steps[int | None]:
        """Read how many rows there are in all, where that was counted as they were written."""
        if self._column(sort).nullable:
            return None
        if not wish.filters:
            return (yield from counts.total(self._table))
        only = wish.filters[0]
        if len(wish.filters) == 1 and (only.name, only.operator) == (self._bucket, "eq"):
            return (yield from counts.total(self._table, only.value))
        return None

    def _build(self, sort: str, names: tuple[str, ...], conditions: Conditions, after: bool) -> Statement:
        column, falling = self._column(sort), sort.startswith("-")
        statement = self.selection(names, conditions)
        if column.nullable:
            statement = statement.where(column.is_not(None))
        if after:
            place = tuple_(column, self._key)
            seen = tuple_(bindparam("after_value", type_=_wide(column)), bindparam("after_key", type_=_wide(self._key)))
            statement = statement.where(place < seen if falling else place > seen)
        order = [column] if column is self._key else [column, self._key]
        statement = statement.order_by(*(each.desc() if falling else each.asc() for each in order))
        return Statement(statement.limit(page_limit()).offset(page_offset()))

    def selection(self, fields: Sequence[str], conditions: Conditions) -> Select[Any]:
        """Return what selects some fields of the rows that meet the conditions, in no order."""
        statement = select(*(self._known[name].label(name) for name in fields))
        if self._source is not None:
            statement = statement.select_from(self._source)
        for name, operator in conditions:
            statement = statement.where(_condition(self._known[name], name, operator))
        return statement

    def told_of(self, name: str) -> Mapping[str, Any]:
        """Return what the column registry says of something that may be sorted by or asked for."""
        told: Mapping[str, Any] = getattr(self._known[name], "info", {})
        return told

    def documents(self, fields: Sequence[str], rows: Sequence[Row]) -> list[Document]:
        """Return rows as documents of ``fields``, which are their first columns."""
        found = [dict(zip(fields, row, strict=False)) for row in rows]
        for name in fields:
            kind = self._known[name].type
            if isinstance(kind, Flag | Json):
                for document in found:
                    document[name] = kind.process_result_value(document[name], None)
        return found

    def _kinds(self, sort: str) -> tuple[type, type]:
        return self._column(sort).type.python_type, self._key.type.python_type

    def _column(self, sort: str) -> ColumnElement[Any]:
        name = sort.removeprefix("-")
        if name not in self.orders:
            known = ", ".join(self.orders)
            raise ValidationError(f"sort={sort[:60]!r} is no order of this list; known are: {known}", field="sort")
        return self._known[name]


def _condition(column: ColumnElement[Any], name: str, operator: str) -> ColumnElement[bool]:
    bound = operator != "eq" and isinstance(column.type, Integer)  # it may have a fraction and be of any size
    given = bindparam(f"{operator}_{name}", type_=Double() if bound else column.type)
    if operator == "eq":
        return column == given
    return column >= given if operator == "min" else column <= given


def _wide(column: ColumnElement[Any]) -> TypeEngine[Any]:
    """Return the type of a value in a cursor, which may be larger than the column can hold."""
    return BigInteger() if isinstance(column.type, Integer) else column.type


def _shape(wish: Wish) -> Conditions:
    return tuple((each.name, each.operator) for each in wish.filters)


def condition_values(wish: Wish) -> dict[str, Any]:
    """Return the parameters of the conditions."""
    return {f"{each.operator}_{each.name}": each.value for each in wish.filters}
