"""Bugs on purpose: one condition taken out of a function of the queue, as it stands in the database, and put back."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bug:
    """A function of the schema, what stands in it, and what the bug makes of that."""

    name: str
    function: str
    right: str
    wrong: str


@contextlib.asynccontextmanager
async def planted(connection: Any, bug: Bug) -> AsyncIterator[None]:
    """Plant a bug for a while."""
    definition = await connection.fetchval(
        "select pg_get_functiondef(oid) from pg_proc where pronamespace = 'absurd'::regnamespace and proname = $1",
        bug.function,
    )
    assert bug.right in definition, f"absurd.{bug.function} reads otherwise now; plant the bug anew"
    await connection.execute(definition.replace(bug.right, bug.wrong))
    try:
        yield
    finally:
        await connection.execute(definition)
