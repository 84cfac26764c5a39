"""The logs of runs over HTTP."""

from pathlib import Path

import pytest

from dsa110_contimg.api import run_logs
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.run_logs import RunLogs
from fixtures.api_server import Served
from fixtures.api_world import RUN_ID


@pytest.mark.parametrize("address", ["/api/v1/jobs/{run}/logs", "/api/v1/logs/{run}", "/api/logs/{run}"])
async def test_the_end_of_a_log_is_served_at_every_address(own: Served, address: str) -> None:
    logs = RunLogs(own.world.config.log.run_directory)
    for number in range(150):
        logs.append(RUN_ID, "INFO", "imaging", f"line {number}")
    told = await own.json(address)
    assert (len(told["logs"]), told["total_lines"], told["error"]) == (100, 150, None)
    assert told["logs"][-1].endswith("line 149\n")
    told = await own.json(address + "?tail=2")
    assert [line.split()[-1] for line in told["logs"]] == ["148", "149"]


async def test_a_long_log_is_served_as_a_short_one_is(own: Served) -> None:
    logs = RunLogs(own.world.config.log.run_directory)
    for number in range(20):
        logs.append(RUN_ID, "INFO", "imaging", f"{'x' * 1000} {number}")  # over the 16 KiB that are read at once
    told = await own.json("/api/v1/logs/{run}?tail=3")
    assert ([line.split()[-1] for line in told["logs"]], told["total_lines"]) == (["17", "18", "19"], 20)


async def test_a_run_without_a_log_says_so_and_an_unknown_run_is_not_found(small: Served) -> None:
    told = await small.json("/api/v1/logs/{run}")
    assert (told["logs"], told["total_lines"]) == ([], 0)
    assert told["error"] == "nothing was logged for this run"
    assert (await small.get("/api/v1/logs/job-2026-01-01-000000")).status_code == 404


@pytest.mark.parametrize("name", ["..%2F..%2Fproducts.sqlite3", "%2Fetc%2Fpasswd", "job-%25", "job-", "a%00b"])
async def test_no_name_from_outside_reaches_a_file(small: Served, name: str) -> None:
    for base in ("/api/v1/logs/", "/api/v1/jobs/"):
        reply = await small.get(f"{base}{name}" + ("/logs" if "jobs" in base else ""))
        assert reply.status_code in {400, 404}
        assert "root:" not in reply.text


@pytest.mark.parametrize("tail", ["0", "-5", "10001", "x"])
async def test_a_tail_is_between_one_line_and_ten_thousand(small: Served, tail: str) -> None:
    assert (await small.get("/api/v1/logs/{run}?tail=" + tail)).status_code == 422


async def test_provenance_leads_to_the_log(small: Served) -> None:
    told = await small.json("/api/v1/jobs/{run}/provenance")
    job = await small.json("/api/v1/jobs/{run}")
    assert told["logs_url"] == told["logsUrl"] == job["logs_url"] == f"/api/logs/{RUN_ID}"
    assert (await small.get(told["logs_url"])).status_code == 200


@pytest.mark.parametrize("address", ["/api/v1/jobs/{run}/logs", "/api/logs/{run}?tail=5"])
async def test_a_reply_that_a_process_has_still_is_that_of_the_log_as_it_is(
    own: Served, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_logs, "_REST_S", -1.0)  # as if each change was some seconds ago
    directory = own.world.config.log.run_directory
    logs, path = RunLogs(directory), directory / f"{RUN_ID}.log"
    kept = []
    for number in range(12):
        for _ in range(3):
            reply = await own.get(address)
            kept.append(reply.headers["x-cache"])
            told = reply.json()
            content = path.read_text() if path.exists() else ""
            assert "".join(told["logs"]) == "".join(content.splitlines(keepends=True)[-5:]), number
            assert (told["error"] is None) == path.exists()
        if number % 4 == 3:
            path.unlink()
        elif number % 4 == 2:
            path.write_text(f"{content.swapcase()}as another\n")
        else:
            logs.append(RUN_ID, "INFO", "imaging", f"line {number}")
    assert kept == ["off", "memory", "memory"] * 12


async def test_a_reply_about_a_log_is_made_anew_when_its_run_ends(own: Served) -> None:
    for _ in range(2):
        before = await own.get("/api/v1/logs/{run}")
    assert (before.headers["x-cache"], before.headers["cache-control"]) == ("memory", "no-store")
    config = own.world.config
    async with open_database(config.database, config.timeouts) as adapter:
        await adapter.execute("UPDATE jobs SET status = 'failed'")
    after = await own.get("/api/v1/logs/{run}")
    assert (after.headers["x-cache"], after.json()["status"]) == ("off", "failed")


async def test_a_log_that_grows_is_read_each_time(own: Served) -> None:
    logs = RunLogs(own.world.config.log.run_directory)
    for number in range(4):
        logs.append(RUN_ID, "INFO", "imaging", f"line {number}")
        for _ in range(2):
            reply = await own.get("/api/v1/logs/{run}")
            assert (reply.headers["x-cache"], reply.json()["total_lines"]) == ("off", number + 1)


async def test_a_log_is_never_kept_by_a_cache(small: Served) -> None:
    assert (await small.get("/api/v1/logs/{run}")).headers["cache-control"] == "no-store"


def test_logs_of_runs_lie_apart_from_those_of_processes(small: Served) -> None:
    assert small.world.config.log.run_directory == Path(small.world.config.log.directory, "runs")
