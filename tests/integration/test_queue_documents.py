"""What the README of the queue shows is run here, block by block."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import dsa110_contimg.absurd
from fixtures.queue_bench import Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]

README = Path(dsa110_contimg.absurd.__file__).with_name("README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
async def queue(queue_database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("ABSURD_DATABASE_URL", queue_database)
    async with open_bench(queue_database) as bench:
        yield bench


def block_with(name: str) -> dict[str, Any]:
    """Run the block that defines a name and return what it defines."""
    [text] = [block for block in BLOCKS if f"def {name}(" in block]
    defined: dict[str, Any] = {"__name__": "readme"}
    exec(compile(text, "README.md", "exec"), defined)
    return defined


def test_every_block_is_run_here() -> None:
    names = {name for block in BLOCKS for name in re.findall(r"^(?:async )?def (\w+)", block, re.MULTILINE)}
    assert names == {"main", "record_and_spawn", "image_all", "image", "spawn_checked", "work"}
    assert len(BLOCKS) == 4


async def test_the_spawns_of_the_readme(queue: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    await block_with("main")["main"]()
    stats = await queue.client.get_queue_stats("dsa110-pipeline")
    assert (stats["pending"], stats["blocked"], stats["cancelled"]) == (103, 4, 1)
    assert "True True\n" in capsys.readouterr().out
    shown = {row["name"]: row["total_tasks"] for row in await queue.client.list_workflows()}
    assert shown == {"observation": 3, "quick-imaging": 3}


async def test_the_transaction_of_the_readme(queue: Bench) -> None:
    call = block_with("record_and_spawn")["record_and_spawn"]
    await queue.connection.execute("create table public.observation (path text)")
    try:
        async with queue.session() as connection:
            await call(connection, queue.client, "/data/a.hdf5")
        assert await queue.sql("select path from public.observation") == "/data/a.hdf5"
        [task] = await queue.client.list_tasks(name="convert-uvh5-to-ms")
        assert task["params"] == {"path": "/data/a.hdf5"}
    finally:
        await queue.connection.execute("drop table public.observation")


async def test_the_script_of_the_readme_beside_the_worker_of_the_readme(queue: Bench) -> None:
    program = block_with("work")
    working = asyncio.create_task(program["work"]())
    script = block_with("image_all")["image_all"]
    assert await asyncio.to_thread(script, ["/data/a.ms", "/data/b.ms"]) == ["completed", "completed"]
    await program["spawn_checked"]()
    [task, *_] = await queue.client.list_tasks(name="imaging")
    ended = await queue.client.wait(task["task_id"], 20)
    assert (ended["result"], ended["timeout_sec"]) == ({"image_path": "/data/a.fits"}, 1800.0)
    os.kill(os.getpid(), signal.SIGTERM)  # the worker of the block has taken this signal over
    await asyncio.wait_for(working, 20)


async def test_the_sql_of_the_readme(queue: Bench) -> None:
    statements = re.findall(r"`(select [^`]+)`", README)
    assert len(statements) == 2
    for statement in statements:
        await queue.connection.fetch(statement)
    assert await queue.sql("select count(*) from absurd.tasks where task_name = 'imaging'") == 1


async def test_the_states_of_the_readme_are_those_of_the_queue(queue: Bench) -> None:
    told = set(re.findall(r"^\| `([a-z]+)` \| ", README.partition("## States")[2].partition("## ")[0], re.MULTILINE))
    with pytest.raises(ValueError, match="there are") as caught:
        await queue.client.list_tasks(status="none of them")
    assert told == set(str(caught.value).partition("there are ")[2].split(", "))
