"""`dsa110 up`: open the house, do the work, show what was made, serve on, close the house."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from dsa110_contimg.api.config import process_environment
from dsa110_contimg.exit_codes import CommandError, ExitCode
from dsa110_contimg.up.console import Screen, open_screen
from dsa110_contimg.up.observation import plain_errors, require_subband_files, work_through
from dsa110_contimg.up.plan import Plan, check_port, make_plan
from dsa110_contimg.up.supervisor import Supervisor

Result = TypeVar("Result")

#: One-shot programs that prepare the databases: name -> words.
PREPARATIONS = {"absurd-init": (), "migrate": ("upgrade",)}
#: What runs all the time, in the order of the start.
SERVICES = ("api", "worker", "scheduler", "rq-worker")


class PreparationError(CommandError):
    """A database could not be prepared."""

    exit_code = ExitCode.SERVER


def run(data: Path | None, once: bool, port: int | None) -> ExitCode:
    """Run `dsa110 up` and return its exit code."""
    if data is not None:
        data = data.resolve()
        require_subband_files(data)
    plan = make_plan(process_environment(), port)
    with plan.state.hold():
        check_port(plan.config.server.host, plan.config.server.port)
        with plain_errors():
            return asyncio.run(_run(plan, data, once))


async def _run(plan: Plan, data: Path | None, once: bool) -> ExitCode:
    screen = open_screen(plan.state.logs)
    stop = asyncio.Event()
    for sig in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sig, stop.set)
    try:
        async with _house(plan, screen, stop) as supervisor:
            done = await _unless_stopped(
                work_through(plan.environment, plan.addresses.api_url, screen, data), supervisor, stop
            )
            if done is None:
                return ExitCode.INTERRUPTED
            if once:
                screen.say("the addresses answer again while it runs without ONCE=1 (--once)")
            else:
                screen.say(f"serving on {plan.addresses.api_url} until Ctrl-C")
                make = f"{_own_command()} keys create NAME --scope write:jobs"
                screen.say(f"to change something over the API, make a key: {make}")
                await _unless_stopped(asyncio.Event().wait(), supervisor, stop)
            return ExitCode.OK if done else ExitCode.WORK_FAILED
    finally:
        screen.close()


def _own_command() -> str:
    """Return how this command is called from the present directory."""
    return "dsa110" if shutil.which("dsa110") else os.path.relpath(Path(sys.executable).with_name("dsa110"))


@contextlib.asynccontextmanager
async def _house(plan: Plan, screen: Screen, stop: asyncio.Event) -> AsyncIterator[Supervisor]:
    """Start everything; stop everything at the end, whatever happened."""
    supervisor = Supervisor(screen)
    try:
        await _unless_stopped(_open(plan, screen, supervisor), supervisor, stop)
        plan.state.announce(plan.addresses)
        yield supervisor
    finally:
        plan.state.withdraw()
        screen.say("stopping")
        await supervisor.stop()


async def _open(plan: Plan, screen: Screen, supervisor: Supervisor) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    for server in plan.servers:
        await asyncio.to_thread(server.prepare)
    await asyncio.gather(*(supervisor.start(plan.server_spec(server)) for server in plan.servers))
    await asyncio.gather(*(_prepare(plan, supervisor, screen, name) for name in PREPARATIONS))
    await asyncio.gather(*(supervisor.start(plan.spec(name)) for name in SERVICES))
    screen.say(f"everything runs after {clock() - began:.1f} s at {plan.addresses.api_url}/; logs in {plan.state.logs}")


async def _prepare(plan: Plan, supervisor: Supervisor, screen: Screen, name: str) -> None:
    code = await supervisor.run_to_end(plan.spec(name, *PREPARATIONS[name]))
    if code != 0:
        raise PreparationError(f"{name} failed: {screen.last_words(name)}")


async def _unless_stopped(
    work: Coroutine[Any, Any, Result], supervisor: Supervisor, stop: asyncio.Event
) -> Result | None:
    """Return what ``work`` returns; None, with the work cancelled, when the house is to be closed before.

    Raises
    ------
    ProcessFailedError
        A process was given up.
    """
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait([task, stopped, supervisor.gave_up], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if supervisor.gave_up.done():
        raise supervisor.gave_up.result()
    return None
