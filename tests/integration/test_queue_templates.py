"""Templates: kept by name, run as a workflow whose steps follow each other."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dsa110_contimg.absurd.connection import Database
from dsa110_contimg.absurd.templates import (
    Step,
    TemplateError,
    TemplateExistsError,
    Templates,
    UnknownTemplateError,
)
from fixtures.queue_bench import QUEUE, Bench

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def templates(queue: Bench) -> AsyncIterator[Templates]:
    database = Database(queue.url, "test templates", 2)
    await database.connect()
    yield Templates(database, queue.client.config, queue.client)
    await database.close()


STEPS = [
    Step("convert", {"a": 1, "b": 1}, priority=3),
    Step("image", {"a": 2}, timeout_sec=5.0, max_retries=0),
    Step("assess"),
]


async def test_a_template_is_kept_changed_and_deleted(templates: Templates) -> None:
    created = await templates.create("nightly", STEPS, description="what runs at night")
    assert (created["name"], created["queue_name"], created["description"]) == ("nightly", QUEUE, "what runs at night")
    assert [step["task_name"] for step in created["steps"]] == ["convert", "image", "assess"]
    assert await templates.get("nightly") == created
    changed = await templates.update("nightly", STEPS[:1], queue_name="other")
    assert changed is not None and (changed["queue_name"], len(changed["steps"])) == ("other", 1)
    assert changed["created_at"] == created["created_at"] < changed["updated_at"]
    assert await templates.list() == [changed]
    assert await templates.delete("nightly")
    assert not await templates.delete("nightly")
    assert await templates.get("nightly") is None
    assert await templates.update("nightly", STEPS) is None


async def test_a_second_template_of_a_name_is_refused(templates: Templates) -> None:
    await templates.create("nightly", STEPS)
    with pytest.raises(TemplateExistsError, match="nightly"):
        await templates.create("nightly", STEPS[:1])
    kept = await templates.get("nightly")
    assert kept is not None and len(kept["steps"]) == 3


async def test_a_template_without_name_or_steps_is_refused(templates: Templates) -> None:
    for name, steps in (("", STEPS), ("empty", [])):
        with pytest.raises(TemplateError, match="at least one step"):
            await templates.create(name, steps)


@pytest.mark.parametrize("values", [{"task_name": ""}, {"timeout_sec": 0.0}, {"max_retries": -1}])
def test_a_step_that_cannot_be_is_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(TemplateError, match=next(iter(values))):
        Step(**{"task_name": "convert", **values})


async def test_the_steps_of_a_template_run_one_after_the_other_with_merged_params(
    queue: Bench, templates: Templates
) -> None:
    await templates.create("nightly", STEPS)
    run = await templates.run("nightly", {"b": 9, "c": 9})
    order = []
    while claimed := await queue.claim(3):
        assert len(claimed) == 1, "a step waits for the one before it"
        order.append((claimed[0]["name"], claimed[0]["params"]))
        assert claimed[0]["task_id"] == run.task_ids[len(order) - 1]
        await queue.complete(claimed[0])
    assert order == [
        ("convert", {"a": 1, "b": 9, "c": 9}),
        ("image", {"a": 2, "b": 9, "c": 9}),
        ("assess", {"b": 9, "c": 9}),
    ]
    task = await queue.client.get_task(run.task_ids[1])
    assert task is not None and (task["timeout_sec"], task["max_retries"]) == (5.0, 0)
    workflow = await queue.client.get_workflow(run.workflow_id)
    assert workflow is not None
    assert (workflow["name"], workflow["status"], workflow["metadata"]) == (
        "nightly",
        "completed",
        {"template": "nightly"},
    )


async def test_a_step_that_fails_ends_the_run(queue: Bench, templates: Templates) -> None:
    await templates.create("nightly", [Step("convert", max_retries=0), Step("image")])
    run = await templates.run("nightly")
    await queue.fail((await queue.claim())[0])
    assert await queue.states(*run.task_ids) == ["failed", "skipped"]


async def test_a_template_that_nobody_made_cannot_run(templates: Templates) -> None:
    with pytest.raises(UnknownTemplateError, match="nothing"):
        await templates.run("nothing")
