"""Set the queue up: ``python -m dsa110_contimg.absurd.setup init [--roles] | status | reset [-y]``.

A release of the queue is a version, the SQL that makes it, and the steps that bring an older version up to it. A step
(``upgrades/0002_….sql``) changes what cannot be made anew: tables that hold rows, and functions whose signature
changed; all else is created or replaced by the files themselves, which run at every ``init``.

Everything happens in one transaction, which waits half a second for a lock at most and is begun again when it did not
get it: workers run on beside it, and see the old queue or the new one. A schema of version *v* serves code of the
versions from ``serves_from`` to *v*: upgrade the schema first, then restart the workers one after the other.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg

from dsa110_contimg.absurd.config import AbsurdConfig, ConfigError
from dsa110_contimg.absurd.connection import (
    PASSING,
    REFUSED,
    AbsurdError,
    QueueUnavailableError,
    SchemaError,
    open_connection,
    persist,
    unanswered,
)
from dsa110_contimg.absurd.release import SCHEMA_VERSION, Release, current_release, is_outdated
from dsa110_contimg.absurd.statements import installation
from dsa110_contimg.secret_files import masked

#: How long ``init`` goes on trying to get its locks.
PATIENCE_S = 60.0

_INDEXES = re.compile(r"^create (?:unique )?index if not exists .*?;$", re.MULTILINE | re.DOTALL)


async def init(
    database_url: str, *, roles: bool = False, release: Release | None = None, patience_s: float = PATIENCE_S
) -> None:
    """Create the queue's schema, or bring it up to date; harmless to repeat and beside running workers.

    Parameters
    ----------
    database_url : str
        Address of the database, with the right to create a schema in it.
    roles : bool
        Also make the roles of ``sql/roles.sql``; this needs the right to create roles. Once made, they are kept up to
        date by every later call.
    release : Release, optional
        Default: the one of this code.
    patience_s : float
        How long to go on trying while others hold the tables.

    Raises
    ------
    SchemaError
        The database holds the schema of a newer version, or the roles may not be made.
    QueueUnavailableError
        The server does not answer, or others held the tables for too long.
    """
    wanted = release or current_release()
    await _run(database_url, lambda connection: _init(connection, wanted, roles), patience_s)


async def reset(database_url: str) -> None:
    """Delete the queue with every task in it, and create it anew, with its roles if it had them."""
    await _run(database_url, _reset)


async def status(database_url: str) -> dict[str, Any]:
    """Return ``exists`` and, when the queue exists, what it is and holds.

    These are ``schema_version``, ``serves_from``, ``installed_at``, the numbers of ``tables``, ``functions``, ``tasks``
    and of tasks that are ``misplaced`` (0, always), the ``roles``, and whether it is ``up_to_date``: made of the SQL of
    this code.
    """
    result: dict[str, Any] = await _run(database_url, _status)
    return result


async def _run(database_url: str, work: Callable[[Any], Awaitable[Any]], patience_s: float = PATIENCE_S) -> Any:
    """Do ``work`` in one transaction, again and again while others hold what it needs."""
    try:
        connection = await open_connection(database_url, "absurd setup", command_timeout_s=120.0)
    except (*PASSING, *REFUSED) as error:
        raise unanswered(database_url, error) from error

    async def attempt() -> Any:
        async with connection.transaction():
            await connection.execute(installation.SET_LOCK_TIMEOUT)
            return await work(connection)

    busy = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
    try:
        return await persist(attempt, patience_s, busy)
    except busy as error:
        raise QueueUnavailableError(
            f"others held the queue of {masked(database_url)} for {patience_s:g} s ({error}); try again, or look into "
            "pg_stat_activity for transactions that do not end"
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaError(
            f"the role of {masked(database_url)} may not do this ({error}); log in as the owner of the database or as "
            "an administrator"
        ) from error
    finally:
        await connection.close()


async def _init(connection: Any, release: Release, roles: bool) -> None:
    await connection.execute(installation.LOCK_SETUP)
    installed: Mapping[str, Any] = {}
    if await connection.fetchval(installation.SCHEMA_EXISTS):
        installed = dict(await connection.fetchrow(installation.INSTALLED))
    found = installed.get("schema_version")
    if found is not None:
        await _upgrade(connection, found, release)
    for text in release.schema:
        # An index that exists already would still lock its table; a missing table is made either way.
        await connection.execute(_INDEXES.sub("", text) if found == release.version else text)
    roles = roles or bool(installed.get("roles"))
    await connection.execute(installation.SET_VERSION, release.version, release.serves_from, roles)
    await connection.execute(installation.SET_MADE_OF.format(release.fingerprint))
    if roles:
        await connection.execute(installation.CREATE_ROLES)
        await connection.execute(installation.GRANT_ROLES)


async def _upgrade(connection: Any, found: int, release: Release) -> None:
    if found > release.version:
        raise SchemaError(f"the queue has schema version {found}, this code only knows {release.version}")
    for version in range(found + 1, release.version + 1):
        await connection.execute(release.upgrades[version])


async def _reset(connection: Any) -> None:
    await connection.execute(installation.LOCK_SETUP)
    roles = False
    if await connection.fetchval(installation.SCHEMA_EXISTS):
        roles = bool(dict(await connection.fetchrow(installation.INSTALLED)).get("roles"))
    await connection.execute(installation.DROP_SCHEMA)
    await _init(connection, current_release(), roles)


async def _status(connection: Any) -> dict[str, Any]:
    if not await connection.fetchval(installation.SCHEMA_EXISTS):
        return {"exists": False}
    installed = dict(await connection.fetchrow(installation.INSTALLED))
    if installed["schema_version"] != SCHEMA_VERSION:
        return {"exists": True, "schema_version": installed["schema_version"]}
    told = dict(await connection.fetchrow(installation.STATUS))
    return {"exists": True, **told, "up_to_date": not is_outdated(installed)}


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m dsa110_contimg.absurd.setup", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("init", help="create the queue or bring it up to date")
    create.add_argument("--roles", action="store_true", help="also make the roles absurd_owner, _api, _worker, _reader")
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
            asyncio.run(init(url, roles=arguments.roles))
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
