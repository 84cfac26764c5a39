"""Moving windows for the ``limits`` library: of this process, in bounded memory, and in Redis, for all processes."""

import asyncio
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable

from limits.aio.storage import RedisStorage
from limits.storage import MovingWindowSupport

_REDIS_PATIENCE_S = 0.25  # a request waits for it


class MemoryWindows(MovingWindowSupport):
    """Windows of this process.

    The library's own store keeps what is asked under any name until a thread has cleaned it away; here the number of
    entries is bounded, and who has asked least recently is forgotten first.

    Parameters
    ----------
    most_entries : int
        Requests that are remembered.
    clock : callable
        Gives seconds, from any origin, never backwards.
    """

    def __init__(self, most_entries: int = 50_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_entries = most_entries
        self._clock = clock
        self._windows: OrderedDict[str, list[float]] = OrderedDict()
        self.entries = 0

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count a request unless there are ``limit`` within ``expiry`` seconds; tell whether it was counted."""
        now_s = self._clock()
        window = self._windows.setdefault(key, [])
        self._windows.move_to_end(key)
        old = bisect_right(window, now_s - expiry)
        del window[:old]
        self.entries -= old
        if len(window) + amount > limit:
            return False
        window.extend([now_s] * amount)
        self.entries += amount
        self._forget()
        return True

    def _forget(self) -> None:
        while self.entries > self._most_entries:
            _, window = self._windows.popitem(last=False)
            self.entries -= len(window)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when the oldest request of the window was counted, in Unix seconds, and how many there are."""
        now_s = self._clock()
        window = self._windows.get(key, [])
        old = bisect_right(window, now_s - expiry)
        oldest_s = window[old] if old < len(window) else now_s
        return time.time() - (now_s - oldest_s), len(window) - old

    def clear(self, key: str) -> None:
        """Forget the requests of a key."""
        self.entries -= len(self._windows.pop(key, ()))


class SharedWindows:
    """Windows in Redis.

    Parameters
    ----------
    url : str
        Address of Redis: ``redis``, ``rediss`` or ``unix``.
    """

    def __init__(self, url: str) -> None:
        address = url.replace("unix://", "redis+unix://", 1) if url.startswith("unix://") else url
        self._store = RedisStorage(f"async+{address}", implementation="redispy", key_prefix="dsa110:rates")

    async def acquire_entry(self, key: str, limit: int, expiry: int) -> tuple[bool, float, int]:
        """Count a request unless there are too many; return whether it was counted, and the window as above.

        Raises
        ------
        RedisError, OSError, TimeoutError
            Redis is away, or does not answer soon.
        """
        async with asyncio.timeout(_REDIS_PATIENCE_S):
            passed = await self._store.acquire_entry(key, limit, expiry)
            start_s, count = await self._store.get_moving_window(key, limit, expiry)
        return passed, start_s, count

    async def answers(self) -> bool:
        """Tell whether Redis is there."""
        async with asyncio.timeout(_REDIS_PATIENCE_S):
            return await self._store.check()

    async def close(self) -> None:
        """Close the connections."""
        await self._store.bridge.get_connection().aclose()  # type: ignore[attr-defined]
