"""SQLite's errors in our words."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from dsa110_contimg.api.exceptions import (
    DatabaseBusyError,
    DatabaseConnectionError,
    DatabaseFullError,
    DatabaseQueryError,
    DatabaseSchemaError,
    DSA110APIError,
    InvalidRecordError,
    RecordAlreadyExistsError,
)

UPGRADE = "make its tables with `dsa110 db upgrade`"

_UNUSABLE = {
    "SQLITE_CANTOPEN": "it cannot be opened; check the path and its permissions",
    "SQLITE_NOTADB": "it is not an SQLite database; restore it from a backup, or set PRODUCTS_DB_PATH to another file",
    "SQLITE_CORRUPT": "it is damaged; restore it from a backup",
    "SQLITE_READONLY": "it cannot be written; check the permissions of the file, its directory and the mount",
    "SQLITE_IOERR": "the disk does not answer; check it and the file system",
    "SQLITE_PERM": "it may not be opened; check its permissions",
}


def translate(error: sqlite3.Error, name: str) -> DSA110APIError:
    """Return our error for one of SQLite's; ``name`` is the file."""
    code = getattr(error, "sqlite_errorname", None) or ""
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DatabaseBusyError(f"The products database {name} was held by another writer for too long", name)
    if code == "SQLITE_FULL":
        return DatabaseFullError(f"There is no space for the products database {name}; free some", name)
    if code in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"):
        return RecordAlreadyExistsError(f"The record exists already: {error}")
    if code.startswith("SQLITE_CONSTRAINT"):
        return InvalidRecordError(f"The products database refuses the record: {error}")
    for prefix, reason in _UNUSABLE.items():
        if code.startswith(prefix):
            return DatabaseConnectionError(f"The products database {name} cannot be used: {reason} ({error})", name)
    if str(error).startswith(("no such table", "no such column", "table ")):
        return DatabaseSchemaError(f"The products database {name} is not of this version ({error}); {UPGRADE}", name)
    return DatabaseQueryError(f"The products database refuses a statement: {error}", name)


@contextmanager
def in_our_words(name: str) -> Iterator[None]:
    """Raise SQLite's errors in our words."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, name) from error
    except UnicodeDecodeError as error:  # what sqlite3 makes of an error message that quotes a damaged name
        raise DatabaseConnectionError(
            f"The products database {name} is damaged; restore it from a backup", name
        ) from error
