"""The client for scripts: the same calls by the same names."""

import inspect
from collections.abc import Iterator

import pytest

from dsa110_contimg.absurd.blocking import BlockingClient
from dsa110_contimg.absurd.client import AbsurdClient, TaskSpec, UnknownTaskError
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.connection import QueueUnavailableError
from dsa110_contimg.absurd.ids import new_id

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
def client(queue_database: str) -> Iterator[BlockingClient]:
    with BlockingClient(AbsurdConfig(database_url=queue_database)) as made:
        yield made
        for task in made.list_tasks(limit=1000):
            made.cancel_task(task["task_id"])


def test_every_call_of_the_client_can_be_made_by_a_script() -> None:
    names = {name for name, call in inspect.getmembers(AbsurdClient) if not name.startswith("_") and callable(call)}
    assert names - {"node_of"} <= set(dir(BlockingClient))


def test_the_parameters_are_those_of_the_client() -> None:
    for name, _ in inspect.getmembers(AbsurdClient, inspect.iscoroutinefunction):
        if not name.startswith("_"):
            theirs, ours = (inspect.signature(getattr(c, name)).parameters for c in (AbsurdClient, BlockingClient))
            assert list(theirs) == list(ours), name


def test_a_script_spawns_looks_waits_and_cancels(client: BlockingClient) -> None:
    task = client.spawn("small", {"a": 1}, queue="scripts")
    found = client.get_task(task)
    assert found is not None
    assert (found["status"], found["params"]) == ("pending", {"a": 1})
    assert client.get_queue_stats("scripts")["pending"] == 1
    assert client.cancel_task(task)
    assert client.wait(task, 5)["status"] == "cancelled"
    with pytest.raises(UnknownTaskError):
        client.wait(new_id(), 5)


def test_a_script_follows_what_happens(client: BlockingClient) -> None:
    updates = client.listen()
    assert next(updates)["type"] == "listening"
    workflow = client.spawn_graph("w", [TaskSpec("small", queue="scripts")])
    update = next(updates)
    assert (update["workflow_id"], update["status"]) == (str(workflow), "pending")


def test_a_client_that_is_not_connected_says_so() -> None:
    with pytest.raises(ValueError, match=r"call connect\(\) first"):
        BlockingClient(AbsurdConfig()).spawn("small")


def test_a_server_that_does_not_answer_is_told_and_no_thread_is_left() -> None:
    client = BlockingClient(AbsurdConfig(database_url="postgresql://127.0.0.1:1/none"))
    with pytest.raises(QueueUnavailableError):
        client.connect()
    client.close()
    with pytest.raises(ValueError, match="not connected"):
        client.health()
