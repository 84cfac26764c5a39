"""A client that asks as fast as it gets answers, over connections that stay open."""

import asyncio
import time
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


async def ask(port: int, paths: list[str], connections: int, requests: int) -> Answers:
    """Ask for ``paths`` in turn until there are ``requests`` answers.

    Parameters
    ----------
    port : int
        Where the server listens.
    paths : list of str
        Asked in turn.
    connections : int
        How many ask at the same time.
    requests : int
        How many answers altogether.
    """
    answers = Answers()
    asked = iter(range(requests))

    async def one() -> None:
        connection = await Connection.open(port)
        try:
            for number in asked:
                began = time.perf_counter()
                status, size = await connection.get(paths[number % len(paths)])
                answers.add(status, time.perf_counter() - began, size)
        finally:
            connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    answers.elapsed_s = time.perf_counter() - began
    return answers
