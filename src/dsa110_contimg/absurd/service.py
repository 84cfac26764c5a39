"""Run a worker or a scheduler as a process that stops when it is told to."""

import asyncio
import signal
from typing import Protocol


class Service(Protocol):
    """Something that works until it is asked to stop."""

    async def run(self) -> None:
        """Work until the request."""

    def request_stop(self) -> None:
        """Ask for the end; asking again asks for haste."""


async def until_stopped(service: Service) -> None:
    """Run a service; SIGTERM and SIGINT ask it to stop."""
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, service.request_stop)
    try:
        await service.run()
    finally:
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(sig)
