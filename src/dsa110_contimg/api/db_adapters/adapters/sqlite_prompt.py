"""Reads of an SQLite file in the event loop's own thread, for what an index finds in a few pages.

Such a read takes some tens of microseconds; sending it to a thread and waking up for its answer takes several times as
long. It never waits: where the file is held, was replaced, is damaged, or is not ours, nothing is read here, and the
caller goes the patient way, which waits, opens anew, and says what is wrong.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from dsa110_contimg.api.db_adapters.backend import Params, Row

_SETTINGS = ("query_only=ON", "trusted_schema=OFF", "cache_size=-8192")


class PromptReader:
    """A connection that reads at once or not at all.

    ``seen`` is what the file was when it was opened (device and number), None while it is not open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._opened = 0  # times
        self.seen: tuple[int, int] | None = None

    def open(self, seen: tuple[int, int] | None) -> None:
        """Open the file anew, as what it is now; where that fails it stays closed."""
        self.close()
        try:
            uri = f"{self._path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, timeout=0.0, cached_statements=256, check_same_thread=False
            )
            self._connection = connection
            self._opened += 1
            connection.row_factory = sqlite3.Row
            for setting in _SETTINGS:
                connection.execute(f"PRAGMA {setting}")
        except sqlite3.Error:
            self.close()
        else:
            self.seen = seen

    def fetch_all(self, query: str, params: Params) -> Sequence[Row] | None:
        """Execute a statement and return all its rows; None if that cannot be done at once."""
        if self._connection is None:
            return None
        try:
            rows: Sequence[Row] = self._connection.execute(query, params).fetchall()
        except (sqlite3.Error, UnicodeDecodeError):  # the latter is made of a message that quotes a damaged name
            self.close()
            return None
        return rows

    def write_mark(self) -> tuple[int, int] | None:
        """Return how often the file was opened, and SQLite's number of its changes, which is of one connection only."""
        rows = self.fetch_all("PRAGMA data_version", ())
        return None if rows is None else (self._opened, rows[0][0])

    def close(self) -> None:
        """Close the file."""
        self.seen = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
