"""Spawning inside a transaction of the caller: the tasks are there when it commits, and never were when it does not.

Understood are connections of asyncpg, of psycopg (3, blocking and asynchronous) and of SQLAlchemy (Connection, Session,
AsyncConnection and AsyncSession over either driver). None of these packages is imported here: a connection is known by
what it can do. JSON travels as text, so that no type codec, row factory or other habit of the caller's connection
matters.
"""

import asyncio
import inspect
import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from dsa110_contimg.absurd.specs import Spawned
from dsa110_contimg.absurd.statements import tasks

Rows = Sequence[Sequence[Any]]


async def spawn_on(connection: Any, nodes: str, *workflow: Any) -> list[Spawned]:
    """Spawn tasks on a connection of the caller, without ending its transaction.

    A blocking connection works in a thread of its own, so that the event loop goes on.

    Parameters
    ----------
    connection
        Of asyncpg, psycopg or SQLAlchemy.
    nodes : str
        JSON of the tasks; see :func:`dsa110_contimg.absurd.specs.node`.
    *workflow
        Id, name and JSON metadata of the workflow that is to be made with them.

    Raises
    ------
    TypeError
        It is none of the connections that are understood.
    """
    statement = tasks.SPAWN_WORKFLOW_ON if workflow else tasks.SPAWN_TASKS_ON
    return _spawned(await _rows(connection, statement, [*workflow, nodes]))


def spawn_on_blocking(connection: Any, nodes: str, *workflow: Any) -> list[Spawned]:
    """Do the same on a blocking connection, in the caller's own thread."""
    statement = tasks.SPAWN_WORKFLOW_ON if workflow else tasks.SPAWN_TASKS_ON
    return _spawned(_blocking_rows(connection, statement, [*workflow, nodes]))


def _spawned(rows: Rows) -> list[Spawned]:
    return [Spawned(UUID(str(task_id)), bool(created)) for task_id, created in rows]


async def _rows(connection: Any, statement: str, args: list[Any]) -> Rows:
    """Return the rows of a statement on any connection."""
    if hasattr(connection, "fetchval"):  # asyncpg
        rows: Rows = await connection.fetch(statement, *args)
        return rows
    if not _is_asynchronous(connection):
        return await asyncio.to_thread(_blocking_rows, connection, statement, args)
    if hasattr(connection, "exec_driver_sql"):  # SQLAlchemy
        return (await connection.exec_driver_sql(_dialect_text(connection, statement), tuple(args))).all()  # type: ignore[no-any-return]
    if hasattr(connection, "get_bind"):  # a session of SQLAlchemy
        return await _rows(await connection.connection(), statement, args)
    async with connection.cursor(row_factory=_as_tuples) as cursor:  # psycopg
        await cursor.execute(_with_percent(statement), args)
        return await cursor.fetchall()  # type: ignore[no-any-return]


def _blocking_rows(connection: Any, statement: str, args: list[Any]) -> Rows:
    """Return the rows of a statement on a blocking connection."""
    if hasattr(connection, "fetchval") or _is_asynchronous(connection) or not hasattr(connection, "execute"):
        raise TypeError(
            f"{type(connection).__module__}.{type(connection).__qualname__} is no connection that tasks can be spawned "
            "on from here; give one of asyncpg, psycopg or SQLAlchemy (BlockingClient: a blocking one)"
        )
    if hasattr(connection, "exec_driver_sql"):
        return connection.exec_driver_sql(_dialect_text(connection, statement), tuple(args)).all()  # type: ignore[no-any-return]
    if hasattr(connection, "get_bind"):
        return _blocking_rows(connection.connection(), statement, args)
    with connection.cursor(row_factory=_as_tuples) as cursor:
        cursor.execute(_with_percent(statement), args)
        return cursor.fetchall()  # type: ignore[no-any-return]


def _is_asynchronous(connection: Any) -> bool:
    """Tell whether the calls of a connection have to be awaited."""
    calls = (getattr(connection, name, None) for name in ("exec_driver_sql", "execute"))
    return any(inspect.iscoroutinefunction(call) for call in calls)


def _as_tuples(cursor: Any) -> Any:
    """Make rows tuples, whatever the connection makes of them otherwise (psycopg's row factory)."""
    return tuple


def _dialect_text(connection: Any, statement: str) -> str:
    """Write the placeholders of a statement as the driver below SQLAlchemy wants them."""
    return statement if connection.dialect.paramstyle.startswith("numeric") else _with_percent(statement)


def _with_percent(statement: str) -> str:
    """Write the placeholders of a statement as psycopg wants them; each stands once, in the order of the arguments."""
    return re.sub(r"\$\d+", "%s", statement)
