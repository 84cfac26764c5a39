"""A reading that is shared by all who wait for it, as a commit is by all whose changes wait for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedReading(Generic[T]):
    """Reads something for all who ask, once at a time; what anybody gets was read after they had asked.

    So nobody joins a reading that is under way: something may have been written between its begin and their question.
    They wait for the next one, together. An error is raised for all who waited for that reading, and those behind them
    have a reading of their own. Who goes away disturbs nobody.

    Parameters
    ----------
    read
        Reads it once.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._waiting: list[asyncio.Future[T]] = []
        self._served: list[asyncio.Future[T]] = []  # by the reading that is under way
        self._readings: asyncio.Task[None] | None = None

    async def __call__(self) -> T:
        """Wait for the next reading."""
        turn: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._readings is None:
            self._begin()
        return await turn

    def _begin(self) -> None:
        self._readings = asyncio.create_task(self._read_for_all())
        self._readings.add_done_callback(self._end)

    async def _read_for_all(self) -> None:
        while self._waiting:
            self._served, self._waiting = self._waiting, []
            found = await self._read()
            for turn in self._served:
                if not turn.done():  # else it went away
                    turn.set_result(found)

    def _end(self, readings: "asyncio.Task[None]") -> None:
        """Tell those who were not served why, and begin anew for those who came meanwhile."""
        self._readings = None
        error = None if readings.cancelled() else readings.exception()
        for turn in self._served:
            if not turn.done():
                turn.cancel() if error is None else turn.set_exception(error)
        self._waiting = [turn for turn in self._waiting if not turn.done()]
        if self._waiting:
            self._begin()
