"""Setting the queue up, what a client says when it is not, and what the queue says about itself."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from dsa110_contimg import absurd
from dsa110_contimg.absurd import setup
from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import (
    Database,
    QueueUnavailableError,
    SchemaError,
    open_connection,
    unanswered,
)
from dsa110_contimg.absurd.release import SCHEMA_VERSION
from fixtures.queue_bench import Bench

pytest_plugins = ["fixtures.queue_database"]


def run_setup(url: str, *words: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command as a process."""
    command = [sys.executable, "-m", "dsa110_contimg.absurd.setup", *words]
    environment = {**os.environ, "ABSURD_DATABASE_URL": url}
    return subprocess.run(command, env=environment, input=answer, capture_output=True, text=True, timeout=30)


Told = Callable[..., dict[str, str]]


@pytest.fixture
def tell(postgres_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Run the command here and return what it printed as ``name: value``."""
    monkeypatch.setenv("ABSURD_DATABASE_URL", postgres_database)

    def run(*words: str) -> dict[str, str]:
        assert setup.main(list(words)) == 0
        return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)

    return run


def test_the_setup_command_creates_shows_and_empties_the_queue(postgres_database: str, tell: Told) -> None:
    assert tell("status") == {"exists": "False"}
    tell("init")

    async def spawn_one() -> None:
        async with AbsurdClient(AbsurdConfig(database_url=postgres_database)) as client:
            await client.spawn("small")

    asyncio.run(spawn_one())
    tell("init")
    refused = run_setup(postgres_database, "reset", answer="no\n")
    assert refused.returncode == 1
    assert tell("status")["tasks"] == "1"
    tell("reset", "-y")
    assert tell("status")["tasks"] == "0"


def test_the_setup_command_makes_roles_and_status_tells_what_there_is(tell: Told) -> None:
    tell("init", "--roles")
    told = tell("status")
    assert told["schema_version"] == str(SCHEMA_VERSION)
    assert told["roles"] == "absurd_owner, absurd_api, absurd_worker, absurd_reader"
    assert told["tasks"] == told["misplaced"] == "0"
    assert int(told["tables"]) > 15
    assert int(told["functions"]) > 40
    with pytest.raises(SystemExit, match="2"):
        setup.main(["destroy"])


def test_the_setup_command_says_in_one_line_what_is_wrong_and_shows_no_password() -> None:
    ended = run_setup("postgresql://me:geheim@127.0.0.1:1/none", "init")
    assert ended.returncode == 1
    assert "ABSURD_DATABASE_URL" in ended.stderr
    assert "geheim" not in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_two_set_ups_at_once_make_one_queue(postgres_database: str) -> None:
    await asyncio.gather(*(setup.init(postgres_database) for _ in range(3)))
    assert (await setup.status(postgres_database))["schema_version"] == SCHEMA_VERSION


async def test_a_client_without_a_queue_says_which_command_makes_one(postgres_database: str) -> None:
    with pytest.raises(SchemaError, match=r"absurd\.setup init"):
        await AbsurdClient(AbsurdConfig(database_url=postgres_database)).connect()


async def test_a_client_refuses_the_queue_of_another_version(postgres_database: str) -> None:
    await setup.init(postgres_database)
    connection = await open_connection(postgres_database, "test")
    await connection.execute("update absurd.meta set schema_version = 99, serves_from = 99")
    await connection.close()
    with pytest.raises(SchemaError, match="99"):
        await AbsurdClient(AbsurdConfig(database_url=postgres_database)).connect()
    with pytest.raises(SchemaError, match="99"):
        await setup.init(postgres_database)


async def test_a_queue_of_this_version_with_other_functions_says_which_command_brings_them(
    postgres_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await open_connection(postgres_database, "test")
    await setup.init(postgres_database)
    for of_before in ("null", "'another release'"):
        await connection.execute(f"comment on schema absurd is {of_before}")
        assert (await setup.status(postgres_database))["up_to_date"] is False
        caplog.clear()
        async with AbsurdClient(AbsurdConfig(database_url=postgres_database)) as client:
            assert "absurd.setup init" in caplog.text
            assert "absurd.setup init" in (await client.monitor.health())["message"]
            await client.spawn("small")  # it goes on as before
            await setup.init(postgres_database)
            assert "absurd.setup init" not in (await client.monitor.health())["message"]
    await connection.close()
    caplog.clear()
    async with AbsurdClient(AbsurdConfig(database_url=postgres_database)):
        assert "absurd.setup init" not in caplog.text
    assert (await setup.status(postgres_database))["up_to_date"] is True


@pytest.mark.parametrize("part", ["wrong password", "unknown database", "closed port"])
async def test_a_wrong_address_is_told_without_the_password_and_soon(postgres_database: str, part: str) -> None:
    head, _, name = postgres_database.rpartition("/")
    url = {
        "wrong password": postgres_database.replace("postgres:", "postgres:x"),
        "unknown database": f"{head}/no_{name}",
        "closed port": "postgresql://postgres:geheim@127.0.0.1:1/x",
    }[part]
    started = time.monotonic()
    with pytest.raises(QueueUnavailableError, match="ABSURD_DATABASE_URL") as caught:
        await AbsurdClient(AbsurdConfig(database_url=url)).connect()
    assert time.monotonic() - started < 2.0
    assert "***" in str(caught.value)


async def test_a_client_that_is_not_connected_says_so() -> None:
    with pytest.raises(ValueError, match="connect"):
        await AbsurdClient(AbsurdConfig()).list_tasks()


async def test_a_call_is_repeated_over_a_connection_that_was_cut(queue: Bench) -> None:
    await queue.client.list_tasks()
    await queue.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'absurd client'")
    assert await queue.client.list_tasks() == []


async def test_tasks_are_listed_newest_first_by_queue_and_state(queue: Bench) -> None:
    tasks = [await queue.client.spawn("small", queue=name) for name in ("a", "b", "a")]
    listed = [row["task_id"] for row in await queue.client.list_tasks("a")]
    assert listed == [str(tasks[2]), str(tasks[0])]
    assert len(await queue.client.list_tasks(status="pending", limit=2)) == 2
    assert await queue.client.list_tasks(status="failed") == []


async def test_what_postgresql_cannot_store_does_not_keep_a_task_from_ending(queue: Bench) -> None:
    spawned = await queue.client.spawn("small", {"text": "a\x00b\ud800", "nan": float("nan"), "pair": (1, 2)})
    task = await queue.client.get_task(spawned)
    assert task is not None and task["params"] == {"text": "ab?", "nan": None, "pair": [1, 2]}


async def test_a_connect_that_is_given_up_leaves_no_connection(queue_database: str) -> None:
    mine = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'in haste'"
    holder = await open_connection(queue_database, "holder")
    try:
        async with holder.transaction():
            await holder.execute("lock table absurd.meta in access exclusive mode")
            database = Database(queue_database, "in haste")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await database.connect()
        async with asyncio.timeout(10):
            while await holder.fetchval(mine):  # noqa: ASYNC110 - the server tells nobody when a session has ended
                await asyncio.sleep(0.02)
    finally:
        await holder.close()


async def test_health_is_critical_without_a_worker_and_healthy_with_one(queue: Bench) -> None:
    assert (await queue.client.health())["status"] == "critical"
    async with queue.worker():
        await queue.until(lambda: queue.sql("select count(*) > 0 from absurd.worker where state = 'active'"))
        health = await queue.client.health()
    assert (health["status"], health["active_workers"]) == ("healthy", 1)


async def test_the_example_of_the_specification_works(queue: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSURD_DATABASE_URL", queue.url)
    client = absurd.AbsurdClient.from_env()
    await client.connect()
    task_id = await client.spawn("convert_uvh5", {"ms_path": "/path/to.ms"})
    stats = await client.get_queue_stats("dsa110-pipeline")
    await client.close()
    assert stats["pending"] == 1
    assert await queue.states(task_id) == ["pending"]


@pytest.mark.parametrize("module", ["dsa110_contimg.absurd", "dsa110_contimg.absurd.scheduler_main"])
@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [({"ABSURD_ENABLED": "false"}, 1, "ABSURD_ENABLED=true"), ({"ABSURD_LEASE": "long"}, 2, "ABSURD_LEASE is 'long'")],
)
def test_a_process_that_cannot_run_says_why_in_one_line(
    module: str, variables: dict[str, str], code: int, words: str
) -> None:
    command = [sys.executable, "-m", module]
    ended = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=30)
    assert ended.returncode == code
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_server_that_says_nothing_is_told_in_words() -> None:
    """The reason was left empty between its brackets, or was the name of a class."""
    told = str(unanswered("postgresql://someone:secret@db.example/queue", TimeoutError()))
    assert "someone:***@db.example/queue does not answer (no answer in time); is the server up" in told
