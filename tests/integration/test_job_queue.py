"""The RQ queue over a real Redis: jobs are data, a worker makes the picture, a Redis that is down is said."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from dsa110_contimg.api.exceptions import RecordNotFoundError, ServiceUnavailableError
from dsa110_contimg.api.job_queue import JobQueue
from fixtures.api_world import write_image

WORK = "from dsa110_contimg.api.config import get_config; from dsa110_contimg.api.job_queue import JobQueue; "
WORK += "JobQueue.from_config(get_config()).work(burst=True)"


def work(redis_url: str, state: Path, name: str) -> None:
    """Run a worker until the queue is empty."""
    environ = {"REDIS_URL": redis_url, "DSA110_STATE_DIR": str(state), "DSA110_QUEUE_NAME": name}
    done = subprocess.run(
        [sys.executable, "-c", WORK], env=os.environ | environ, timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_worker_makes_the_picture_that_was_asked_for(redis_url: str, tmp_path: Path) -> None:
    queue = JobQueue(redis_url, "pictures")
    image = tmp_path / "products" / "images" / "a.fits"
    write_image(image)
    job_id = queue.enqueue_thumbnail(str(image))
    assert queue.get_job(job_id)["status"] == "queued"
    assert queue.stats()["queued_count"] == 1
    work(redis_url, tmp_path, "pictures")
    job = queue.get_job(job_id)
    assert (job["status"], job["error"]) == ("finished", None)
    assert (tmp_path / "thumbnails" / job["result"]).read_bytes().startswith(b"\x89PNG")
    assert job["ended_at"].endswith("Z")
    assert queue.stats()["queued_count"] == 0


def test_a_job_that_fails_says_why(redis_url: str, tmp_path: Path) -> None:
    queue = JobQueue(redis_url, "failing")
    job_id = queue.enqueue_thumbnail("/etc/passwd")
    work(redis_url, tmp_path, "failing")
    job = queue.get_job(job_id)
    assert job["status"] == "failed"
    assert "outside the data directories" in job["error"]


def test_what_lies_in_redis_is_json_and_no_pickle(redis_url: str) -> None:
    queue = JobQueue(redis_url, "plain")
    job_id = queue.enqueue_thumbnail("/x.fits")
    data = queue.connection.hget(f"rq:job:{job_id}", "data")
    assert isinstance(data, bytes)
    try:
        text = data.decode()
    except UnicodeDecodeError:  # RQ compresses payloads
        import zlib

        text = zlib.decompress(data).decode()
    assert json.loads(text)[0] == "dsa110_contimg.api.batch.jobs.make_thumbnail"


def test_a_job_of_the_same_id_is_not_queued_twice(redis_url: str) -> None:
    queue = JobQueue(redis_url, "unique")
    assert [queue.enqueue("make_thumbnail", "/x.fits", job_id="one") for _ in range(3)] == ["one"] * 3
    assert queue.stats()["queued_count"] == 1


class CountedConnection(redis.Connection):
    """Counts how often something is sent to Redis."""

    sent = 0

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        type(self).sent += 1
        super().send_packed_command(command, check_health)


def test_a_long_list_of_jobs_takes_as_few_questions_as_a_short_one(redis_url: str) -> None:
    queue = JobQueue(redis_url, "long")
    queue.connection.connection_pool.connection_class = CountedConnection
    queue.enqueue("make_thumbnail", "/0.fits")
    assert len(queue.list_jobs(None, 200)) == 1
    before = CountedConnection.sent
    assert len(queue.list_jobs(None, 200)) == 1
    for_one = CountedConnection.sent - before
    for number in range(1, 30):
        queue.enqueue("make_thumbnail", f"/{number}.fits")
    before = CountedConnection.sent
    assert len(queue.list_jobs(None, 200)) == 30
    assert CountedConnection.sent - before == for_one > 0


def test_an_unknown_job_is_not_found(redis_url: str) -> None:
    with pytest.raises(RecordNotFoundError):
        JobQueue(redis_url, "any").get_job("nobody")


def test_a_redis_that_is_down_is_said_and_nothing_is_queued() -> None:
    queue = JobQueue("redis://:secret@127.0.0.1:9/0", "any")
    assert not queue.is_connected
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        queue.enqueue_thumbnail("/x.fits")
    told = queue.stats()
    assert told["connected"] is False
    assert "secret" not in str(told)


def test_a_redis_that_answers_is_connected(redis_url: str) -> None:
    queue = JobQueue(redis_url, "any")
    assert queue.is_connected
    assert queue.stats()["connected"] is True
    queue.close()
