"""Worker processes of a contestant, which tell through shared memory how many tasks they have handled and when."""

import asyncio
import contextlib
import logging
import multiprocessing
import signal
import time
from collections.abc import Iterator, Mapping
from multiprocessing.sharedctypes import RawArray
from typing import Any

import psutil
from benchmarks.queue import contestants
from benchmarks.queue.server import now_s

_STOP_S = 10.0
_HELD_S = 3600.0


class Handler:
    """What every task does: it counts itself, and holds on until its worker is killed when its parameters say so."""

    def __init__(self, figures: Any, latencies: Any) -> None:
        self._figures = figures  # tasks started, time of the first, time of the last
        self._latencies = latencies

    async def __call__(self, params: Mapping[str, Any]) -> None:
        """Handle one task."""
        now = now_s()
        self._figures[0] += 1.0
        if self._figures[0] == 1.0:
            self._figures[1] = now
        self._figures[2] = now
        if (number := params.get("number")) is not None:
            self._latencies[number] = now - params["spawned_s"]
        if params.get("hold"):
            await asyncio.sleep(_HELD_S)


def _main(name: str, url: str, concurrency: int, figures: Any, latencies: Any) -> None:
    logging.basicConfig(level=logging.ERROR)

    async def work() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await contestants.get(name).work(url, concurrency, Handler(figures, latencies), stop)

    asyncio.run(work())


class Fleet:
    """``processes`` workers with ``concurrency`` tasks at once in each."""

    def __init__(self, name: str, url: str, processes: int, concurrency: int, n_latencies: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self._figures = [RawArray("d", 3) for _ in range(processes)]
        self.latencies_s = RawArray("d", n_latencies)
        self._processes = [
            context.Process(target=_main, args=(name, url, concurrency, figures, self.latencies_s))
            for figures in self._figures
        ]

    def count(self) -> int:
        """Return how many tasks have been started."""
        return int(sum(figures[0] for figures in self._figures))

    def counts(self) -> list[int]:
        """Return how many tasks each process has started."""
        return [int(figures[0]) for figures in self._figures]

    def first_s(self) -> float:
        """Return when the first task started."""
        return min(figures[1] for figures in self._figures if figures[0])

    def last_s(self) -> float:
        """Return when the last task started."""
        return max(figures[2] for figures in self._figures if figures[0])

    def cpu_s(self) -> float:
        """Return the processor seconds of the workers."""
        total = 0.0
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = psutil.Process(process.pid).cpu_times()
                total += times.user + times.system
        return total

    async def until(self, n_tasks: int, limit_s: float) -> bool:
        """Wait until so many tasks have been started; False when that took too long."""
        deadline = now_s() + limit_s
        while self.count() < n_tasks and now_s() < deadline:
            if ended := {process.exitcode for process in self._processes} - {None, -signal.SIGKILL}:
                raise RuntimeError(f"a worker ended with {ended}")
            await asyncio.sleep(0.005)
        return self.count() >= n_tasks

    def kill(self, number: int, with_children: bool = False) -> None:
        """Kill one process as a crash would; with its children as the loss of its host would."""
        process = psutil.Process(self._processes[number].pid)
        doomed = [process, *(process.children(recursive=True) if with_children else [])]
        for one in doomed:
            one.kill()
        self._processes[number].join()

    @contextlib.contextmanager
    def running(self) -> Iterator["Fleet"]:
        """Run the processes; at the end they are asked to stop, and killed when they do not."""
        for process in self._processes:
            process.start()
        try:
            yield self
        finally:
            for process in self._processes:
                process.terminate()
            deadline = time.monotonic() + _STOP_S
            for process in self._processes:
                process.join(max(0.0, deadline - time.monotonic()))
                if process.is_alive():
                    process.kill()
                    process.join()
