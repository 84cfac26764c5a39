"""Database files of the earlier pipeline: recognised, opened without a trace, and seen as ours.

Nothing is ever written to such a file or beside it. Which way of opening it holds that, follows from its header and
from what lies beside it:

* without write-ahead log (or with an empty one) a file in WAL mode is opened as immutable: SQLite would make files
  beside it otherwise, and could not on a read-only medium;
* with a log and its index (``-shm``) somebody is writing; the file is read as any other reader does;
* a log without index was left by a crash or a copy. To read it, its index would have to be made: refused;
* a file with a rollback journal is read under SQLite's locks, which make no files.
"""

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

from dsa110_contimg.api.db_adapters.adapters.sqlite_errors import in_our_words
from dsa110_contimg.api.exceptions import DatabaseConnectionError
from dsa110_contimg.api.queries import earlier
from dsa110_contimg.api.strict_json import strict_json

REGISTRY = "cal_registry.sqlite3"
LOOK_AGAIN_S = 5.0
"""A file that somebody writes is looked at again after this long: until then new rows have no run and no sums."""

_WAL_VERSION = b"\x02\x02"
_descriptors: dict[tuple[int, int], int] = {}
_descriptors_lock = threading.Lock()
FileState = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class EarlierFile:
    """One state of an earlier file: how it is opened, and what was derived from it.

    Parameters
    ----------
    uris : dict of str
        Address to open of each schema (``main``, and ``registry`` if there is one).
    layout
        What columns there are.
    keeper : sqlite3.Connection
        Keeps ``derived``, a database in memory, as long as this is in use.
    derived : str
        Its address.
    state
        The files as they were.
    seen_at : float
        When, on the monotonic clock, s.
    """

    uris: dict[str, str]
    layout: earlier.Layout
    keeper: sqlite3.Connection
    derived: str
    state: FileState
    seen_at: float

    def is_current(self, path: Path) -> bool:
        """Tell whether the files are still as they were, or were so a moment ago."""
        return state_of(path) == self.state or (
            "immutable" not in self.uris["main"] and time.monotonic() - self.seen_at < LOOK_AGAIN_S
        )

    async def open_connection(self, busy_timeout_s: float) -> aiosqlite.Connection:
        """Open a connection in which the tables are seen as ours; it cannot write."""
        raw = await aiosqlite.connect(
            self.uris["main"], uri=True, isolation_level=None, timeout=busy_timeout_s, cached_statements=256
        )
        raw.row_factory = sqlite3.Row
        raw.text_factory = readable
        async with AsyncExitStack() as undo:
            undo.push_async_callback(raw.close)
            await raw.create_function("json_valid", 1, _is_json, deterministic=True)  # SQLite's takes more for JSON
            for statement in self._statements():
                await raw.execute_fetchall(statement)
            undo.pop_all()
        return raw

    def _statements(self) -> Iterator[str]:
        yield "PRAGMA trusted_schema=OFF"
        yield from attach(self.uris, self.derived)
        yield from earlier.schema_views(self.layout)
        yield "PRAGMA query_only=ON"


def _is_json(text: str) -> bool:
    """Tell whether a text is JSON that we can read, and write again."""
    try:
        strict_json(text)
    except json.JSONDecodeError:
        return False
    return True


def is_earlier(path: Path) -> bool:
    """Tell whether a database file was made by the earlier pipeline; nothing is written.

    Raises
    ------
    DatabaseConnectionError
        It is no database, or cannot be read.
    """
    with in_our_words(str(path)), closing(sqlite3.connect(uri_of(path), uri=True)) as connection:
        connection.text_factory = readable
        return earlier.is_earlier(name for (name,) in connection.execute(earlier.NAMES_OF_TABLES.format(schema="main")))


def look(path: Path, busy_timeout_s: float) -> EarlierFile:
    """Look at an earlier file, and derive from it what cannot be derived with each question."""
    state, seen_at = state_of(path), time.monotonic()
    beside = path.with_name(REGISTRY)
    for file in (path, beside):
        refuse_stray_log(file)
    uris = {"main": uri_of(path)} | ({"registry": uri_of(beside)} if beside.is_file() else {})
    derived = f"file:derived-{uuid.uuid4().hex}?mode=memory&cache=shared"
    with in_our_words(str(path)), ExitStack() as undo:
        connection = undo.enter_context(closing(sqlite3.connect(uris["main"], uri=True, isolation_level=None)))
        connection.execute(f"PRAGMA busy_timeout={round(busy_timeout_s * 1000)}")
        connection.text_factory = readable
        for statement in attach(uris, derived):
            connection.execute(statement)
        layout = _layout(connection, uris)
        keeper = sqlite3.connect(derived, uri=True, check_same_thread=False)
        failed = undo.enter_context(ExitStack())
        failed.callback(keeper.close)
        _derive(connection, layout)
        failed.pop_all()
    return EarlierFile(uris, layout, keeper, derived, state, seen_at)


def state_of(path: Path) -> FileState:
    """Return what changes when a file, its log or the registry beside it changes."""
    beside = path.with_name(REGISTRY)
    return tuple(_stamp(file) for file in (path, _log(path), beside, _log(beside)))


def uri_of(path: Path) -> str:
    """Return the address by which a file is opened so that nothing is written."""
    address = path.absolute().as_uri()
    if _version(path) != _WAL_VERSION:
        return f"{address}?mode=ro"
    log = _stamp(_log(path))
    has_log = log is not None and log[2] > 0
    return f"{address}?mode=ro" if has_log and _index(path).exists() else f"{address}?mode=ro&immutable=1"


def refuse_stray_log(path: Path) -> None:
    """Raise DatabaseConnectionError if part of a file is in a log that could only be read by writing."""
    log = _stamp(_log(path))
    if log is None or log[2] == 0 or _index(path).exists():
        return
    raise DatabaseConnectionError(
        f"The database {path} has a log beside it ({path.name}-wal) that was never brought in, and earlier databases "
        "are not written; copy both files to another directory, bring the log in there with "
        f"`sqlite3 {path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'`, and set PRODUCTS_DB_PATH to the copy",
        str(path),
    )


def attach(uris: dict[str, str], derived: str) -> Iterator[str]:
    """Give the statements that attach what belongs to the file."""
    yield f"ATTACH '{derived}' AS derived"
    if "registry" in uris:
        yield "ATTACH '{}' AS registry".format(uris["registry"].replace("'", "''"))


def readable(text: bytes) -> str:
    """Return a text, also one that is not UTF-8."""
    return text.decode(errors="replace")


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _index(path: Path) -> Path:
    return path.with_name(f"{path.name}-shm")


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _version(path: Path) -> bytes:
    """Read the versions of the format, for writing and reading, from the header of a file.

    Its descriptor stays open as long as the process: closing any descriptor of a file drops all locks that this process
    has on it (fcntl(2)), SQLite's too. Another process would take itself for the last one then, and delete the log in
    which ours goes on writing ("How To Corrupt An SQLite Database File", section 2.2).
    """
    try:
        with _descriptors_lock:
            return os.pread(_descriptor(path), 2, 18)
    except OSError as error:
        raise DatabaseConnectionError(
            f"The products database {path} cannot be read ({error.strerror}); check the path and its permissions",
            str(path),
        ) from error


def _descriptor(path: Path) -> int:
    found = path.stat()
    descriptor = _descriptors.get((found.st_dev, found.st_ino))
    if descriptor is None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        opened = os.fstat(descriptor)  # another file by now, perhaps
        _descriptors[opened.st_dev, opened.st_ino] = descriptor
    return descriptor


def _layout(connection: sqlite3.Connection, uris: dict[str, str]) -> earlier.Layout:
    return {
        (schema, table): frozenset(name for (name,) in connection.execute(earlier.NAMES_OF_COLUMNS, (table, schema)))
        for schema in uris
        for (table,) in connection.execute(earlier.NAMES_OF_TABLES.format(schema=schema)).fetchall()
    }


def _derive(connection: sqlite3.Connection, layout: earlier.Layout) -> None:
    for statement in earlier.derived_tables(layout):
        connection.execute(statement)
    paths = [path for (path,) in connection.execute(earlier.PATHS_OF_SETS)]
    connection.execute("BEGIN")
    connection.executemany(earlier.KEEP_RUN, earlier.runs_of(paths))
    connection.execute("COMMIT")
    for statement in (*earlier.schema_views(layout), *earlier.derived_sums(layout)):
        connection.execute(statement)
