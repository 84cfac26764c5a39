"""One run, watched live: states, progress and lines of its log, from real workers, without loss over a reconnect."""

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from dsa110_contimg.absurd.adapter import Adapter
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.workflows import FINISH, STAGES
from dsa110_contimg.api.app import server_settings
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.run_logs import RunLogs
from dsa110_contimg.api.services.run_watch import RECENT_LINES
from fixtures.api_world import RUN_ID
from fixtures.live_api import running
from fixtures.queue_bench import Bench, open_bench
from fixtures.work_bench import CHAIN_RUN, WorkBench, work_bench

pytest_plugins = ["fixtures.queue_database"]

PROGRAM = "import time\nfor n in range(5): print('line', n, flush=True); time.sleep(0.1)\n"


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


class Ear:
    """A client that keeps what it hears."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: list[dict[str, Any]] = []

    async def until(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """Return the next message of a type whose data has these values."""
        async with asyncio.timeout(30):
            while True:
                told: dict[str, Any] = orjson.loads(await self.connection.recv())
                self.heard.append(told)
                if told["type"] == kind and wanted.items() <= told.get("data", told).items():
                    return told

    def lines(self) -> list[str]:
        return [told["data"]["message"] for told in self.heard if told["type"] == "log"]


def times_of(ear: Ear) -> dict[str, str]:
    """Return the times of the messages that are told again, by what they say."""
    told_again = [told for told in ear.heard if told["type"] in ("log", "progress", "complete")]
    return {f"{told['type']} {told['data']}": told["timestamp"] for told in told_again}


class Server:
    """The API as a real server beside a bench."""

    def __init__(self, bench: WorkBench, port: int, stack: AsyncExitStack) -> None:
        self.bench = bench
        self.port = port
        self._stack = stack

    async def open(self, path: str) -> Ear:
        address = f"ws://127.0.0.1:{self.port}{path}"
        return Ear(await self._stack.enter_async_context(connect(address, proxy=None)))


async def serve(stack: AsyncExitStack, directory: Path, redis_url: str, queue: Bench, **environ: str) -> Server:
    tasks = AbsurdConfig(enabled=True, database_url=queue.url, max_retries=0)
    bench = await stack.enter_async_context(work_bench(directory, redis_url, tasks, **environ))
    config = APIConfig.from_env({**bench.environ, "DSA110_PORT": "0"})
    port = stack.enter_context(running(server_settings(config, tasks)))
    return Server(bench, port, stack)


async def test_a_command_is_watched_from_its_order_to_its_end(redis_url: str, tmp_path: Path, queue: Bench) -> None:
    """The earlier sockets accepted any job and told nothing: no sender was ever called."""
    (tmp_path / "p.py").write_text(PROGRAM)
    async with AsyncExitStack() as stack:
        command = shlex.join([sys.executable, str(tmp_path / "p.py")])
        server = await serve(stack, tmp_path / "s", redis_url, queue, PIPELINE_CMD_TEMPLATE=command)
        told = await server.bench.done("POST", f"/jobs/{RUN_ID}/rerun")
        by_run = await server.open(f"/api/v1/ws/jobs/{told['run_id']}?client_id=me")
        by_job = await server.open(f"/api/ws/jobs/{told['job_id']}")
        hello = await by_run.until("connected")
        assert (hello["job_id"], hello["client_id"], hello["topic"]) == (told["run_id"], "me", f"job:{told['run_id']}")
        assert (await by_run.until("status", status="pending"))["job_id"] == told["run_id"]
        await asyncio.to_thread(server.bench.work)
        for ear, name in ((by_run, told["run_id"]), (by_job, told["job_id"])):
            end = await ear.until("complete", success=True)
            assert (end["job_id"], end["data"]["error"], end["data"]["result"]["run_id"]) == (
                name,
                None,
                told["run_id"],
            )
            assert ear.lines()[-6:] == [*(f"line {n}" for n in range(5)), "completed"], "all is told before the end"
            assert {told["timestamp"][-1] for told in ear.heard} == {"Z"}
        middle = next(told for told in by_run.heard if told["type"] == "log" and told["data"]["message"] == "line 2")
        back = await server.open(f"/ws/jobs/{told['run_id']}?last_event_id={middle['event_id']}")
        await back.until("complete", success=True)
        assert back.lines() == ["line 3", "line 4", "completed"], "nothing is lost and nothing told twice"
        assert times_of(back).items() <= times_of(by_run).items(), "what is told again happened when it happened"


async def test_stages_of_the_durable_queue_are_watched_from_the_first_to_the_last(
    redis_url: str, tmp_path: Path, queue: Bench
) -> None:
    async with AsyncExitStack() as stack:
        server = await serve(stack, tmp_path / "s", redis_url, queue)
        told = await server.bench.done("POST", f"/jobs/{CHAIN_RUN}/rerun")
        pipeline = await server.open("/api/v1/ws/pipeline")
        await pipeline.until("listening")
        ear = await server.open(f"/api/v1/ws/jobs/{told['run_id']}")
        await ear.until("status", status="pending")
        await work_through_stages(server.bench, queue)
        ended = await ear.until("complete")
        assert ended["data"]["success"] is True
        progress = [said["data"] for said in ear.heard if said["type"] == "progress"]
        assert list(dict.fromkeys(said["stage"] for said in progress)) == list(STAGES)
        assert progress[-1]["progress"] == 1.0
        assert [said["progress"] for said in progress] == sorted(said["progress"] for said in progress)
        assert "status" in {said["type"] for said in ear.heard}
        await pipeline.until("complete", success=True)
        kinds = {said["type"] for said in pipeline.heard}
        assert {"task_update", "status", "complete"} <= kinds
        half = [said for said in ear.heard if said["type"] == "progress"][6]
        back = await server.open(f"/api/v1/ws/jobs/{told['run_id']}?last_event_id={half['event_id']}")
        await back.until("progress", progress=1.0)
        again = [said["data"]["stage"] for said in back.heard if said["type"] == "progress"]
        assert again == [said["stage"] for said in progress[7:]]
        assert times_of(back).items() <= times_of(ear).items()


async def work_through_stages(bench: WorkBench, queue: Bench) -> None:
    """Have a worker do every stage at once, and record the end as ours does."""
    config = bench.world.config

    async def quick(task: Any, context: Any) -> dict[str, Any]:
        return {"done": task.name}

    async with open_database(config.database, config.timeouts) as adapter:
        recorder = AsyncProductRecorder(adapter)
        finish = Adapter(recorder, "test").tasks().handlers()[FINISH]
        async with queue.worker({**dict.fromkeys(STAGES, quick), FINISH: finish}):
            [row] = await queue.client.list_workflows()
            await queue.client.wait_workflow(row["workflow_id"], 30)


async def test_a_job_that_nobody_knows_is_refused_before_the_socket_is_open(
    redis_url: str, tmp_path: Path, queue: Bench
) -> None:
    async with AsyncExitStack() as stack:
        server = await serve(stack, tmp_path / "s", redis_url, queue)
        for unknown in ("job-2026-02-11-999999", "job_0123456789ab", "%25", "%00"):
            with pytest.raises(InvalidStatus) as refused:
                await server.open(f"/api/v1/ws/jobs/{unknown}")
            assert refused.value.response.status_code in (400, 404), unknown


async def test_who_is_cut_off_among_the_first_lines_gets_the_rest(redis_url: str, tmp_path: Path, queue: Bench) -> None:
    async with AsyncExitStack() as stack:
        server = await serve(stack, tmp_path / "s", redis_url, queue)
        logs = RunLogs(server.bench.world.config.log.run_directory)
        for number in range(RECENT_LINES + 7):
            logs.append(RUN_ID, "INFO", "imaging", f"öfter {number}")
        ear = await server.open(f"/ws/jobs/{RUN_ID}")
        last = await ear.until("log", message="öfter 40")
        ear.connection.transport.abort()
        back = await server.open(f"/ws/jobs/{RUN_ID}?last_event_id={last['event_id']}")
        await back.until("log", message=f"öfter {RECENT_LINES + 6}")
        assert [*ear.lines(), *back.lines()] == [f"öfter {number}" for number in range(7, RECENT_LINES + 7)]


async def test_a_client_watches_further_jobs_until_it_has_enough(redis_url: str, tmp_path: Path, queue: Bench) -> None:
    async with AsyncExitStack() as stack:
        server = await serve(stack, tmp_path / "s", redis_url, queue)
        logs = RunLogs(server.bench.world.config.log.run_directory)
        ear = await server.open(f"/api/v1/ws/jobs/{RUN_ID}")
        await ear.until("complete", success=True)
        for topic in (f"job:{CHAIN_RUN}", "pipeline:all"):
            await ear.connection.send(orjson.dumps({"type": "subscribe", "topic": topic}).decode())
            await ear.until("subscribed", topic=topic)
        logs.append(CHAIN_RUN, "WARNING", "imaging", "diverges")
        said = await ear.until("log")
        assert (said["job_id"], said["data"]) == (
            CHAIN_RUN, {"level": "WARNING", "message": "diverges", "source": "imaging"},
        )  # fmt: skip
        await ear.connection.send(orjson.dumps({"type": "unsubscribe", "topic": f"job:{CHAIN_RUN}"}).decode())
        await ear.until("unsubscribed")
        logs.append(CHAIN_RUN, "INFO", "imaging", "not heard")
        logs.append(RUN_ID, "INFO", "imaging", "heard")
        assert (await ear.until("log"))["data"]["message"] == "heard"
        for wrong in ("job:none", "everything", 7, None):
            await ear.connection.send(orjson.dumps({"type": "subscribe", "topic": wrong}).decode())
            assert (await ear.until("error"))["topic"] == wrong
        for n in range(20):
            await ear.connection.send(orjson.dumps({"type": "subscribe", "topic": f"job:{CHAIN_RUN}"}).decode())
            await ear.until("subscribed")
            assert n < 20, "the same topic again costs nothing"
        await ear.connection.send(b"\x00")
        await ear.connection.wait_closed()
        assert ear.connection.close_code == 1003
