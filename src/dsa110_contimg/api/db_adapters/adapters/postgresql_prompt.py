"""Connections to PostgreSQL that are kept for reads of what an index finds in a few pages.

To lend a connection of the pool and to take it back costs this process several times as much as such a read. Where no
kept one is free, nothing is read here, and the caller goes the patient way, by the pool, which waits and says what is
wrong.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from dsa110_contimg.api.db_adapters.backend import Params, Row

MOST = 4  # requests whose reads are under way at the same moment; more are seldom, since each read is so short
_REST_S = 5.0  # after a failure


class PromptConnections:
    """The kept connections, each for one read at a time; opened one by one, when they are missed.

    Parameters
    ----------
    connect
        Opens a connection of asyncpg.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect
        self._open: set[Any] = set()
        self._free: list[Any] = []
        self._is_opening = False
        self._is_closed = False
        self._again_at_s = 0.0

    async def open_one(self) -> None:
        """Open one more, unless there are enough, somebody does so already, or one has failed a moment ago."""
        enough = self._is_closed or self._is_opening or len(self._open) >= MOST
        if enough or time.monotonic() < self._again_at_s:
            return
        self._is_opening = True
        try:
            raw = await self._connect()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            self._rest()  # the pool serves
            return
        finally:
            self._is_opening = False
        if self._is_closed:
            raw.terminate()
            return
        self._open.add(raw)
        self._free.append(raw)

    async def fetch_all(self, query: str, params: Params) -> Sequence[Row] | None:
        """Execute a statement and return all its rows; None if it cannot be begun at once.

        After any failure, and when the caller gives up, the connection is closed: what state it is in is not asked.
        """
        raw = self._take()
        if raw is None:
            return None
        whole = False
        try:
            rows: Sequence[Row] = await raw.fetch(query, *params)
            whole = True
        finally:
            if whole:
                self._free.append(raw)
            else:
                self._open.discard(raw)
                raw.terminate()
                self._rest()
        return rows

    def _take(self) -> Any:
        while self._free:
            raw = self._free.pop()
            if not raw.is_closed():
                return raw
            self._open.discard(raw)
        return None

    def _rest(self) -> None:
        self._again_at_s = time.monotonic() + _REST_S

    def close(self) -> None:
        """Close all, for good."""
        self._is_closed = True
        for raw in self._open:
            raw.terminate()
