"""Counts requests in moving windows and tells who asks too often.

Every request is counted in this process, and then in Redis for all processes together. While Redis is away the count
of this process alone holds, with the same limits: it knows what was asked before. A refusal is remembered until it
ends, so that who hammers on costs nothing more.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from limits import RateLimitItem, RateLimitItemPerSecond
from redis.exceptions import RedisError

from dsa110_contimg.api.access_settings import RateLimitConfig
from dsa110_contimg.api.rate_limit import Allowance, RateClass
from dsa110_contimg.api.readings import Rate
from dsa110_contimg.api.services.rate_windows import MemoryWindows, SharedWindows

log = logging.getLogger(__name__)

_AWAY = (RedisError, OSError, TimeoutError)
_LOOK_AGAIN_AFTER_S = 1.0
_MOST_REFUSALS = 10_000


class RateLimiter:
    """Limits of one process.

    Parameters
    ----------
    config : RateLimitConfig
        The limits.
    redis_url : str
        Where requests are counted for all processes; not asked when the settings say ``memory``.
    clock : callable
        Gives seconds, from any origin, never backwards.
    """

    def __init__(self, config: RateLimitConfig, redis_url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = _rules(config)
        self._memory = MemoryWindows(clock=clock)
        self._clock = clock
        self._shared = SharedWindows(redis_url) if config.store == "redis" and not config.disabled else None
        self._search: asyncio.Task[None] | None = None  # for Redis, while it is away
        self._refused: dict[str, tuple[float, Allowance]] = {}

    async def hit(self, rate_class: RateClass, bucket: str) -> Allowance | None:
        """Count a request; return what its client may still ask by the tightest limit, None without a limit."""
        told: Allowance | None = None
        for item, rule in self._rules[rate_class]:
            allowance = await self._count(item, rule, item.key_for(rate_class, bucket))
            if told is None or not allowance.passed or allowance.remaining < told.remaining:
                told = allowance
            if not allowance.passed:
                break
        return told

    def exhausted(self, rate_class: RateClass, bucket: str) -> Allowance | None:
        """Return the limit that a client has used up in this process, without counting anything."""
        for item, rule in self._rules[rate_class]:
            key = item.key_for(rate_class, bucket)
            window = self._memory.get_moving_window(key, item.amount, item.get_expiry())
            if window[1] >= item.amount:
                return _allowance(item, rule, False, window)
        return None

    async def _count(self, item: RateLimitItem, rule: str, key: str) -> Allowance:
        refused = self._refused.get(key)
        if refused is not None:
            if refused[0] > self._clock():
                return refused[1]
            del self._refused[key]
        limit, window_s = item.amount, item.get_expiry()
        passed = self._memory.acquire_entry(key, limit, window_s)
        window = self._memory.get_moving_window(key, limit, window_s)
        if passed and self._shared is not None and self._search is None:
            passed, window = await self._count_with_others(self._shared, key, item, window)
        allowance = _allowance(item, rule, passed, window)
        return allowance if passed else self._remember(key, allowance)

    async def _count_with_others(
        self, shared: SharedWindows, key: str, item: RateLimitItem, window: tuple[float, int]
    ) -> tuple[bool, tuple[float, int]]:
        try:
            passed, start_s, count = await shared.acquire_entry(key, item.amount, item.get_expiry())
        except _AWAY as error:
            log.warning("requests are counted by each process for itself while Redis is away: %s", error)
            if self._search is None:
                self._search = asyncio.create_task(self._look_for(shared))
            return True, window
        return passed, (start_s, count)

    async def _look_for(self, shared: SharedWindows) -> None:
        """Wait until Redis is back; requests do not wait meanwhile."""
        there = False
        while not there:
            await asyncio.sleep(_LOOK_AGAIN_AFTER_S)
            with contextlib.suppress(*_AWAY):
                there = await shared.answers()
        self._search = None
        log.info("requests are counted in Redis again")

    def _remember(self, key: str, allowance: Allowance) -> Allowance:
        if len(self._refused) >= _MOST_REFUSALS:
            self._refused.clear()
        self._refused[key] = (self._clock() + allowance.reset_in_s, allowance)
        return allowance

    async def close(self) -> None:
        """Close the connections."""
        if self._search is not None:
            self._search.cancel()
            await asyncio.wait({self._search})
        if self._shared is not None:
            await self._shared.close()


def _rules(config: RateLimitConfig) -> Mapping[RateClass, Sequence[tuple[RateLimitItem, str]]]:
    rates = {
        RateClass.STANDARD: (config.minute, config.hour),
        RateClass.HIGH: (config.high,),
        RateClass.WRITE: (config.write,),
        RateClass.HEAVY: (config.heavy,),
        RateClass.BATCH: (config.batch,),
        RateClass.FAILED_KEYS: (config.failed_keys,),
    }
    return {
        name: [] if config.disabled else [(_item(rate), str(rate)) for rate in given if rate.amount]
        for name, given in rates.items()
    }


def _item(rate: Rate) -> RateLimitItem:
    return RateLimitItemPerSecond(rate.amount, rate.window_s)


def _allowance(item: RateLimitItem, rule: str, passed: bool, window: tuple[float, int]) -> Allowance:
    start_s, count = window
    reset_at = start_s + item.get_expiry()
    return Allowance(rule, item.amount, max(0, item.amount - count), reset_at, passed)
