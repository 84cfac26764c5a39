"""What happens when much is asked: long replies beside short ones, more than can be served, many sockets."""

import asyncio
import json
import resource
import time
from collections import Counter

from benchmarks.api.load import Answers, Connection, ask
from benchmarks.api.servers import Child
from benchmarks.api.world import World
from benchmarks.queue.report import Table, quantile
from websockets.asyncio.client import ClientConnection, connect

_LANES = 400


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
    the ones before it were answered (an open loop), so that the server cannot slow its clients down.
    """
    path = "/api/v1/images?limit=100"
    await ask(child.port, [path] * 500, 16)
    capacity = (await ask(child.port, [path] * 2000, 16)).require_ok()
    latencies: dict[str, list[float]] = {}
    rate = times * capacity.rate
    began, before_s, own_before_s = time.perf_counter(), child.cpu_s(), time.process_time()
    await asyncio.gather(
        *(_on_time(child.port, path, began, window_s, lane, rate, latencies) for lane in range(_LANES))
    )
    took_s = time.perf_counter() - began
    busy, own_busy = (child.cpu_s() - before_s) / took_s, (time.process_time() - own_before_s) / took_s
    served = len(latencies.get("200", ())) / took_s / capacity.rate
    recovered_s = await _time_until_well(child.port, path, capacity.quantile_ms(0.99))
    table = Table(
        f"Overload: {times} times the {capacity.rate:,.0f} requests a second that are served",
        ["answer", "a second", "p50 ms", "p99 ms"],
        note=f"Served was {served:.0%} of what can be (goal 80 %). Of one processor each the server took {busy:.0%} "
        f"and the client {own_busy:.0%}.\nServed as fast as before {recovered_s:.1f} s after the end.",
    )
    for answer, waits in sorted(latencies.items()):
        table.rows.append((answer, len(waits) / took_s, *(quantile(waits, share) * 1e3 for share in (0.5, 0.99))))
    return table


async def _on_time(
    port: int, path: str, began: float, window_s: float, lane: int, rate: float, latencies: dict[str, list[float]]
) -> None:
    """Send this lane's share of the schedule on a connection of its own."""
    connection: Connection | None = None
    due_s = began + lane / rate
    while due_s < began + window_s:
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        sent_s = time.perf_counter()
        try:
            connection = connection or await Connection.open(port)
            status, _ = await asyncio.wait_for(connection.get(path), 10.0)
            answer = str(status)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            answer, connection = type(error).__name__, None
        latencies.setdefault(answer, []).append(time.perf_counter() - sent_s)
        due_s = max(due_s + _LANES / rate, time.perf_counter() - 1.0)  # a lane that is a second behind skips
    if connection:
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
