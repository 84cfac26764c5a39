"""A client that asks as fast as it gets answers, over connections that stay open."""

import asyncio
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.queue.report import quantile


@dataclass(slots=True)
class Answers:
    """What came back: seconds of each answer by status, and how long it took altogether."""

    latencies_s: list[float] = field(default_factory=list)
    by_status: dict[int, int] = field(default_factory=dict)
    bytes_read: int = 0
    elapsed_s: float = 0.0

    def add(self, status: int, latency_s: float, size: int) -> None:
        """Count one answer."""
        self.by_status[status] = self.by_status.get(status, 0) + 1
        self.latencies_s.append(latency_s)
        self.bytes_read += size

    @property
    def count(self) -> int:
        """Number of answers."""
        return len(self.latencies_s)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.count / self.elapsed_s

    def quantile_ms(self, share: float) -> float:
        """Milliseconds below which that share of the answers came."""
        return quantile(self.latencies_s, share) * 1e3

    def require_ok(self) -> "Answers":
        """Return these answers, all of which must be 200: a benchmark of refusals says nothing."""
        if set(self.by_status) != {200}:
            raise RuntimeError(f"answers by status: {self.by_status}")
        return self


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect to a server of this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 24))

    async def get(self, path: str) -> tuple[int, int]:
        """Ask for a path and return status and size of the answer."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        await self.reader.readexactly(size)
        return int(head.split(b" ")[1]), size

    def close(self) -> None:
        """Close it."""
        self.writer.close()


async def ask(port: int, paths: Iterable[str], connections: int, seconds: float = math.inf) -> Answers:
    """Ask for each of ``paths`` once, in this order, until the time is over; each connection asks at least once.

    Parameters
    ----------
    port : int
        Where the server listens.
    paths : iterable of str
        May be without end where ``seconds`` are given. Where it is an iterator, who asks next goes on in it.
    connections : int
        How many ask at the same time.
    seconds : float
        After them nothing more is asked; what was asked is waited for.
    """
    answers = Answers()
    asked = iter(paths)
    ends = time.perf_counter() + seconds

    async def one() -> None:
        connection = await Connection.open(port)
        try:
            for path in asked:
                began = time.perf_counter()
                status, size = await connection.get(path)
                ended = time.perf_counter()
                answers.add(status, ended - began, size)
                if ended >= ends:
                    break
        finally:
            connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    answers.elapsed_s = time.perf_counter() - began
    return answers
