"""Who waits for a server that hangs is told so; who waits for one that takes its time goes on waiting.

Neither says anything meanwhile. So when somebody has waited for a while, somebody knocks: opens a new connection, which
a server that lives answers at once however long its statements take. When nothing comes, and nobody else had an answer
meanwhile, all waits end, and nobody begins another one until a knock is answered. A server that refuses has answered.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


class ServerHangsError(ConnectionError):
    """The server does not answer."""


WITHIN_S = 1.75


class Wait:
    """A wait that ended without a failure; ``heard`` is to be set to False where the server was not asked after all."""

    heard = True


class ServerWatch:
    """Watches over the waits for one server. It costs those who wait a microsecond, and does nothing while nobody does.

    Parameters
    ----------
    name : str
        Of the server, for the log.
    knock : callable
        Returns when the server has answered, whatever it says; raises OSError or TimeoutError when nobody is there.
    within_s : float
        How soon a server that hangs is known to do so.
    """

    def __init__(self, name: str, knock: Callable[[], Awaitable[None]], within_s: float = WITHIN_S) -> None:
        self._name = name
        self._knock = knock
        # By default somebody looks four times a second, knocks after half a second, and waits for a second.
        self._look_s, self._long_s, self._knock_s = within_s / 7, within_s * 2 / 7, within_s * 4 / 7
        self._numbers = itertools.count()
        self._waits: dict[int, tuple[float, Callable[[], object]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._knocking: asyncio.Task[None] | None = None
        self._answered_at_s = float("-inf")
        self._heard = False
        self.hangs = False

    def begin(self, give_up: Callable[[], object]) -> int:
        """Note that somebody begins to wait; ``give_up`` ends the wait. Return its number."""
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        self._waits[number] = (loop.time(), give_up)
        if self._timer is None:
            self._timer = loop.call_later(self._look_s, self._look)
        return number

    def end(self, number: int, *, heard: bool) -> None:
        """Note that a wait is over, and whether the server has answered; of one that was ended that is not known."""
        if self._waits.pop(number, None) is not None:
            self._heard |= heard

    @contextmanager
    def over(self, give_up: Callable[[], object]) -> Iterator[Wait]:
        """Watch over what is waited for in the block; where that does not fail the server has answered.

        Raises
        ------
        ServerHangsError
            The wait was ended between two steps of the driver, which then finds no connection.
        """
        number, wait, heard = self.begin(give_up), Wait(), False
        try:
            yield wait
            heard = wait.heard
        except AttributeError as error:
            if number in self._waits:
                raise
            raise ServerHangsError(f"{self._name} does not answer") from error
        finally:
            self.end(number, heard=heard)

    def close(self) -> None:
        """Look no more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        knocking, self._knocking = self._knocking, None
        if knocking is not None:
            knocking.cancel()
        self._waits.clear()
        self.hangs = False

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if not self._waits and not self.hangs:
            return
        self._timer = loop.call_later(self._look_s, self._look)
        if self._knocking is None and (self.hangs or self._is_suspicious(loop.time())):
            self._knocking = asyncio.create_task(self._judge())

    def _is_suspicious(self, now_s: float) -> bool:
        began_s, _ = next(iter(self._waits.values()))  # the oldest
        return now_s - max(began_s, self._answered_at_s) > self._long_s

    async def _judge(self) -> None:
        """Knock, and end all waits when nobody answers."""
        loop = asyncio.get_running_loop()
        began_s, self._heard = loop.time(), False
        try:
            async with asyncio.timeout(self._knock_s):
                await self._knock()
            hangs = False
        except (OSError, TimeoutError):
            idled = loop.time() - began_s > 1.5 * self._knock_s  # it was this process that did nothing
            hangs = self.hangs if idled else not self._heard
        finally:
            self._knocking = None
        self._answered_at_s = loop.time()
        if hangs != self.hangs:
            log.warning("%s %s", self._name, "does not answer" if hangs else "answers again")
        self.hangs = hangs
        if hangs:
            ended, self._waits = self._waits, {}
            for _, give_up in ended.values():
                give_up()
