"""Ids of tasks and workflows: UUIDv7 (RFC 9562), made by whoever spawns.

The 12 bits after the milliseconds hold the fraction of the millisecond (method 3 of section 6.2), so that ids made one
after the other in one process sort in that order without running ahead of the clock, however many are made.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from uuid import UUID

_VERSION_AND_VARIANT = 0x7 << 76 | 0x2 << 62
_last_tick = 0


def new_id() -> UUID:
    """Return an id that sorts after those made before it."""
    global _last_tick
    tick = max(time.time_ns() * 512 // 125_000, _last_tick + 1)  # 4096 ticks a millisecond
    _last_tick = tick
    chance = int.from_bytes(os.urandom(8)) >> 2
    return _of(tick, chance)


def ids_of(seed: str, at_s: float) -> Iterator[UUID]:
    """Give ids that follow from a seed and a time, each after the one before it: the same to everybody who asks.

    What is spawned under them once more is not spawned a second time. There are 4096 for a seed.

    Parameters
    ----------
    seed : str
        Nobody else's.
    at_s : float
        Unix time by which the ids sort, s.
    """
    for number in range(4096):
        digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
        yield _of(int(at_s * 1000) << 12 | number, int.from_bytes(digest[:8]) >> 2)


def _of(tick: int, chance: int) -> UUID:
    return UUID(int=tick >> 12 << 80 | (tick & 0xFFF) << 64 | chance | _VERSION_AND_VARIANT)
