"""The event log of the queue, followed: what happens to tasks, in order, with ids from which a reader can resume.

A notification carries the number of a row of ``absurd.event``; the row holds the updates of one statement. Update n of
row e has the id ``e-n``. PostgreSQL delivers notifications in the order of commits, which is the order of this log; the
numbers of the rows are not (a transaction that began earlier may commit later).

The log keeps the last updates, so that a reader that comes back with the id of the last one it saw misses nothing. A
reader whose id is not known any more, or that reads too slowly, is told ``{"type": "resync"}``: what happened meanwhile
has to be read from the tables, which are the truth. So is every reader after a restart of the server, because the rows
of the log need not survive one.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import asyncpg
import orjson

from dsa110_contimg.absurd import statements
from dsa110_contimg.absurd.connection import PASSING, REFUSED, delays, open_connection
from dsa110_contimg.absurd.statements import events as event_statements

logger = logging.getLogger(__name__)

Update = dict[str, Any]

#: Updates that are kept, and an eighth more before the oldest go; each takes about 0.8 kB.
KEPT = 4096
#: Rows that are read at once: after a connection was lost, and when the log is opened.
CAUGHT_UP = 1000


class EventLog:
    """Follows the event log over a connection of its own, which is opened again whenever it breaks.

    Parameters
    ----------
    database_url : str
        Address of the queue's database.
    kept : int
        Updates that are kept for readers that come back.
    asked_s, again_s : float
        Seconds for which events are asked for, and after which they are asked for again, which also tries the
        connection.
    """

    def __init__(self, database_url: str, kept: int = KEPT, asked_s: float = 90.0, again_s: float = 30.0) -> None:
        self._url = database_url
        self._kept = kept
        self._asked_s = asked_s
        self._again_s = again_s
        self._updates: list[Update] = []
        self._first = 0  # place of the first kept update; places only grow
        self._resume: dict[str, int] = {}  # id of a kept update → place at which its reader goes on
        self._rows: dict[int, None] = {}  # numbers of the rows read lately, oldest first
        self._losses = 0  # how often something may have been missed
        self._server_start: Any = None
        self._asked_at = -math.inf  # by the monotonic clock
        self._listening = asyncio.Event()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def end(self) -> int:
        """Place after the last update."""
        return self._first + len(self._updates)

    @property
    def last_id(self) -> str | None:
        """Id of the last update, None before the first."""
        return self._updates[-1]["id"] if self._updates else None

    def start(self) -> None:
        """Begin to listen, unless that has been done."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Close the connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # ------------------------------------------------------------------------------------------------------- readers
    async def follow(self, after: str | None = None) -> AsyncIterator[Update]:
        """Yield updates as they come.

        The first item is ``{"type": "listening", "id": ...}``: what happens from now on will be told. When ``after``,
        the ``id`` of an update, is given and known, the updates that followed it come first instead; some may come a
        second time when the connection was lost at that moment. ``{"type": "resync", "id": ...}`` says that updates
        may be missing. Updates are ``{"type": "task_update", "id", "task_id", "workflow_id", "queue", "name",
        "status", ...}`` with ``attempt``, ``progress``, ``message``, ``error`` or ``worker_id`` where they say
        something.
        """
        self.start()
        await self._listening.wait()
        place, losses = self._resume.get(after or "", -1), self._losses
        if place < 0:
            place = self.end
            yield {"type": "resync" if after else "listening", "id": self.last_id}
        while True:
            if losses != self._losses or place < self._first:
                place, losses = self.end, self._losses
                yield {"type": "resync", "id": self.last_id}
            elif place < self.end:
                place += 1
                yield self._updates[place - 1 - self._first]
            else:
                await self._news.wait()

    async def news_of(self, key: str, value: str, place: int, limit_s: float) -> bool:
        """Wait until an update at or after ``place`` has ``value`` under ``key``; False when none came in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while True:
                    for update in self._updates[max(place - self._first, 0) :]:
                        if update.get(key) == value:
                            return True
                    place = self.end
                    await self._news.wait()
        return False

    # ------------------------------------------------------------------------------------------------------- listener
    async def _run(self) -> None:
        waits, is_told = delays(), False
        while True:
            try:
                async with self._subscription() as (connection, numbers):
                    await self._catch_up(connection)
                    self._listening.set()
                    waits, is_told = delays(), False
                    await self._listen(connection, numbers)
            except (*PASSING, *REFUSED, asyncpg.PostgresError) as error:
                if not is_told:  # once, until they could be read again
                    logger.warning("the events of the queue cannot be read: %r; trying again until they can", error)
                is_told = True
            await asyncio.sleep(next(waits))

    @contextlib.asynccontextmanager
    async def _subscription(self) -> AsyncIterator[tuple[Any, "asyncio.Queue[int | None]"]]:
        """Give a connection that listens, and the numbers of the rows that it is told of; None says that it is lost."""
        numbers: asyncio.Queue[int | None] = asyncio.Queue()
        connection = await open_connection(self._url, "absurd events", command_timeout_s=10.0)
        try:
            connection.add_termination_listener(lambda _: numbers.put_nowait(None))
            await connection.add_listener(
                statements.EVENT_CHANNEL, lambda _c, _p, _ch, payload: numbers.put_nowait(int(payload))
            )
            yield connection, numbers
        finally:
            connection.terminate()

    async def _listen(self, connection: Any, numbers: "asyncio.Queue[int | None]") -> None:
        """Read the rows that notifications name, in their order, until the connection is lost."""
        while True:
            try:
                async with asyncio.timeout(self._asked_at + self._again_s - time.monotonic()):
                    wanted = [await numbers.get()]
            except TimeoutError:
                await self._ask(connection)
                continue
            while not numbers.empty():
                wanted.append(numbers.get_nowait())
            if None in wanted:
                return
            new = [number for number in dict.fromkeys(wanted) if number not in self._rows]
            found = {row["event_id"]: row for row in await connection.fetch(event_statements.EVENTS, new)}
            if len(found) < len(new):
                self._lose()
            self._add(found[number] for number in new if number in found)

    async def _ask(self, connection: Any) -> None:
        """Have events written for the next while."""
        await connection.execute(event_statements.LISTEN, self._asked_s)
        self._asked_at = time.monotonic()

    async def _catch_up(self, connection: Any) -> None:
        """Read what happened before this connection listened.

        A row that was committed late has a number below others that are known, so a stretch below the last one is read
        again. Within what is caught up the order of commits is not known: whoever resumes from there gets all of it.
        """
        start = await connection.fetchval(event_statements.SERVER_START)
        silent = time.monotonic() > self._asked_at + self._asked_s  # nothing was written for us meanwhile
        await self._ask(connection)
        if self._server_start not in (None, start) or (self._rows and silent):
            self._rows.clear()
            self._lose()
        self._server_start = start
        lowest = max(self._rows, default=0) - CAUGHT_UP
        rows = await connection.fetch(event_statements.RECENT_EVENTS, lowest, 2 * CAUGHT_UP)
        new = [row for row in reversed(rows) if row["event_id"] not in self._rows]
        if self._rows and len(rows) == 2 * CAUGHT_UP:
            self._lose()
        self._add(new, resume=self.end)

    def _add(self, rows: Iterable[Any], resume: int | None = None) -> None:
        """Keep the updates of rows; a reader of one of them goes on after it, or at the place ``resume``."""
        for row in rows:
            self._rows[row["event_id"]] = None
            happened_at = row["at"].isoformat(timespec="milliseconds")
            for n, update in enumerate(orjson.loads(row["updates"])):  # which makes each key once for all that are kept
                known_as = f"{row['event_id']}-{n}"
                self._updates.append({**update, "id": known_as, "happened_at": happened_at})
                self._resume[known_as] = self.end if resume is None else resume
        self._forget()
        self._wake()

    def _forget(self) -> None:
        """Drop the oldest, when an eighth more are kept than promised."""
        if len(self._updates) > self._kept + self._kept // 8:
            gone = len(self._updates) - self._kept
            for update in self._updates[:gone]:
                self._resume.pop(update["id"], None)
            del self._updates[:gone]
            self._first += gone
        while len(self._rows) > 8 * CAUGHT_UP:
            del self._rows[next(iter(self._rows))]

    def _lose(self) -> None:
        """Forget everything and have every reader told to read the tables."""
        self._first = self.end
        self._updates.clear()
        self._resume.clear()
        self._losses += 1
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
