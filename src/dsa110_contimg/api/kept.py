"""Answers that are kept for a moment, so that a question is asked once however many want to know."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """One question whose answer is kept for ``life_s`` seconds; those who ask meanwhile wait for the same answer.

    An error is an answer too: it is raised for all who wait, and the question is asked anew by the next one. Who goes
    away while waiting does not disturb the others.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], life_s: float) -> None:
        self._ask = ask
        self._life_s = life_s
        self._flight: asyncio.Task[T] | None = None
        self._fresh_until_s = 0.0

    async def get(self) -> T:
        """Return the answer, fresh enough."""
        flight = self._flight
        if flight is None or (flight.done() and time.monotonic() >= self._fresh_until_s):
            flight = self._flight = asyncio.create_task(self._answered())
        return await asyncio.shield(flight)

    async def _answered(self) -> T:
        self._fresh_until_s = 0.0
        answer = await self._ask()
        self._fresh_until_s = time.monotonic() + self._life_s
        return answer

    async def close(self) -> None:
        """Give up a question that nobody will hear the answer of."""
        if self._flight and not self._flight.done():
            self._flight.cancel()
            await asyncio.wait({self._flight})
