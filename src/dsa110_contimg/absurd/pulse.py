"""When a worker's last beat was answered: one number in memory that the worker shares with its beating process."""

import mmap
import os
import struct
import time
from typing import Self

_FORMAT = struct.Struct("d")


class Pulse:
    """Seconds of the machine's monotonic clock, written by one process and read by another.

    Memory, not a message: a worker whose interpreter has been held up for minutes reads the newest value all the same.

    Parameters
    ----------
    descriptor : int
        Of the shared memory; see :meth:`make`.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)

    @classmethod
    def make(cls) -> Self:
        """Make shared memory in which no beat has been answered yet."""
        descriptor = os.memfd_create("absurd-pulse")
        os.ftruncate(descriptor, mmap.PAGESIZE)
        return cls(descriptor)

    def note(self, answered_s: float) -> None:
        """Write when the beat was sent that has been answered."""
        _FORMAT.pack_into(self._memory, 0, answered_s)

    def age_s(self) -> float:
        """Return the seconds since then; since the machine started while there was none."""
        answered_s: float = _FORMAT.unpack_from(self._memory)[0]
        return time.monotonic() - answered_s

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.descriptor)
