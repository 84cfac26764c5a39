"""A new process of the API takes over from an old one, and nobody who asks meanwhile is refused or cut off."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from dsa110_contimg.api.migrations import migrator
from fixtures.api_world import settings

PATH = "/api/v1/images"
#: Starts the server with the socket as file 3, as systemd hands it over.
LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); "
    "os.execv(sys.executable, [sys.executable, '-m', 'dsa110_contimg.api'])"
)


class Process:
    """One process of the API on a socket that outlives it."""

    def __init__(self, address: socket.socket, state: Path) -> None:
        environ = os.environ | {"LISTEN_FDS": "1", "DSA110_STATE_DIR": str(state), "ABSURD_ENABLED": "false"}
        self.log = (state / f"api-{time.monotonic_ns()}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(address.fileno())], pass_fds=[address.fileno()],
            env=environ | {"DSA110_RATE_LIMIT_DISABLED": "true", "DSA110_ENV": "testing"},
            stderr=self.log, stdout=self.log,
        )  # fmt: skip

    async def serves(self, url: str) -> None:
        """Wait until its own log says that it has answered; another process may answer at the same address."""
        await asyncio.to_thread(self._serve, url)

    def _serve(self, url: str) -> None:
        while "GET" not in (said := self.said()):
            assert self._process.poll() is None, said
            httpx.get(url, timeout=15.0)
            time.sleep(0.05)

    def said(self) -> str:
        """Return its log."""
        return Path(self.log.name).read_text()

    async def end(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, 20)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.log.close()


async def ask_on_and_on(url: str, stop: asyncio.Event, statuses: list[int]) -> None:
    """Ask on a connection that stays open for as long as the server lets it, without a second try."""
    async with httpx.AsyncClient(timeout=15.0) as client:
        while not stop.is_set():
            statuses.append((await client.get(url)).status_code)


@pytest.mark.parametrize(
    "overlap",
    [pytest.param(True, marks=pytest.mark.slow, id="the new one first"), pytest.param(False, id="the old one first")],
)
async def test_a_restart_fails_no_request(tmp_path: Path, overlap: bool) -> None:
    config = settings(tmp_path)
    await asyncio.to_thread(migrator.upgrade, config.database, config.timeouts)
    address = socket.create_server(("127.0.0.1", 0), backlog=128)
    url = f"http://127.0.0.1:{address.getsockname()[1]}{PATH}"
    processes = [Process(address, tmp_path)]
    stop, statuses = asyncio.Event(), list[int]()
    try:
        await processes[0].serves(url)
        asking = [asyncio.create_task(ask_on_and_on(url, stop, statuses)) for _ in range(8)]
        for _ in range(2):
            old, before = processes[-1], len(statuses)
            if not overlap:
                assert await old.end() == -signal.SIGTERM
            processes.append(Process(address, tmp_path))
            await processes[-1].serves(url)
            assert f"serving on 127.0.0.1:{address.getsockname()[1]}" in processes[-1].said()
            if overlap:
                assert await old.end() == -signal.SIGTERM
            await asyncio.sleep(0.5)
            assert len(statuses) > before, "nobody was answered"
        stop.set()
        await asyncio.gather(*asking)
    finally:
        for process in processes:
            process.kill()
        address.close()
    assert set(statuses) == {200}
