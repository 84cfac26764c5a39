"""An observation's work enters the queue once, whatever happens between the two databases that know of it."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dsa110_contimg.absurd.client import AbsurdClient
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.workflows import FINISH, STAGES, SpawnedRun, spawn_observation
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import DatabaseConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import JobRecord, Recording
from dsa110_contimg.api.migrations.migrator import Migrator
from fixtures.queue_bench import Bench

pytest_plugins = ["fixtures.queue_database"]


@dataclass(frozen=True)
class Files:
    stamp: str = "2026-02-11T00:00:10"
    files: tuple[str, ...] = ("/raw/2026-02-11T00:00:10_sb00.hdf5",)


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[AsyncProductRecorder]:
    config = DatabaseConfig(backend="sqlite", products_path=tmp_path / "products.sqlite3")
    await asyncio.to_thread(Migrator(config).upgrade)
    async with open_database(config) as adapter:
        yield AsyncProductRecorder(adapter)


async def spawn(queue: Bench, recorder: AsyncProductRecorder) -> SpawnedRun:
    return await spawn_observation(queue.client, recorder, Files(), Path("/p"))


async def test_an_observation_becomes_one_workflow_of_all_stages(queue: Bench, recorder: AsyncProductRecorder) -> None:
    run = await spawn(queue, recorder)
    workflow = await queue.client.get_workflow(run.workflow_id)
    assert workflow is not None
    assert [task["task_name"] for task in workflow["tasks"]] == [*STAGES, FINISH]
    job = await recorder.get_job(run.run_id)
    assert job is not None
    assert (job.status, job.workflow_id) == ("pending", str(run.workflow_id))


async def test_the_same_observation_again_is_left_as_it_is(queue: Bench, recorder: AsyncProductRecorder) -> None:
    first, second = await spawn(queue, recorder), await spawn(queue, recorder)
    assert (second.workflow_id, second.created) == (first.workflow_id, False)
    assert len(await queue.client.list_tasks()) == len(STAGES) + 1


async def test_a_run_recorded_by_a_process_that_died_before_it_spawned_is_completed_by_the_next(
    queue: Bench, recorder: AsyncProductRecorder
) -> None:
    first = await spawn(queue, recorder)
    job = await recorder.get_job(first.run_id)
    assert job is not None
    lost = UUID(int=first.workflow_id.int ^ 1)  # what is recorded names a workflow that the queue never got
    await recorder.record(Recording(job=replace(job, workflow_id=str(lost))))
    again = await spawn(queue, recorder)
    assert again.created
    assert await queue.client.get_workflow(again.workflow_id) is not None
    job = await recorder.get_job(first.run_id)
    assert job is not None
    assert job.workflow_id == str(again.workflow_id)


async def test_an_observation_that_failed_is_started_again(queue: Bench, recorder: AsyncProductRecorder) -> None:
    first = await spawn(queue, recorder)
    job = await recorder.get_job(first.run_id)
    assert job is not None
    await recorder.record(Recording(job=replace(job, status="failed", error="imaging: disk full", finished_at=1.0)))
    again = await spawn(queue, recorder)
    assert again.created
    assert again.workflow_id != first.workflow_id
    job = await recorder.get_job(first.run_id)
    assert job is not None
    assert (job.status, job.error, job.finished_at) == ("pending", None, None)


async def test_the_end_of_a_run_does_not_wait_behind_the_stages_of_others(
    queue: Bench, recorder: AsyncProductRecorder
) -> None:
    run = await spawn(queue, recorder)
    done: list[str] = []

    async def note(task: Any, context: Any) -> None:
        if task.name == STAGES[-1]:
            for _ in range(3):
                await queue.client.spawn(STAGES[0])
        if STAGES[-1] in done:
            await asyncio.sleep(1.1)  # the queue looks once a second whether something more urgent has come
        done.append(task.name)

    async with queue.worker(dict.fromkeys([*STAGES, FINISH], note), worker_concurrency=1):
        await queue.client.wait_workflow(run.workflow_id, 30)
    assert done[: len(STAGES)] == list(STAGES)
    assert done.index(FINISH) <= len(STAGES) + 1, "only what was taken when the last stage ended goes before"


async def test_two_who_ingest_at_the_same_moment_spawn_an_observation_once(
    queue: Bench, recorder: AsyncProductRecorder
) -> None:
    """In the earlier queue every caller made its own tasks. Neither may know of the other when it looks."""
    both_have_looked = asyncio.Barrier(2)

    class Looking:
        """Recorder whose callers go on only when both have seen that the run is not there."""

        async def get_job(self, run_id: str) -> JobRecord | None:
            found = await recorder.get_job(run_id)
            await both_have_looked.wait()
            return found

        async def record(self, recording: Recording) -> None:
            await recorder.record(recording)

    async with AbsurdClient(queue.client.config) as other:
        runs = await asyncio.gather(
            *(spawn_observation(client, Looking(), Files(), Path("/p")) for client in (queue.client, other))  # type: ignore[arg-type]
        )
    assert sorted(run.created for run in runs) == [False, True]
    assert len({run.workflow_id for run in runs}) == 1
    workflow = await queue.client.get_workflow(runs[0].workflow_id)
    assert workflow is not None
    assert [task["task_name"] for task in workflow["tasks"]] == [*STAGES, FINISH]
    assert len(await queue.client.list_tasks()) == len(STAGES) + 1
    job = await recorder.get_job(runs[0].run_id)
    assert job is not None
    assert job.workflow_id == str(runs[0].workflow_id)


async def test_two_processes_that_ingest_again_and_again_spawn_each_observation_once(
    queue: Bench, tmp_path: Path, recorder: AsyncProductRecorder
) -> None:
    program = [sys.executable, str(Path(__file__)), queue.url, str(tmp_path / "products.sqlite3")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    running = [await asyncio.create_subprocess_exec(*program, env=environment, stdout=PIPE) for _ in range(2)]
    said = [(await process.communicate())[0].decode().split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    created = [int(word) for words in said for word in words]
    assert sum(created) == OBSERVATIONS
    assert len(await queue.client.list_workflows()) == OBSERVATIONS
    assert len(await queue.client.list_tasks()) == OBSERVATIONS * (len(STAGES) + 1)


async def test_an_observation_whose_record_was_lost_is_processed_again(
    queue: Bench, recorder: AsyncProductRecorder
) -> None:
    first = await spawn(queue, recorder)
    await queue.client.cancel_workflow(first.workflow_id)

    class Empty:
        async def get_job(self, run_id: str) -> JobRecord | None:
            return None

        async def record(self, recording: Recording) -> None:
            await recorder.record(recording)

    again = await spawn_observation(queue.client, Empty(), Files(), Path("/p"))  # type: ignore[arg-type]
    assert again.created
    assert again.workflow_id != first.workflow_id


OBSERVATIONS = 10


async def ingest(url: str, products: str) -> None:
    """Put the same observations into the queue as another process does at this moment; say which were new."""
    config = DatabaseConfig(backend="sqlite", products_path=Path(products))
    async with AbsurdClient(AbsurdConfig(database_url=url)) as client, open_database(config) as adapter:
        recorder = AsyncProductRecorder(adapter)
        for n in range(OBSERVATIONS):
            run = await spawn_observation(client, recorder, Files(f"2026-02-11T00:00:{n:02}"), Path("/p"))
            print(int(run.created))


if __name__ == "__main__":
    asyncio.run(ingest(*sys.argv[1:]))
