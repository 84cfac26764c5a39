"""How many requests a server has taken on, and whose turn it is."""

import asyncio
from collections import deque
from collections.abc import Callable


class Crowd:
    """The requests of one server that have come and have not ended; where several wait, one begins at a time.

    A request that waits for nothing holds the event loop until it is answered. If all that have come began together,
    the loop would not look at its sockets before the last was answered: who is refused would wait as long as who is
    served, and of the new connections libuv accepts one in each round.

    Attributes
    ----------
    size : int
        Requests, also those that nobody has begun to look at.
    parting : int
        Connections that have had their last reply, and still send.
    most : int
        Requests that may be ahead of one that is not refused.
    """

    def __init__(self, most: int) -> None:
        self.size = 0
        self.parting = 0
        self.most = most
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_taken = False

    @property
    def is_full(self) -> bool:
        """Whether so many are ahead that who comes now will be refused, and need not wait for that."""
        return self.size >= self.most

    def join(self, loop: asyncio.AbstractEventLoop, begin: Callable[[], None]) -> None:
        """Begin with a request when its turn has come; :meth:`leave` must be called when it has ended."""
        refused, self.size = self.is_full, self.size + 1
        if refused:
            begin()
        elif self._is_taken:
            self._waiting.append(begin)
        else:
            self._take(loop, begin)

    def leave(self) -> None:
        """Count a request no longer."""
        self.size -= 1

    def _take(self, loop: asyncio.AbstractEventLoop, begin: Callable[[], None]) -> None:
        self._is_taken = True
        loop.call_soon(self._next, loop)
        begin()

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_taken = False
        if self._waiting:
            self._take(loop, self._waiting.popleft())
