"""Requests that create work, sent again; and the other routes around jobs."""

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from dsa110_contimg.api import schemas
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import JobRecord
from dsa110_contimg.api.queries.idempotency import KeptReply
from fixtures.api_world import RUN_ID
from fixtures.work_bench import WorkBench, work_bench


@pytest.fixture
async def bench(each_database: dict[str, str], redis_url: str, tmp_path: Path) -> AsyncIterator[WorkBench]:
    async with work_bench(tmp_path, redis_url, PIPELINE_CMD_TEMPLATE="run {ms_path}", **each_database) as opened:
        yield opened


async def test_the_same_request_again_gets_the_same_reply_and_creates_nothing(bench: WorkBench) -> None:
    first = await bench.ask("POST", f"/jobs/{RUN_ID}/rerun", {"config": {}}, Idempotency_Key="a")
    again = await bench.ask("POST", f"/jobs/{RUN_ID}/rerun", {"config": {}}, Idempotency_Key="a")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert len(await bench.done("GET", "/queue/jobs")) == 1
    other = await bench.done("POST", f"/jobs/{RUN_ID}/rerun", {"config": {}}, Idempotency_Key="b")
    without = await bench.done("POST", f"/jobs/{RUN_ID}/rerun")
    assert len({first.json()["job_id"], other["job_id"], without["job_id"]}) == 3
    assert len({first.json()["run_id"], other["run_id"], without["run_id"]}) == 3, "also within one second"


async def test_the_same_key_for_another_request_is_refused(bench: WorkBench) -> None:
    await bench.done("POST", f"/jobs/{RUN_ID}/rerun", {"config": {}}, Idempotency_Key="a")
    for path, body in ((f"/jobs/{RUN_ID}/rerun", {}), ("/jobs/bulk-rerun", {"runIds": [RUN_ID]})):
        reply = await bench.ask("POST", path, body, Idempotency_Key="a")
        assert (reply.status_code, reply.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(await bench.done("GET", "/queue/jobs")) == 1
    theirs = {"Idempotency_Key": "a", "X-API-Key": bench.keys["admin"]}
    assert (await bench.ask("POST", f"/jobs/{RUN_ID}/rerun", {}, **theirs)).status_code == 403, "another's key is his"


async def test_many_of_the_same_at_once_create_one_and_get_one_reply(bench: WorkBench) -> None:
    """Who hears "not now" asks again: on a busy machine a hundred at once are too many for the database."""

    async def answered() -> httpx.Response:
        path, reply = f"/jobs/{RUN_ID}/rerun", None
        while reply is None or reply.status_code in (409, 503):
            await asyncio.sleep(0.5 if reply else 0)
            reply = await bench.ask("POST", path, {}, Idempotency_Key="a")
        return reply

    async with asyncio.timeout(120):
        replies = await asyncio.gather(*[answered() for _ in range(100)])
    assert {(reply.status_code, reply.content) for reply in replies} == {(200, replies[0].content)}
    assert sum("Idempotency-Replayed" in reply.headers for reply in replies) == 99
    assert len(await bench.done("GET", "/queue/jobs")) == 1


@pytest.mark.parametrize("end", ["the process died", "the reply was lost"])
async def test_a_request_without_a_reply_makes_its_work_once_on_the_next_day_too(bench: WorkBench, end: str) -> None:
    path, orders = f"/jobs/{RUN_ID}/rerun", bench.services.work.orders
    before = await bench.done("POST", path, {}, Idempotency_Key="nightly")
    async with open_database(bench.world.config.database, bench.world.config.timeouts) as adapter:
        row = await adapter.fetch_one("SELECT actor, fingerprint FROM idempotency_keys")
        assert row is not None
        await orders.forget_replies(time.time() + 1)
        yesterday = time.time() // 86400 * 86400 - 0.001
        await orders.reserve(KeptReply(row["actor"], "nightly", row["fingerprint"], yesterday))
        first = await bench.done("POST", path, {}, Idempotency_Key="nightly")
        await adapter.execute("UPDATE idempotency_keys SET status = NULL, reply = NULL")
        if end == "the reply was lost":
            await orders.release(row["actor"], "nightly")
    again = await bench.done("POST", path, {}, Idempotency_Key="nightly")
    assert (again["job_id"], again["run_id"]) == (first["job_id"], first["run_id"])
    assert first["job_id"] != before["job_id"], "its key had ended"
    assert len(await bench.done("GET", "/queue/jobs")) == 2


async def test_many_who_find_a_key_silent_at_once_make_its_work_once_and_get_one_reply(bench: WorkBench) -> None:
    path = f"/jobs/{RUN_ID}/rerun"
    await bench.done("POST", path, {}, Idempotency_Key="a")
    async with open_database(bench.world.config.database, bench.world.config.timeouts) as adapter:
        silent_s = time.time() - 61
        await adapter.execute(f"UPDATE idempotency_keys SET status = NULL, reply = NULL, created_at = {silent_s}")
    replies = await asyncio.gather(*[bench.ask("POST", path, {}, Idempotency_Key="a") for _ in range(8)])
    assert {(reply.status_code, reply.content) for reply in replies} == {(200, replies[0].content)}
    assert sum("Idempotency-Replayed" in reply.headers for reply in replies) == 7
    assert len(await bench.done("GET", "/queue/jobs")) == 2  # with that of the first time, which the test forgot


async def test_a_key_belongs_to_the_request_that_is_worked_on(bench: WorkBench) -> None:
    actor = bench.keys["write:jobs"].split("_")[1].split(".")[0]
    mine = KeptReply(actor, "c", "f", time.time())
    assert await bench.services.work.orders.reserve(mine) == (True, mine)
    reply = await bench.ask("POST", f"/jobs/{RUN_ID}/rerun", {}, Idempotency_Key="c")
    assert reply.status_code == 422


@pytest.mark.slow
async def test_a_request_whose_first_sending_takes_long_is_told_to_ask_again(bench: WorkBench) -> None:
    path = f"/jobs/{RUN_ID}/rerun"
    await bench.done("POST", path, {}, Idempotency_Key="a")
    async with open_database(bench.world.config.database, bench.world.config.timeouts) as adapter:
        now_s = time.time() + 30  # it is not given up meanwhile
        await adapter.execute(f"UPDATE idempotency_keys SET status = NULL, reply = NULL, created_at = {now_s}")
    reply = await bench.ask("POST", path, {}, Idempotency_Key="a")
    assert (reply.status_code, "still worked on" in reply.json()["message"]) == (409, True)
    assert len(await bench.done("GET", "/queue/jobs")) == 1


async def test_a_request_that_was_refused_leaves_its_key_free(bench: WorkBench) -> None:
    for _ in range(2):
        reply = await bench.ask("POST", "/jobs/job-none/rerun", {}, Idempotency_Key="a")
        assert reply.status_code == 404
    await bench.done("POST", f"/jobs/{RUN_ID}/rerun", {}, Idempotency_Key="a")
    assert (await bench.ask("POST", f"/jobs/{RUN_ID}/rerun", {}, Idempotency_Key="x" * 201)).status_code == 400


# --- the list, taken home -------------------------------------------------------------------------------------------


async def test_runs_are_exported_as_a_table_that_a_spreadsheet_does_not_execute(bench: WorkBench) -> None:
    """`/jobs/export` was declared after `/jobs/{run_id}` and could never be reached."""
    async with open_database(bench.world.config.database, bench.world.config.timeouts) as adapter:
        evil = JobRecord("=cmd|' /C calc'!A0", "2026-02-12T01:02:03", "failed", "@SUM(1)")
        await AsyncProductRecorder(adapter).save_job(evil)
    reply = await bench.ask("GET", f"/jobs/export?ids={RUN_ID},job-none,{evil.run_id.replace('|', '%7C')}")
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in reply.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    assert list(rows[0]) == ["run_id", "status", "started_at", "finished_at", "input_ms", "output_image_id"]
    assert rows[0]["run_id"] == RUN_ID
    assert (rows[0]["status"], rows[0]["output_image_id"]) == ("completed", "1")
    assert rows[0]["started_at"].endswith("Z")
    assert (rows[1]["run_id"], rows[1]["input_ms"]) == (f"'{evil.run_id}", "'@SUM(1)")
    assert len(rows) == 2
    again = await bench.ask("GET", f"/jobs/export?ids={RUN_ID}", Idempotency_Key="a")
    assert (again.status_code, "Idempotency-Replayed" in again.headers) == (200, False), "a read is a read"
    many = ",".join(f"j{n}" for n in range(1001))
    assert (await bench.ask("GET", f"/jobs/export?ids={many}")).status_code == 400
    assert (await bench.ask("GET", "/jobs/export")).status_code == 422


async def test_jobs_of_the_queue_are_listed_by_state_and_found_by_id(bench: WorkBench) -> None:
    told = [await bench.done("POST", f"/jobs/{RUN_ID}/rerun") for _ in range(3)]
    picture = bench.services.rq._queue.enqueue_thumbnail("/x.fits")
    listed = await bench.done("GET", "/queue/jobs")
    for job in listed:
        schemas.QueueJob.model_validate(job)
    assert [job["job_id"] for job in listed] == [one["job_id"] for one in reversed(told)] + [picture]
    await bench.done("POST", f"/queue/jobs/{told[0]['job_id']}/cancel")
    await bench.done("POST", f"/queue/jobs/{picture}/cancel")
    assert [job["job_id"] for job in await bench.done("GET", "/queue/jobs?status=canceled")] == [told[0]["job_id"]]
    assert len(await bench.done("GET", "/queue/jobs?limit=1&status=queued")) == 1
    assert await bench.done("GET", "/queue/jobs?status=not_found") == []
    assert (await bench.ask("GET", "/queue/jobs?status=nonsense")).status_code == 400
    for method, path in (("GET", "/queue/jobs/none"), ("POST", "/queue/jobs/none/cancel")):
        assert (await bench.ask(method, path)).status_code == 404
    stats = await bench.done("GET", "/queue")
    assert (stats["connected"], stats["queued_count"], stats["accepted"]) == (True, 2, {"sent": 2})
    assert "***" in stats["redis_url"] or "@" not in stats["redis_url"], "no password is told"
