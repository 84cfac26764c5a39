"""Triggers that count the rows of a table and number its changes, inside each write, on both databases.

``table_counts`` says how many rows a table has in each bucket (one value of one column, '' for NULL), and
``table_generations`` has another number after every write. The numbers are random, since they are only asked whether
they are the same: a database that was restored or made anew does not number its writes as those that were lost.
Numbers that rise would; those made of the time run ahead of it where a load of rows has one for each, and come again
when a clock is set back. Migrations call :func:`keep` for each table that they make; a table that SQLite makes anew
(``batch_alter_table``) loses its triggers and must be kept again.

On PostgreSQL every write of a kept table first takes one lock of the whole transaction. Two writers would wait at the
counters anyway, which all of them change, and could do so crosswise; this way they wait once and in order.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.migration import MigrationContext

#: Tables that are kept since revision 0010, each with the column whose values are counted apart.
COUNTED = {
    "ms_index": "stage", "images": "type", "sources": None, "photometry": None, "caltables": "status",
    "jobs": "status", "batch_jobs": "status", "batch_job_items": "status", "hdf5_files": None, "image_qa": None,
    "calibration_qa": None, "provenance": None, "image_regions": None,
}  # fmt: skip

_SQLITE_RANDOM = "(random() & 281474976710655)"  # 48 bits: keys of replies hold some of them and have a bound
_POSTGRESQL_RANDOM = "CAST(floor(random() * 281474976710656) AS bigint)"
_NUMBER = """INSERT INTO table_generations (name, value) VALUES ({table}, {number})
ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
_FILL = """INSERT INTO table_counts (name, bucket, n)
SELECT '{table}', part, count(*) FROM (SELECT {part} AS part FROM {table}) AS parts GROUP BY part"""
_FORGET = ("DELETE FROM table_counts WHERE name = '{table}'", "DELETE FROM table_generations WHERE name = '{table}'")
_SQLITE_COUNT = """INSERT INTO table_counts (name, bucket, n) VALUES ('{table}', {bucket}, {step})
ON CONFLICT (name, bucket) DO UPDATE SET n = n + {step}"""

# An update moves rows between buckets; where there is one bucket it changes no count.
_POSTGRESQL_FUNCTIONS = (
    """
CREATE OR REPLACE FUNCTION dsa110_count(table_name text, found text, step bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO table_counts (name, bucket, n) VALUES (table_name, found, step)
    ON CONFLICT (name, bucket) DO UPDATE SET n = table_counts.n + step
$$""",
    """
CREATE OR REPLACE FUNCTION dsa110_before_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(225, 272);
    RETURN NULL;
END $$""",
    f"""
CREATE OR REPLACE FUNCTION dsa110_after_write() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one_bucket boolean := TG_ARGV[0] = '';
    tally text := 'SELECT dsa110_count(%L, bucket, %s number) FROM '
        '(SELECT coalesce(%s, '''') AS bucket, count(*) AS number FROM %s GROUP BY 1 ORDER BY 1) AS counted';
    part text := CASE WHEN one_bucket THEN 'NULL::text' ELSE TG_ARGV[0] END;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM table_counts WHERE name = TG_TABLE_NAME;
    ELSIF NOT (one_bucket AND TG_OP = 'UPDATE') THEN
        IF TG_OP <> 'INSERT' THEN
            EXECUTE format(tally, TG_TABLE_NAME, '-', part, 'gone');
        END IF;
        IF TG_OP <> 'DELETE' THEN
            EXECUTE format(tally, TG_TABLE_NAME, '', part, 'come');
        END IF;
    END IF;
    {_NUMBER.format(table="TG_TABLE_NAME", number=_POSTGRESQL_RANDOM)};
    RETURN NULL;
END $$""",  # noqa: S608 - fixed text
)
_TRANSITIONS = {
    "insert": "REFERENCING NEW TABLE AS come",
    "update": "REFERENCING OLD TABLE AS gone NEW TABLE AS come",
    "delete": "REFERENCING OLD TABLE AS gone",
    "truncate": "",
}


def prepare() -> None:
    """Make what the triggers call; the tables of the counts must be there."""
    if not _is_sqlite():
        for function in _POSTGRESQL_FUNCTIONS:
            op.execute(function)


def clear() -> None:
    """Drop what the triggers call; no table may be kept any more."""
    if not _is_sqlite():
        op.execute("DROP FUNCTION dsa110_after_write()")
        op.execute("DROP FUNCTION dsa110_before_write()")
        op.execute("DROP FUNCTION dsa110_count(text, text, bigint)")


def keep(table: str, bucket: str | None = None) -> None:
    """Count the rows of a table from now on, by the values of the column ``bucket`` if one is named."""
    op.execute(_FORGET[0].format(table=table))
    op.execute(_FILL.format(table=table, part=f"coalesce({bucket}, '')" if bucket else "''"))
    op.execute(_generation(table))
    if _is_sqlite():
        _keep_in_sqlite(table, bucket)
    else:
        _keep_in_postgresql(table, bucket)


def renew(table: str, bucket: str | None = None) -> None:
    """Make the triggers of a table anew, by what this module says now; its counts stay."""
    if _is_sqlite():
        _drop_triggers(table)
        _keep_in_sqlite(table, bucket)
    op.execute(_generation(table))


def number_step(ctx: MigrationContext, *_: Any, **__: Any) -> None:
    """Let a step of the migrations count as a write of every table: who reads them then may find other columns."""
    connection = ctx.connection
    if connection is not None and sa.inspect(connection).has_table("table_generations"):
        number = _SQLITE_RANDOM if connection.dialect.name == "sqlite" else _POSTGRESQL_RANDOM
        connection.execute(sa.text(f"UPDATE table_generations SET value = {number}"))  # noqa: S608 - fixed text


def release(table: str) -> None:
    """Count the rows of a table no longer."""
    _drop_triggers(table)
    for statement in _FORGET:
        op.execute(statement.format(table=table))


def _drop_triggers(table: str) -> None:
    events = ("insert", "update", "delete", "move") if _is_sqlite() else ("before", *_TRANSITIONS)
    for event in events:
        op.execute(f"DROP TRIGGER IF EXISTS {table}_{event}_counted" + ("" if _is_sqlite() else f" ON {table}"))


def _generation(table: str) -> str:
    return _NUMBER.format(table=f"'{table}'", number=_random())


def _random() -> str:
    return _SQLITE_RANDOM if _is_sqlite() else _POSTGRESQL_RANDOM


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _sqlite_count(table: str, row: str, bucket: str | None, step: int) -> str:
    found = f"coalesce({row}.{bucket}, '')" if bucket else "''"
    return _SQLITE_COUNT.format(table=table, bucket=found, step=step)


def _keep_in_sqlite(table: str, bucket: str | None) -> None:
    come, gone = (_sqlite_count(table, *change) for change in (("NEW", bucket, 1), ("OLD", bucket, -1)))
    generation = _generation(table)
    bodies = {
        "insert": ("INSERT", f"{come}; {generation}"),
        "update": ("UPDATE", generation),
        "delete": ("DELETE", f"{gone}; {generation}"),
    }
    if bucket:
        bodies["move"] = (f"UPDATE OF {bucket}", f"{gone}; {come}")
    for event, (when, body) in bodies.items():
        op.execute(f"CREATE TRIGGER {table}_{event}_counted AFTER {when} ON {table} BEGIN {body}; END")


def _keep_in_postgresql(table: str, bucket: str | None) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_before_counted BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION dsa110_before_write()"
    )
    for event, tables in _TRANSITIONS.items():
        op.execute(
            f"CREATE TRIGGER {table}_{event}_counted AFTER {event.upper()} ON {table} {tables} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION dsa110_after_write('{bucket or ''}')"
        )
