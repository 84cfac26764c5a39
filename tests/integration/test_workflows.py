"""An observation's work enters the queue once, whatever happens between the two databases that know of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest

from dsa110_contimg.absurd.workflows import FINISH, STAGES, SpawnedRun, spawn_observation
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import DatabaseConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import Recording
from dsa110_contimg.api.migrations.migrator import Migrator
from fixtures.queue_bench import Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]


@dataclass(frozen=True)
class Files:
    stamp: str = "2026-02-11T00:00:10"
    files: tuple[str, ...] = ("/raw/2026-02-11T00:00:10_sb00.hdf5",)


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database) as bench:
        yield bench


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
