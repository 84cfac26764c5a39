"""Set the queue up: ``python -m dsa110_contimg.absurd.setup init | status | reset [-y]``."""

import argparse
import asyncio
import sys
from importlib.resources import files
from typing import Any

from dsa110_contimg.absurd.config import AbsurdConfig, ConfigError, masked
from dsa110_contimg.absurd.connection import (
    PASSING,
    REFUSED,
    SCHEMA_VERSION,
    AbsurdError,
    QueueUnavailableError,
    SchemaError,
    open_connection,
)
from dsa110_contimg.absurd.statements import installation

#: The queue, in the order in which it is made.
SCHEMA_FILES = ("schema.sql",)


async def init(database_url: str) -> None:
    """Create the queue's schema, or bring its functions up to date; harmless to repeat and beside running workers.

    Raises
    ------
    SchemaError
        The database holds the schema of a newer version.
    QueueUnavailableError
        The server does not answer.
    """
    await _run(database_url, _init)


async def reset(database_url: str) -> None:
    """Delete the queue with every task in it, and create it anew."""
    await _run(database_url, _reset)


async def status(database_url: str) -> dict[str, Any]:
    """Return ``exists`` and, when the queue exists, its version and the numbers of tables, functions and tasks."""
    result: dict[str, Any] = await _run(database_url, _status)
    return result


async def _run(database_url: str, work: Any) -> Any:
    try:
        connection = await open_connection(database_url, "absurd setup", command_timeout_s=120.0)
    except (*PASSING, *REFUSED) as error:
        raise QueueUnavailableError(
            f"{masked(database_url)} does not answer ({error}); is the server up, and is ABSURD_DATABASE_URL right?"
        ) from error
    try:
        async with connection.transaction():
            return await work(connection)
    finally:
        await connection.close()


async def _init(connection: Any) -> None:
    await connection.execute(installation.LOCK_SETUP)
    if await connection.fetchval(installation.SCHEMA_EXISTS):
        version = await connection.fetchval(installation.SCHEMA_VERSION)
        if version > SCHEMA_VERSION:
            raise SchemaError(f"the queue has schema version {version}, this code only knows {SCHEMA_VERSION}")
    for name in SCHEMA_FILES:
        await connection.execute(files("dsa110_contimg.absurd").joinpath(name).read_text(encoding="utf-8"))


async def _reset(connection: Any) -> None:
    await connection.execute(installation.LOCK_SETUP)
    await connection.execute(installation.DROP_SCHEMA)
    await _init(connection)


async def _status(connection: Any) -> dict[str, Any]:
    if not await connection.fetchval(installation.SCHEMA_EXISTS):
        return {"exists": False}
    return {"exists": True, **dict(await connection.fetchrow(installation.STATUS))}


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m dsa110_contimg.absurd.setup", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="create the queue or bring its functions up to date")
    commands.add_parser("status", help="say whether the queue is there, and what it holds")
    wipe = commands.add_parser("reset", help="delete the queue with all its tasks and create it anew")
    wipe.add_argument("-y", "--yes", action="store_true", help="do not ask")
    return parser.parse_args(argv)


def _agreed(url: str) -> bool:
    sys.stdout.write(f"This deletes every task of {masked(url)}. Type yes to go on: ")
    sys.stdout.flush()
    return sys.stdin.readline().strip() == "yes"


def main(argv: list[str] | None = None) -> int:
    """Run one command; exit code 0 = done, 1 = failed or not agreed to, 2 = wrong usage."""
    arguments = _parse(argv)
    try:
        url = AbsurdConfig.from_env().database_url
        if arguments.command == "status":
            for name, value in asyncio.run(status(url)).items():
                sys.stdout.write(f"{name}: {value}\n")
        elif arguments.command == "init":
            asyncio.run(init(url))
            sys.stdout.write(f"the queue of {masked(url)} is ready (schema version {SCHEMA_VERSION})\n")
        elif arguments.yes or _agreed(url):
            asyncio.run(reset(url))
            sys.stdout.write(f"the queue of {masked(url)} is empty\n")
        else:
            return 1
    except (AbsurdError, ConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
