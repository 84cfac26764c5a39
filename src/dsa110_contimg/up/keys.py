"""`dsa110 keys`: make, show and take back the keys of those who may change something; show what they changed."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dsa110_contimg.api.audit import AuditRecord, making
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.credentials import SCOPES, ApiKeyRecord, Scope, create_key
from dsa110_contimg.api.database import BlockingDatabase
from dsa110_contimg.api.repositories import CredentialRepository
from dsa110_contimg.exit_codes import CommandError, ExitCode
from dsa110_contimg.terminal import open_console, printable
from dsa110_contimg.up.observation import plain_errors
from dsa110_contimg.up.plan import command_environment

_DAY_S = 86400.0
_MOST_DAYS = 36525  # a hundred years
_LAST_S = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


class KeyCommandError(CommandError):
    """A key that cannot be made or taken back as told."""

    exit_code = ExitCode.USAGE


class AuditError(CommandError):
    """A record of changes that is not as it was written."""

    exit_code = ExitCode.WORK_FAILED


@contextmanager
def _keys() -> Iterator[CredentialRepository]:
    config = APIConfig.from_env(command_environment(needs_servers=False))
    with plain_errors(), BlockingDatabase(config.database, config.timeouts) as database:
        yield CredentialRepository(database)


@contextmanager
def _changing(keys: CredentialRepository, action: str, key_id: str) -> Iterator[None]:
    """Record a change that is made at the command line, in its own transaction."""
    entry = AuditRecord(time.time(), "command line", None, None, action, f"/keys/{key_id}", "admin", uuid.uuid4().hex)
    begun, status = keys.begin_change(entry, mark_key_used=False), 404
    try:
        with making(begun):
            yield
        status = 200
    finally:
        keys.add_entry(begun.followed("ended", status))


def create(name: str, scopes: Sequence[Scope], days: float) -> ExitCode:
    """Make a key; its text goes to standard output, once, and everything else to standard error."""
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise KeyCommandError(f"there is no scope {unknown[0]!r}; there are: {', '.join(SCOPES)}")
    if not name.strip():
        raise KeyCommandError("a key needs a name: whose it is, and for what")
    if not 0 <= days <= _MOST_DAYS:
        raise KeyCommandError(f"--days {days:g} is none of 0 to {_MOST_DAYS}; 0 is a key that never expires")
    text, record = create_key(name, scopes, time.time(), days * _DAY_S if days else None)
    with _keys() as keys, _changing(keys, "keys create", record.id):
        keys.add_key(record)
    open_console().file.write(f"{text}\n")
    end = f"until {_minute(record.expires_at)} UTC" if record.expires_at else "without end"
    Console(stderr=True).print(
        f"key {record.id} of {name!r} may {', '.join(record.scopes)}, {end}. It is shown this once only."
    )
    return ExitCode.OK


def show(as_json: bool) -> ExitCode:
    """Show all keys, without their secrets."""
    with _keys() as keys:
        rows = [_row(record) for record in keys.list_keys()]
    titles = ("key", "name", "scopes", "made (UTC)", "until (UTC)", "last used (UTC)", "state")
    times = ("created_at", "expires_at", "last_used_at")
    return _shown(
        rows,
        titles,
        lambda row: (
            row["id"], row["name"], " ".join(row["scopes"]), *(_minute(row[name]) for name in times), row["state"],
        ),
        as_json,
    )  # fmt: skip


def log(limit: int, as_json: bool) -> ExitCode:
    """Show who changed what, the newest first."""
    with _keys() as keys:
        rows = [asdict(entry) for entry in keys.newest_changes(limit)]
    return _shown(
        rows,
        ("when (UTC)", "who", "key", "from", "call", "path", "status"),
        lambda row: (
            _minute(row["at"]), row["actor"], row["key_id"] or "", row["client_ip"] or "", row["action"], row["path"],
            "not known" if row["status"] is None else str(row["status"]),
        ),
        as_json,
    )  # fmt: skip


def verify() -> ExitCode:
    """Walk along the record of changes and tell whether it is as it was written."""
    with _keys() as keys:
        check = keys.check_chain()
    if check.fault:
        raise AuditError(f"the record of changes was tampered with, or is damaged: {check.fault}")
    older = f"; {check.unchained} older ones are not part of the chain" if check.unchained else ""
    open_console().print(f"{check.entries} entries are as they were written{older}", markup=False)
    return ExitCode.OK


def _shown(
    rows: Sequence[dict[str, Any]],
    titles: Sequence[str],
    cells: Callable[[dict[str, Any]], Sequence[str]],
    as_json: bool,
) -> ExitCode:
    console = open_console()
    if as_json:
        console.file.write(json.dumps(rows, indent=2) + "\n")
        return ExitCode.OK
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in cells(row)))
    console.print(table)
    return ExitCode.OK


def _row(record: ApiKeyRecord) -> dict[str, Any]:
    row = asdict(record)
    del row["secret_sha256"]
    return row | {"state": record.fault(time.time()) or "valid"}


def _minute(unix_s: float | None) -> str:
    return "" if unix_s is None else datetime.fromtimestamp(min(unix_s, _LAST_S), UTC).strftime("%Y-%m-%d %H:%M")


def revoke(key_id: str) -> ExitCode:
    """Take a key back, at once and for good."""
    bare = key_id.removeprefix("dsa110_")
    with _keys() as keys, _changing(keys, "keys revoke", bare):
        if not keys.revoke_key(bare, time.time()):
            raise KeyCommandError(f"there is no valid key {key_id!r}; `dsa110 keys list` shows all")
    open_console().print(f"key {key_id} is revoked", markup=False)
    return ExitCode.OK
