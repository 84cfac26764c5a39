"""What happens when much is asked: long replies beside short ones, more than can be served, many sockets."""

import asyncio
import json
import resource
import time
from collections import Counter, defaultdict
from dataclasses import astuple, dataclass

from benchmarks.api.load import Answers, Connection, ask
from benchmarks.api.servers import Child
from benchmarks.api.world import World
from benchmarks.queue.report import Table, quantile
from websockets.asyncio.client import ClientConnection, connect

_LANES = 400
_TURN_S = 10.0


async def beside_long_replies(servers: dict[str, Child], world: World, requests: int) -> Table:
    """Return how long point reads take while two clients pull the longest light curve again and again."""
    table = Table(
        f"Point reads while two clients pull a light curve of {world.crowded:,} points",
        ["server", "alone p50 ms", "alone p99 ms", "beside p50 ms", "beside p99 ms", "curves/s"],
    )
    for name, child in servers.items():
        point_reads = ["/api/v1/images/1"] * requests
        await ask(child.port, point_reads, 1)
        alone = (await ask(child.port, point_reads, 1)).require_ok()
        stop, pulled = asyncio.Event(), Answers()
        pulling = [
            asyncio.create_task(_pull(child.port, f"/api/v1/sources/{world.crowded_id}/lightcurve", stop, pulled))
            for _ in range(2)
        ]
        beside = (await ask(child.port, point_reads, 1)).require_ok()
        stop.set()
        await asyncio.gather(*pulling)
        times = [answers.quantile_ms(share) for answers in (alone, beside) for share in (0.5, 0.99)]
        table.rows.append((name, *times, pulled.count / beside.elapsed_s))
    return table


async def _pull(port: int, path: str, stop: asyncio.Event, answers: Answers) -> None:
    connection = await Connection.open(port)
    while not stop.is_set():
        began = time.perf_counter()
        status, size = await connection.get(path)
        answers.add(status, time.perf_counter() - began, size)
    connection.close()


async def overload(child: Child, times: int, window_s: float) -> Table:
    """Return what is answered and refused when many more clients ask than are served at a time, and how it recovers.

    Capacity is what 16 connections get; then ``times`` as many requests a second are sent, each on time whether or not
    the ones before it were answered (an open loop), so that the server cannot slow its clients down. Both are done in
    turn: the machine itself is faster in one minute and slower in the next.
    """
    path = "/api/v1/images?limit=100"
    await ask(child.port, [path] * 500, 16)
    lanes, turns, tries = Lanes(child.port, path), [], max(1, round(window_s / _TURN_S))
    for _ in range(tries):
        capacity = (await ask(child.port, [path] * 2000, 16)).require_ok()
        turns.append(await _turn(child, lanes, capacity.rate, times, window_s / tries))
    lanes.close()
    recovered_s = await _time_until_well(child.port, path, capacity.quantile_ms(0.99))
    total = _Turn(*map(sum, zip(*map(astuple, turns), strict=True)))
    shares = ", ".join(f"{turn.share:.0%}" for turn in turns)
    table = Table(
        f"Overload: {times} times the {total.alone / total.took_s:,.0f} requests a second that are served",
        ["answer", "a second", "p50 ms", "p99 ms"],
        note=f"Served was {total.share:.0%} of what can be (goal 80 %), in turns of {window_s / tries:g} s {shares}.\n"
        f"Of one processor each the server took {total.busy_s / total.took_s:.0%} and the client "
        f"{total.own_busy_s / total.took_s:.0%}. Served as fast as before {recovered_s:.1f} s after the end.",
    )
    for answer, waits in sorted(lanes.waits_s.items()):
        table.rows.append((answer, len(waits) / total.took_s, *(quantile(waits, share) * 1e3 for share in (0.5, 0.99))))
    return table


@dataclass(frozen=True, slots=True)
class _Turn:
    """What was served while too much was asked, and what would have been alone."""

    took_s: float
    alone: float
    served: float
    busy_s: float
    own_busy_s: float

    @property
    def share(self) -> float:
        return self.served / self.alone


async def _turn(child: Child, lanes: "Lanes", alone_rate: float, times: int, window_s: float) -> _Turn:
    began, before_s, own_before_s = time.perf_counter(), child.cpu_s(), time.process_time()
    served_before = len(lanes.waits_s["200"])
    await lanes.send(times * alone_rate, window_s)
    took_s = time.perf_counter() - began
    served = len(lanes.waits_s["200"]) - served_before
    busy_s, own_busy_s = child.cpu_s() - before_s, time.process_time() - own_before_s
    return _Turn(took_s, alone_rate * took_s, served, busy_s, own_busy_s)


class Lanes:
    """Clients that send on time, each on a connection that it keeps.

    Attributes
    ----------
    waits_s : dict
        Answer (status, or how the connection ended) → how long each took.
    """

    def __init__(self, port: int, path: str) -> None:
        self.waits_s: dict[str, list[float]] = defaultdict(list)
        self._port, self._path = port, path
        self._connections: list[Connection | None] = [None] * _LANES

    async def send(self, rate: float, window_s: float) -> None:
        """Send so many requests a second."""
        began = time.perf_counter()
        await asyncio.gather(*(self._send_on_time(lane, began, rate, window_s) for lane in range(_LANES)))

    async def _send_on_time(self, lane: int, began: float, rate: float, window_s: float) -> None:
        due_s = began + lane / rate
        while due_s < began + window_s:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            sent_s = time.perf_counter()
            answer = await self._answer(lane)
            self.waits_s[answer].append(time.perf_counter() - sent_s)
            due_s = max(due_s + _LANES / rate, time.perf_counter() - 1.0)  # a lane that is a second behind skips

    async def _answer(self, lane: int) -> str:
        try:
            connection = self._connections[lane] = self._connections[lane] or await Connection.open(self._port)
            status, _ = await asyncio.wait_for(connection.get(self._path), 10.0)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self._connections[lane] = None
            return type(error).__name__
        return str(status)

    def close(self) -> None:
        """Close the connections."""
        for connection in filter(None, self._connections):
            connection.close()


async def _time_until_well(port: int, path: str, usual_p99_ms: float) -> float:
    began = time.perf_counter()
    while True:
        answers = await ask(port, [path] * 200, 16)
        if set(answers.by_status) == {200} and answers.quantile_ms(0.99) <= 2 * usual_p99_ms:
            return time.perf_counter() - began - answers.elapsed_s
        if time.perf_counter() - began > 30.0:
            return float("inf")


async def watchers(child: Child, clients: int) -> Table:
    """Return what many open WebSockets cost, and how long a word to and from each takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, clients + 500), hard), hard))
    before_mib, began = child.rss_mib(), time.perf_counter()
    sockets: list[ClientConnection] = []
    failures: Counter[str] = Counter()
    gate = asyncio.Semaphore(100)

    async def open_one(number: int) -> None:
        # every address of 127/8 is this machine: no address gets more sockets than one address may have
        local = (f"127.0.{number // 15 // 250 + 1}.{number // 15 % 250 + 1}", 0)
        async with gate:
            try:
                url = f"ws://127.0.0.1:{child.port}/api/v1/ws/pipeline"
                sockets.append(await connect(url, proxy=None, compression=None, local_addr=local, open_timeout=60))
            except (OSError, TimeoutError) as error:
                failures[type(error).__name__] += 1

    await asyncio.gather(*(open_one(number) for number in range(clients)))
    opened_s = time.perf_counter() - began
    held_mib = child.rss_mib() - before_mib
    waits = await asyncio.gather(*(_ping(socket) for socket in sockets))
    await asyncio.gather(*(socket.close() for socket in sockets))
    return Table(
        "WebSockets",
        ["clients", "refused", "s to connect", "KiB each", "ping p50 ms", "ping p99 ms"],
        [(len(sockets), sum(failures.values()), opened_s, held_mib * 1024 / max(1, len(sockets)),
          quantile(waits, 0.5) * 1e3, quantile(waits, 0.99) * 1e3)],
        note="Every client sends a ping at the same moment.",
    )  # fmt: skip


async def _ping(socket: ClientConnection) -> float:
    began = time.perf_counter()
    await socket.send('{"type": "ping"}')
    async with asyncio.timeout(120):
        while json.loads(await socket.recv())["type"] != "pong":
            pass
    return time.perf_counter() - began
