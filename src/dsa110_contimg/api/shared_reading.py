"""A reading that is shared by all who wait for it, as a commit is by all whose changes wait for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from dsa110_contimg.api.exceptions import DSA110APIError

T = TypeVar("T")

#: Of the event loop, in which nobody came: from the first bytes of a request to its question are two or three.
_CALM_ROUNDS = 2


class SharedReading(Generic[T]):
    """Reads something for all who ask, once at a time; what anybody gets was read after they had asked.

    So nobody joins a reading that is under way: something may have been written between its begin and their question.
    They wait for the next one, together: the first of them reads for all, as soon as nobody more comes. An error of
    ours is raised for all who waited for that reading; if who reads goes away, or fails otherwise, the others have
    another one, as those have who came meanwhile.

    Parameters
    ----------
    read
        Reads it once.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._is_taken = False  # somebody reads, or is woken to do so
        self._waiting: list[_Turn[T]] = []
        self._calm_rounds = 0

    async def __call__(self) -> T:
        """Read it, or wait until somebody else has read it."""
        if self._is_taken:
            told = await self._wait()
            if told is not None:
                return told[0]
        self._is_taken = True
        together: list[_Turn[T]] = []
        try:
            await self._let_all_come()
            together, self._waiting = self._waiting, together
            found = await self._read()
        except DSA110APIError as error:
            for turn in _still_there(together):
                turn.set_exception(error)
            raise
        else:
            for turn in _still_there(together):
                turn.set_result((found,))
            return found
        finally:
            self._pass_on(together)

    async def _wait(self) -> tuple[T] | None:
        """Return what somebody has read, in a tuple; None: now it is on us to read."""
        turn: _Turn[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._calm_rounds = 0
        try:
            return await turn
        except asyncio.CancelledError:
            was_told = turn.done() and not turn.cancelled()
            if was_told and turn.exception() is None and turn.result() is None:
                self._pass_on([])
            raise

    async def _let_all_come(self) -> None:
        """Wait while more come: a reading costs as much as ten rounds of the event loop."""
        self._calm_rounds = 0
        while self._calm_rounds < _CALM_ROUNDS:
            self._calm_rounds += 1
            await asyncio.sleep(0)

    def _pass_on(self, before: "list[_Turn[T]]") -> None:
        """Let the first of those who still wait read next."""
        self._waiting = _still_there([*before, *self._waiting])
        self._is_taken = bool(self._waiting)
        if self._is_taken:
            self._waiting.pop(0).set_result(None)


_Turn = asyncio.Future[tuple[T] | None]


def _still_there(turns: "list[_Turn[T]]") -> "list[_Turn[T]]":
    return [turn for turn in turns if not turn.done()]
