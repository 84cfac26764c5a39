"""Statements that read what triggers keep inside each write: counts of rows, generations of tables."""

from collections.abc import Sequence

from sqlalchemy import bindparam, func, select

from dsa110_contimg.api.column_kinds import Identifier
from dsa110_contimg.api.db_adapters.backend import Row
from dsa110_contimg.api.db_adapters.statement import Query, Statement, Steps
from dsa110_contimg.api.queries.decoding import ask, pairs, value
from dsa110_contimg.api.tables import table_counts, table_generations

_NUMBERS = table_counts.c
_COUNTS = Statement(select(_NUMBERS.name, _NUMBERS.bucket, _NUMBERS.n).where(_NUMBERS.n > 0))
_NAME = bindparam("name", type_=Identifier)
_TOTAL = Statement(select(func.coalesce(func.sum(_NUMBERS.n), 0)).where(_NUMBERS.name == _NAME))
_BUCKET = Statement(select(_NUMBERS.n).where(_NUMBERS.name == _NAME, _NUMBERS.bucket == bindparam("bucket")))
_GENERATIONS = Statement(select(table_generations.c.name, table_generations.c.value))

Counts = dict[str, dict[str, int]]


def _nested(rows: Sequence[Row]) -> Counts:
    counts: Counts = {}
    for name, bucket, number in rows:
        counts.setdefault(name, {})[bucket] = number
    return counts


def counts() -> Steps[Counts]:
    """Read how many rows each table has in each bucket; a bucket without rows is left out."""
    return ask(Query(_COUNTS, {}, _nested, prompt=True))


def total(table: str, bucket: str | None = None) -> Steps[int]:
    """Read how many rows a table has, in all buckets or in one."""
    if bucket is None:
        return int((yield Query(_TOTAL, {"name": table}, value, prompt=True)))  # a sum is no integer in PostgreSQL
    return (yield Query(_BUCKET, {"name": table, "bucket": bucket}, value, prompt=True)) or 0


def generations() -> Steps[dict[str, int]]:
    """Read the number of the last write of each table; a table that was never written may be absent."""
    return ask(Query(_GENERATIONS, {}, pairs, prompt=True))
