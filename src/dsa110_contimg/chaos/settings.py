"""What a process of a campaign is told: one JSON object on its standard input."""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

from dsa110_contimg.absurd.config import AbsurdConfig

QUEUE = "chaos"

#: Workers die by the dozen here; only tasks that say so themselves are poison.
LENIENT = 1000

#: Concurrency keys, with how many of each may run at once.
KEYS = {"one": 1, "two": 2, "three": 3}


@dataclass(frozen=True, slots=True)
class PartySettings:
    """Settings of one worker or client process.

    Attributes
    ----------
    who : str
        Its name in the history; also the worker's id.
    url : str
        Address of the database, usually that of the proxy.
    history : str
        The file that everybody appends to.
    seed : int
        Seed of its random choices.
    tasks : int
        How many tasks a client spawns.
    duration_s : float
        Over how many seconds a client spreads them.
    fan_in : int
        How many parents one task waits for that a client spawns first; 0: it spawns none such.
    speed, base_s : float
        How fast the time of its database sessions runs, and since when (s since 1970).
    skew_s : float
        How far the clock of its host seems to run ahead (:func:`set_clock`).
    """

    who: str
    url: str
    history: str
    seed: int
    tasks: int = 0
    duration_s: float = 0.0
    fan_in: int = 0
    skew_s: float = 0.0
    speed: float = 1.0
    base_s: float = 0.0
    concurrency: int = 4
    lease_s: float = 3.0
    beat_s: float = 0.5
    poll_s: float = 1.0

    @classmethod
    def from_stdin(cls) -> Self:
        """Read what the campaign has written."""
        return cls(**json.load(sys.stdin))

    def encode(self) -> bytes:
        """Return what :meth:`from_stdin` reads."""
        return json.dumps(asdict(self)).encode()

    @property
    def path(self) -> Path:
        """The history's path."""
        return Path(self.history)

    def queue(self) -> AbsurdConfig:
        """Return the settings of the queue for this process."""
        fast = {"chaos.speed": f"{self.speed:g}", "chaos.base": f"{self.base_s:.3f}"} if self.speed != 1.0 else {}
        return AbsurdConfig(
            enabled=True, database_url=f"{self.url}?{urlencode({'sslmode': 'disable', **fast})}", queue_name=QUEUE,
            worker_concurrency=self.concurrency, lease_sec=self.lease_s, heartbeat_interval_sec=self.beat_s,
            worker_poll_interval_sec=self.poll_s, stop_grace_sec=3.0, kill_grace_sec=1.0, max_crashes=LENIENT,
        )  # fmt: skip


def set_clock(skew_s: float) -> None:
    """Let this process believe that it is later than it is; what measures intervals is left alone."""
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + skew_s
    time.time_ns = lambda: true_time_ns() + int(skew_s * 1e9)
