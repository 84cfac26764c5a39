"""A connection to PostgreSQL that is kept for reads of what an index finds in a few pages.

To lend a connection of the pool and to take it back costs this process several times as much as such a read. Where the
kept one is taken or not open, nothing is read here, and the caller goes the patient way, by the pool, which waits and
says what is wrong.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from dsa110_contimg.api.db_adapters.backend import Params, Row

_REST_S = 5.0  # between two tries to open it


class PromptConnection:
    """The kept connection, for one read at a time.

    Parameters
    ----------
    connect
        Opens a connection of asyncpg.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect
        self._raw: Any = None
        self._taken = False
        self._closed = False
        self._again_at_s = 0.0

    async def open(self) -> None:
        """Open it if it is not; where that fails it stays closed for a while."""
        now_s = time.monotonic()
        if self._taken or self._is_open() or now_s < self._again_at_s:
            return
        self._taken, self._again_at_s = True, now_s + _REST_S
        try:
            self._raw = await self._connect()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            return  # the pool serves
        finally:
            self._taken = False
        if self._closed:
            self._raw.terminate()

    def _is_open(self) -> bool:
        return self._raw is not None and not self._raw.is_closed()

    async def fetch_all(self, query: str, params: Params) -> Sequence[Row] | None:
        """Execute a statement and return all its rows; None if it cannot be begun at once.

        After any failure, and when the caller gives up, the connection is closed: what state it is in is not asked.
        """
        if self._taken or not self._is_open():
            return None
        raw, whole = self._raw, False
        self._taken = True
        try:
            rows: Sequence[Row] = await raw.fetch(query, *params)
            whole = True
        finally:
            self._taken = False
            if not whole:
                raw.terminate()
        return rows

    def close(self) -> None:
        """Close it for good."""
        self._closed = True
        if self._raw is not None:
            self._raw.terminate()
