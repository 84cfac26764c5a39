"""Programs that a worker starts, and what they leave behind."""

import asyncio
import os
import signal
import sys

import pytest

from dsa110_contimg.absurd.processes import Warden, ending_of, send, started
from dsa110_contimg.api.batch.command import run_command

#: Starts what leaves the group and keeps the output open, says its number, and goes on as the first argument says.
_LEAVES_SOMETHING = """
import signal, subprocess, sys, time
if sys.argv[1] == "stays":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen(["sleep", "60"], start_new_session=True).pid, flush=True)
if sys.argv[1] == "stays":
    time.sleep(60)
"""


@pytest.fixture
def groups() -> Warden:
    return Warden()  # not started: nobody kills what this test starts but the code under test


async def test_a_program_that_does_not_want_to_end_is_killed_though_a_stranger_holds_its_output(groups: Warden) -> None:
    command = (sys.executable, "-c", _LEAVES_SOMETHING, "stays")
    async with asyncio.timeout(20):
        async with started(*command, groups=groups, kill_grace_s=0.2) as process:
            await send(process, "")
            assert process.stdout
            left_behind = int(await process.stdout.readline())
        os.kill(left_behind, signal.SIGKILL)  # still there: it left the group
    assert process.returncode is not None
    assert ending_of(process.returncode) == "signal SIGKILL"


async def test_a_command_has_ended_when_its_program_has_whatever_holds_its_output(groups: Warden) -> None:
    said: list[str] = []
    command = (sys.executable, "-c", _LEAVES_SOMETHING, "goes")
    async with asyncio.timeout(20):
        await run_command(command, dict(os.environ), said.append, 10.0, groups)
    os.kill(int("".join(said)), signal.SIGKILL)
