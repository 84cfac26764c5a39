"""Runs are done again: by the command of the installation or by the stages of the durable queue, as new runs."""

import asyncio
import json
import os
import secrets
import shlex
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.specs import TaskSpec
from dsa110_contimg.absurd.workflows import STAGES, spawn_rerun
from dsa110_contimg.api import schemas
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import APIConfig, ConfigError
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.run_logs import RunLogs
from dsa110_contimg.up.servers import EmbeddedRedis
from fixtures.api_server import serving
from fixtures.api_world import RUN_ID
from fixtures.queue_bench import Bench, open_bench
from fixtures.work_bench import CHAIN_RUN, WorkBench, work_bench

pytest_plugins = ["fixtures.queue_database"]

PROGRAM = """
import json, os, sys
print(json.dumps([sys.argv[1:], sorted(os.environ)]), flush=True)
sys.exit(int(os.environ.get("EXIT", "0")))
"""
SLOW = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1] + ".pids", "w").write(f"{os.getpid()} {child.pid}\\n")
print("begun", flush=True)
time.sleep(600)
"""


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database, max_retries=0) as bench:
        yield bench


def template(path: Path, program: str, *words: str) -> str:
    path.write_text(program)
    return " ".join([shlex.quote(sys.executable), shlex.quote(str(path)), *words])


def alive(pids: Path) -> list[int]:
    """Return which of the processes still run whose ids are in a file."""
    found = [int(word) for word in pids.read_text().split()]
    return [pid for pid in found if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


async def until(question: Callable[[], Any], limit_s: float = 30.0) -> None:
    began = time.monotonic()
    while not question():
        assert time.monotonic() - began < limit_s
        await asyncio.sleep(0.05)


# --- by a command ---------------------------------------------------------------------------------------------------


async def test_a_command_gets_each_value_as_one_word_and_nothing_of_our_secrets(redis_url: str, tmp_path: Path) -> None:
    """The earlier queue gave a text to a shell, with coordinates unquoted; without a command it reported success."""
    words = "--ms {ms_path} {run_id} {cal_table} {phase_center_ra} {phase_center_dec} '; rm -rf /' {original_run_id}"
    command = template(tmp_path / "p.py", PROGRAM, words)
    environ = {"PIPELINE_CMD_TEMPLATE": command, "DSA110_PIPELINE_ENV": "DSA110_TEST_SHOWN"}
    async with work_bench(tmp_path / "state", redis_url, **environ) as bench:
        odd = f"{bench.world.config.paths.products_dir}/ms/a b;$(touch x)'\".ms"
        told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun", {"config": {"ms_path": odd, "phase_center_dec": 0.0}})
        schemas.RerunReply.model_validate(told)
        assert (told["status"], told["queue_connected"], told["original_run_id"]) == ("queued", True, RUN_ID)
        new = told["new_run_id"]
        assert new.startswith(f"{RUN_ID}_rerun_")
        assert (await bench.job(new)).status == "pending"
        await asyncio.to_thread(bench.work, DSA110_TEST_SHOWN="1", DSA110_API_KEYS=secrets.token_hex(32), SECRET="s")
        job = await bench.job(new)
        assert (job.status, job.error, job.ms_path) == ("completed", None, odd)
        assert job.started_at and job.finished_at and job.finished_at >= job.started_at
        [line] = [one for one in RunLogs(bench.world.config.log.run_directory).tail(new, 100).lines if "[[" in one]
        arguments, variables = json.loads(line[line.index("[[") :])
        expected = ["--ms", odd, new, bench.world.caltable_path, "188.5", "0.0", "; rm -rf /", RUN_ID]
        assert arguments == expected
        assert "DSA110_TEST_SHOWN" in variables
        assert not {"SECRET", "DSA110_API_KEYS", "REDIS_URL"} & set(variables)
        shown = await bench.done("GET", f"/queue/jobs/{told['job_id']}")
        schemas.QueueJob.model_validate(shown)
        assert (shown["status"], shown["result"]["exit_code"], shown["run_id"]) == ("finished", 0, new)
        meta = shown["meta"]
        assert (meta["requested_by"], meta["auth_method"]) == ("key for write:jobs", "api_key")
        assert meta["original_run_id"] == RUN_ID
        assert bench.keys["write:jobs"][-8:] not in str(shown), "no part of a key is told"
        assert (await bench.job(RUN_ID)).status == "completed", "the first run stays as it is"


@pytest.mark.slow
async def test_a_command_that_fails_fails_the_run_with_its_exit_code(redis_url: str, tmp_path: Path) -> None:
    environ = {"PIPELINE_CMD_TEMPLATE": template(tmp_path / "p.py", PROGRAM), "DSA110_PIPELINE_ENV": "EXIT"}
    async with work_bench(tmp_path / "state", redis_url, **environ) as bench:
        told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun")
        await asyncio.to_thread(bench.work, EXIT="3")
        job = await bench.job(told["new_run_id"])
        assert job.status == "failed"
        assert "exit code 3" in str(job.error)
        shown = await bench.done("GET", f"/queue/jobs/{told['job_id']}")
        assert (shown["status"], shown["error"]) == ("failed", job.error)
        assert bench.services.rq._queue.get_job(told["job_id"])["status"] == "failed", "Redis says so too"


@pytest.mark.slow
async def test_a_command_that_is_not_there_is_said(redis_url: str, tmp_path: Path) -> None:
    async with work_bench(tmp_path / "state", redis_url, PIPELINE_CMD_TEMPLATE="/nowhere/run {ms_path}") as bench:
        told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun")
        await asyncio.to_thread(bench.work)
        assert "'/nowhere/run' is not there" in str((await bench.job(told["new_run_id"])).error)


@pytest.mark.slow
async def test_a_command_that_takes_too_long_is_killed_with_its_group(redis_url: str, tmp_path: Path) -> None:
    command = template(tmp_path / "p.py", SLOW.replace("SIG_IGN", "SIG_DFL"), "{ms_path}")
    environ = {"PIPELINE_CMD_TEMPLATE": command, "DSA110_PIPELINE_TIMEOUT": "1"}
    async with work_bench(tmp_path / "state", redis_url, **environ) as bench:
        path = f"{bench.world.config.paths.products_dir}/slow"
        told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun", {"config": {"ms_path": path}})
        await asyncio.to_thread(bench.work)
        assert "stopped after 1 s" in str((await bench.job(told["new_run_id"])).error)
        assert not alive(Path(f"{path}.pids"))


@pytest.mark.slow
async def test_a_running_command_is_canceled_and_what_it_started_goes_too(redis_url: str, tmp_path: Path) -> None:
    command = template(tmp_path / "p.py", SLOW.replace("SIG_IGN", "SIG_DFL"), "{ms_path}")
    async with work_bench(tmp_path / "state", redis_url, PIPELINE_CMD_TEMPLATE=command) as bench:
        path = f"{bench.world.config.paths.products_dir}/slow"
        told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun", {"config": {"ms_path": path}})
        worker = bench.worker()
        pids_file = Path(f"{path}.pids")
        await until(lambda: pids_file.exists() and pids_file.read_text().endswith("\n"))
        assert (await bench.done("GET", f"/queue/jobs/{told['job_id']}"))["status"] == "started"
        assert (await bench.done("POST", f"/queue/jobs/{told['job_id']}/cancel"))["status"] == "canceled"
        job = await bench.job(told["new_run_id"])
        assert (job.status, job.error) == ("failed", "canceled")
        await asyncio.to_thread(worker.communicate, timeout=60)
        assert not alive(pids_file)
        assert (await bench.done("GET", f"/queue/jobs/{told['job_id']}"))["status"] == "canceled"
        assert (await bench.ask("POST", f"/queue/jobs/{told['job_id']}/cancel")).status_code == 409


@pytest.mark.parametrize(
    "text", ["run --ms={ms_path}", "run {ms}", "run {ms_path", "{ms_path}", "run 'a", "run {}", "run {ms_path!r}"]
)
def test_a_template_with_a_placeholder_that_is_no_word_of_its_own_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match="a placeholder is a whole word"):
        APIConfig.from_env({"PIPELINE_CMD_TEMPLATE": text})
    with pytest.raises(ConfigError):
        APIConfig.from_env({"DSA110_PIPELINE_RUN_CMD": text})


def test_a_template_is_split_as_a_shell_would_and_shown_as_it_was_set() -> None:
    command = APIConfig.from_env({"DSA110_PIPELINE_RUN_CMD": "run 'a b' {ms_path}"}).queue.rerun_command
    assert command.words == ("run", "a b", "{ms_path}")
    assert str(command) == "run 'a b' {ms_path}"


async def test_what_cannot_be_wanted_of_a_command_is_refused(redis_url: str, tmp_path: Path) -> None:
    async with work_bench(tmp_path / "state", redis_url, PIPELINE_CMD_TEMPLATE="run {ms_path} {cal_table}") as bench:
        products = bench.world.config.paths.products_dir
        degrees = "give a number of degrees from"
        for wrong, says in (
            ({"ms_path": "/etc/passwd"}, "'/etc/passwd'"), ({"ms_path": f"{products}/../../x"}, "a path below"),
            ({"ms_path": 7}, "'7'"), ({"ms_path": None}, "'None'"), ({"cal_table": "--x"}, "'--x'"),
            ({"phase_center_ra": 361}, f"phase_center_ra is 361; {degrees} 0 to 360"),
            ({"phase_center_dec": "0; ls"}, f"phase_center_dec is '0; ls'; {degrees} -90 to 90"),
            ({"phase_center_ra": True}, f"is True; {degrees}"), ({"run_id": "x"}, "'run_id' is unknown, given as 'x'"),
            ({"phase_centre_ra": 1}, "did you mean 'phase_center_ra'?"), ({"imaging": {}}, "there are ms_path, cal_ta"),
        ):  # fmt: skip
            reply = await bench.ask("POST", f"/jobs/{RUN_ID}/rerun", {"config": wrong})
            assert (reply.status_code, says in reply.json()["message"]) == (400, True), (wrong, reply.json())
        reply = await bench.ask("POST", f"/jobs/{CHAIN_RUN}/rerun")
        assert reply.status_code == 409
        assert "needs cal_table" in reply.json()["message"]
        assert (await bench.done("GET", "/queue"))["accepted"] == {}
        assert (await bench.ask("POST", "/jobs/job-2026-02-11/rerun")).status_code == 404, "no other run of that day"
        assert (await bench.ask("POST", "/jobs/job-%25/rerun")).status_code == 404


# --- Redis dies -----------------------------------------------------------------------------------------------------


async def test_accepted_work_survives_a_redis_that_is_down_and_one_that_comes_back_empty(tmp_path: Path) -> None:
    """The earlier fallback kept the job in one process's memory, where nobody ever did it."""
    command = template(tmp_path / "p.py", PROGRAM)
    server = EmbeddedRedis(tmp_path / "redis")
    with server:
        url = server.url
        async with work_bench(tmp_path / "state", url, PIPELINE_CMD_TEMPLATE=command) as bench:
            first = await bench.done("POST", f"/jobs/{RUN_ID}/rerun")
            assert first["queue_connected"] is True
            bench.services.rq._queue.connection.flushall()  # restarted empty
            assert (await bench.done("GET", "/queue"))["queued_count"] == 0
            await bench.services.work.look_after()
            assert (await bench.done("GET", "/queue"))["queued_count"] == 1
            await asyncio.to_thread(bench.work)
            assert (await bench.job(first["new_run_id"])).status == "completed"


async def test_several_who_look_after_the_same_work_have_it_done_once(redis_url: str, tmp_path: Path) -> None:
    command = template(tmp_path / "p.py", PROGRAM)
    async with work_bench(tmp_path / "state", redis_url, PIPELINE_CMD_TEMPLATE=command) as bench:
        told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun")
        bench.services.rq._queue.connection.flushall()
        async with serving(bench.world.config, world=bench.world) as other:
            second = WorkBench(bench.environ, other, bench.keys)
            rounds = (one.services.work.look_after() for one in (bench, second) for _ in range(3))
            await asyncio.gather(*rounds)
            workers = [asyncio.to_thread(one.work) for one in (bench, second)]
            await asyncio.gather(*workers, bench.services.work.look_after(), second.services.work.look_after())
        shown = await bench.done("GET", f"/queue/jobs/{told['job_id']}")
        assert (shown["status"], shown["attempts"]) == ("finished", 1)


async def test_while_redis_is_down_work_is_kept_and_said_to_be_so(tmp_path: Path, redis_url: str) -> None:
    command = template(tmp_path / "p.py", PROGRAM)
    async with work_bench(tmp_path / "state", "redis://127.0.0.1:9/0", PIPELINE_CMD_TEMPLATE=command) as bench:
        told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun")
        assert told["queue_connected"] is False
        assert "kept in the database" in told["message"]
        stats = await bench.done("GET", "/queue")
        schemas.QueueStats.model_validate(stats)
        assert (stats["connected"], stats["accepted"]) == (False, {"accepted": 1})
        assert (stats["queued_count"], stats["in_memory_count"]) == (None, 0)
        listed = await bench.done("GET", "/queue/jobs?status=QUEUED")
        assert [job["job_id"] for job in listed] == [told["job_id"]]
        assert (await bench.ask("GET", "/queue/jobs/job_of_redis")).status_code == 503
        environ = {**bench.environ, "REDIS_URL": redis_url}
    config = APIConfig.from_env(environ)
    async with serving(config, world=bench.world) as again:  # another process, and Redis answers
        after = WorkBench(environ, again, bench.keys)
        await after.services.work.look_after()
        await asyncio.to_thread(after.work)
        assert (await after.job(told["new_run_id"])).status == "completed"


async def test_a_redis_that_hangs_keeps_nobody_waiting(tmp_path: Path) -> None:
    """The first call of the earlier queue blocked for more than five seconds, and everybody with it."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        environ = {"PIPELINE_CMD_TEMPLATE": "run {ms_path}", "DSA110_TIMEOUT_REDIS_SOCKET": "20"}
        async with work_bench(tmp_path / "state", url, **environ) as bench:
            async with asyncio.timeout(10):
                told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun")
            assert told["queue_connected"] is False
            mute.close()


async def test_a_rerun_whose_tasks_cannot_be_canceled_now_goes_on(redis_url: str, tmp_path: Path, queue: Bench) -> None:
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path / "state", redis_url, tasks) as bench:
        told = await bench.done("POST", f"/jobs/{CHAIN_RUN}/rerun")
        environ = bench.environ
    nowhere = AbsurdConfig(enabled=True, database_url="postgresql://nobody:x@127.0.0.1:9/none")
    async with serving(APIConfig.from_env(environ), nowhere, world=bench.world) as cut_off:
        after = WorkBench(environ, cut_off, bench.keys)
        assert (await after.ask("POST", "/jobs/bulk-cancel", {"runIds": [told["run_id"]]})).status_code == 503
        assert (await after.ask("POST", f"/queue/jobs/{told['job_id']}/cancel")).status_code == 503
        assert (await after.job(told["run_id"])).status == "pending"
        second = await after.done("POST", f"/jobs/{CHAIN_RUN}/rerun")
        assert second["queue_connected"] is False
    async with serving(APIConfig.from_env(environ), tasks, world=bench.world) as again:
        after = WorkBench(environ, again, bench.keys)
        await after.services.work.look_after()
        job = await after.job(second["run_id"])
        assert await queue.client.get_workflow(UUID(str(job.workflow_id)))


@pytest.mark.slow
async def test_a_worker_process_finds_accepted_work_that_redis_has_lost(redis_url: str, tmp_path: Path) -> None:
    command = template(tmp_path / "p.py", PROGRAM)
    async with work_bench(tmp_path / "state", "redis://127.0.0.1:9/0", PIPELINE_CMD_TEMPLATE=command) as bench:
        told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun")
        environ = {**os.environ, **bench.environ, "REDIS_URL": redis_url}
        worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "dsa110_contimg.api", "jobs", env=environ)
        try:
            for _ in range(600):
                if (await bench.job(told["run_id"])).status == "completed":
                    break
                await asyncio.sleep(0.1)
            assert (await bench.job(told["run_id"])).status == "completed"
        finally:
            worker.terminate()
            assert await asyncio.wait_for(worker.wait(), 30) == 0


@pytest.mark.slow
async def test_a_worker_that_is_killed_leaves_nothing_and_its_work_is_done_by_another(
    redis_url: str, tmp_path: Path
) -> None:
    command = template(tmp_path / "p.py", SLOW, "{ms_path}")
    async with work_bench(tmp_path / "state", redis_url, PIPELINE_CMD_TEMPLATE=command) as bench:
        path = f"{bench.world.config.paths.products_dir}/slow"
        told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun", {"config": {"ms_path": path}})
        worker = bench.worker()
        pids_file = Path(f"{path}.pids")
        await until(lambda: pids_file.exists() and pids_file.read_text().endswith("\n"))
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        await until(lambda: not alive(pids_file))
        (tmp_path / "p.py").write_text(PROGRAM)
        work = bench.services.work
        work.orders.silent_s = 0.2
        await asyncio.sleep(0.3)
        await work.look_after()
        await asyncio.to_thread(bench.work)
        assert (await bench.job(told["new_run_id"])).status == "completed"
        assert (await bench.done("GET", f"/queue/jobs/{told['job_id']}"))["attempts"] == 2


async def test_work_that_kills_its_workers_is_given_up(redis_url: str, tmp_path: Path) -> None:
    async with work_bench(tmp_path / "state", redis_url, PIPELINE_CMD_TEMPLATE="run") as bench:
        told = await bench.done("POST", f"/jobs/{RUN_ID}/rerun")
        work = bench.services.work
        work.orders.silent_s = -1.0  # everybody counts as dead
        for _ in range(3):
            assert await work.orders.claim(told["job_id"], "w", time.time())
        await work.look_after()
        job = await bench.job(told["new_run_id"])
        assert (job.status, job.error) == ("failed", "given up: whoever worked on it died, 3 times")
        assert (await bench.done("GET", f"/queue/jobs/{told['job_id']}"))["status"] == "failed"


# --- by the stages of the durable queue -----------------------------------------------------------------------------


async def test_without_a_command_the_stages_run_again_beside_the_first_products(
    redis_url: str, tmp_path: Path, queue: Bench
) -> None:
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path / "state", redis_url, tasks) as bench:
        wanted = {"overrides": {"imaging": {"robust": 0.0}}}
        told = await bench.done("POST", f"/jobs/{CHAIN_RUN}/rerun", wanted)
        new = await bench.job(told["new_run_id"])
        assert new.workflow_id is not None
        workflow = await queue.client.get_workflow(UUID(new.workflow_id))
        assert workflow is not None
        assert [task["task_name"] for task in workflow["tasks"]] == [*STAGES, "finish-run"]
        by_name = {task["task_name"]: task["params"] for task in workflow["tasks"]}
        assert by_name["imaging"]["options"]["robust"] == 0.0
        assert by_name["convert-uvh5-to-ms"]["options"]["files"] == ["/raw/2026-02-11T03:04:05_sb00.hdf5"]
        assert {params["run_id"] for params in by_name.values()} == {new.run_id}
        assert f"/reruns/{new.run_id}/" in new.ms_path == by_name["flagging"]["options"]["ms_path"]
        first = await bench.job(CHAIN_RUN)
        assert (first.status, first.ms_path, first.workflow_id) == ("failed", "/p/ms/x.ms", None)
        again = await bench.done("POST", f"/jobs/{new.run_id}/rerun", {"config": {"imaging": {"n_pixels": 512}}})
        assert again["new_run_id"].count("_rerun_") == 1
        config = (await bench.job(again["new_run_id"])).params
        assert config["options"] == {"imaging": {"robust": 0.0, "n_pixels": 512}}
        assert config["rerun_of"] == new.run_id


async def test_a_run_with_options_that_no_stage_takes_any_more_is_done_again_without_them(
    redis_url: str, tmp_path: Path, queue: Bench
) -> None:
    """Limits of grades were once recorded with a run, and passed over; the stage would refuse them now."""
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path / "state", redis_url, tasks) as bench:
        once = {"validation": {"thresholds": {"noise": 2}}, "imaging": {"robust": 0.0, "gone": 1}, "mosaic": {"x": 1}}
        job = await bench.job(CHAIN_RUN)
        async with open_database(bench.world.config.database, bench.world.config.timeouts) as adapter:
            recorded = replace(job, run_id=f"{CHAIN_RUN}_old", params={**job.params, "options": once})
            await AsyncProductRecorder(adapter).save_job(recorded)
        told = await bench.done("POST", f"/jobs/{recorded.run_id}/rerun")
        new = await bench.job(told["new_run_id"])
        assert new.params["options"] == {"imaging": {"robust": 0.0}, "validation": {}}
        many = await bench.done("POST", "/jobs/bulk-rerun", {"run_ids": [recorded.run_id]})
        assert (len(many["enqueued"]), many["refused"]) == (1, [])
        refused = await bench.ask("POST", f"/jobs/{recorded.run_id}/rerun", {"config": {"imaging": {"gone": 1}}})
        assert refused.status_code == 400, "what is chosen now is judged"


async def test_what_cannot_be_wanted_of_the_stages_is_refused(redis_url: str, tmp_path: Path, queue: Bench) -> None:
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path / "state", redis_url, tasks) as bench:
        for wrong, says in (
            ({"imagin": {}}, "'imagin' is unknown, given as {}; did you mean 'imaging'? there are convert-uvh5-to-ms"),
            ({"imaging": 3}, "imaging is 3; give an object"), ({"ms_path": "/x"}, "'ms_path' is unknown, given as"),
            ({"imaging": {"image_path": "/etc/x"}}, "image_path of imaging is chosen by the pipeline"),
        ):  # fmt: skip
            reply = await bench.ask("POST", f"/jobs/{CHAIN_RUN}/rerun", {"config": wrong})
            assert (reply.status_code, says in reply.json()["message"]) == (400, True), (wrong, reply.json())
        reply = await bench.ask("POST", f"/jobs/{CHAIN_RUN}/rerun", {"config": {"imaging": {"nitter": 5}}})
        assert reply.status_code == 400
        assert "imaging: 'nitter' is unknown, given as 5; did you mean 'max_minor" in reply.json()["message"]
        assert reply.json()["details"]["field"] == "imaging"
        for wrong, says in (
            ({"confg": {}}, "Unknown field 'confg'; did you mean 'config'?"),
            ({"imaging": {"robust": 0}}, "Unknown field 'imaging'; known are: config"),
        ):
            reply = await bench.ask("POST", f"/jobs/{CHAIN_RUN}/rerun", wrong)
            assert (reply.status_code, reply.json()["message"].endswith(says)) == (422, True), reply.json()
        reply = await bench.ask("POST", f"/jobs/{RUN_ID}/rerun")
        assert reply.status_code == 409
        assert "ingest the observation again" in reply.json()["message"]
        assert await queue.client.list_workflows() == []


async def test_a_durable_queue_that_lost_the_workflow_gets_it_again_and_a_canceled_one_ends_the_run(
    redis_url: str, tmp_path: Path, queue: Bench
) -> None:
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path / "state", redis_url, tasks) as bench:
        told = await bench.done("POST", f"/jobs/{CHAIN_RUN}/rerun")
        job = await bench.job(told["new_run_id"])
        workflow_id = UUID(str(job.workflow_id))
        await queue.client.cancel_workflow(workflow_id)
        work = bench.services.work
        work._swept_at = float("-inf")
        await work.look_after()
        job = await bench.job(told["new_run_id"])
        assert (job.status, job.error) == ("failed", "canceled in the task queue")
        await work.look_after()
        assert (await bench.done("GET", f"/queue/jobs/{told['job_id']}"))["status"] == "failed"


async def test_a_canceled_workflow_ends_its_run_however_many_others_were_canceled_before(
    redis_url: str, tmp_path: Path, queue: Bench
) -> None:
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path / "state", redis_url, tasks) as bench:
        told = await bench.done("POST", f"/jobs/{CHAIN_RUN}/rerun")
        workflow_id = UUID(str((await bench.job(told["new_run_id"])).workflow_id))
        for other in (UUID(int=2**128 - 1 - n) for n in range(101)):
            await queue.client.spawn_workflow("another", [TaskSpec("nothing", {})], workflow_id=other)
            await queue.client.cancel_workflow(other)
        await queue.client.cancel_workflow(workflow_id)
        await bench.services.work.look_after()
        bench.services.work._swept_at = float("-inf")
        await bench.services.work.look_after()
        assert (await bench.job(told["new_run_id"])).status == "failed"


async def test_a_run_is_canceled_with_all_its_tasks(redis_url: str, tmp_path: Path, queue: Bench) -> None:
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with work_bench(tmp_path / "state", redis_url, tasks) as bench:
        told = await bench.done("POST", "/jobs/bulk-rerun", {"runIds": [CHAIN_RUN, "job-none", RUN_ID]})
        schemas.BulkRerunReply.model_validate(told)
        [one] = told["enqueued"]
        assert (one["run_id"], told["not_found"]) == (CHAIN_RUN, ["job-none"])
        assert [refused["run_id"] for refused in told["refused"]] == [RUN_ID]
        new = one["new_run_id"]
        ended = await bench.done("POST", "/jobs/bulk-cancel", {"run_ids": [new, "job-none", RUN_ID]})
        schemas.BulkCancelReply.model_validate(ended)
        assert ended == {"status": "ok", "canceled": [new], "not_found": ["job-none"], "ended": [RUN_ID]}
        job = await bench.job(new)
        assert (job.status, job.error) == ("failed", "canceled")
        assert (await bench.done("GET", f"/queue/jobs/{one['job_id']}"))["status"] == "canceled"

        async def gone() -> bool:
            """Tell whether the tasks are canceled, also those that were just being sent."""
            workflow = await queue.client.get_workflow(UUID(str(job.workflow_id)))
            return bool(workflow and workflow["status"] == "cancelled")

        await queue.until(gone)


async def test_a_run_that_was_sent_by_a_process_that_died_after_its_cancel_does_not_run(
    redis_url: str, tmp_path: Path, queue: Bench
) -> None:
    nowhere = AbsurdConfig(enabled=True, database_url="postgresql://nobody:x@127.0.0.1:9/none")
    async with work_bench(tmp_path / "state", redis_url, nowhere) as bench:
        told = await bench.done("POST", f"/jobs/{CHAIN_RUN}/rerun")
        await bench.services.work.orders.settle(told["job_id"], "canceled", time.time())
        job = await bench.job(told["run_id"])
    await spawn_rerun(queue.client, job, tmp_path)  # it was on its way
    tasks = AbsurdConfig(enabled=True, database_url=queue.url)
    async with serving(APIConfig.from_env(bench.environ), tasks, world=bench.world) as again:
        work = WorkBench(bench.environ, again, bench.keys).services.work
        async with asyncio.timeout(30):  # the process looks after its work by itself too, at any moment
            while (await queue.client.get_workflow(UUID(str(job.workflow_id))) or {}).get("status") != "cancelled":
                work._swept_at = float("-inf")
                await work.look_after()


async def test_with_neither_command_nor_durable_queue_nothing_is_pretended(redis_url: str, tmp_path: Path) -> None:
    """The earlier rerun imported a function, ran nothing, and reported completed."""
    async with work_bench(tmp_path / "state", redis_url) as bench:
        reply = await bench.ask("POST", f"/jobs/{CHAIN_RUN}/rerun")
        assert (reply.status_code, reply.json()["error"]) == (503, "ABSURD_DISABLED")
        assert (await bench.done("GET", "/queue"))["accepted"] == {}
