"""Every call of the durable queue's REST surface, on a real server with a real queue."""

import asyncio
import re
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api import schemas
from dsa110_contimg.api.app import create_app
from dsa110_contimg.api.authorization import declared_scope, writing_routes
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.queue_schemas import monitoring, tasks
from fixtures.live_api import Caller, QueueServer
from fixtures.queue_bench import QUEUE

pytest_plugins = ["fixtures.queue_database", "fixtures.queue_api"]

BASES = ("/absurd", "/api/absurd", "/api/v1/absurd")
ROOT = Path(__file__).resolve().parents[2]

#: Every read: its path in OpenAPI, an address that reaches it, and the schema of its reply.
READS: list[tuple[str, str, Any]] = [
    ("/tasks", "/tasks?limit=10", tasks.TaskList),
    ("/tasks/{task_id}", "/tasks/{task}", tasks.TaskView),
    ("/queues", "/queues", list[str] | monitoring.QueueNames),
    ("/queues/stats", "/queues/stats", list[monitoring.QueueStatsView]),
    ("/queues/{name}/stats", f"/queues/{QUEUE}/stats", monitoring.QueueStatsView),
    ("/health", "/health", monitoring.QueueHealth),
    ("/health/detailed", "/health/detailed", monitoring.DetailedHealth),
    ("/workers", "/workers", monitoring.WorkerList),
    ("/workers/metrics", "/workers/metrics", monitoring.WorkerMetrics),
    ("/workers/{worker_id}", "/workers/w", monitoring.WorkerView),
    ("/metrics", "/metrics", monitoring.TaskMetrics),
    ("/metrics/prometheus", "/metrics/prometheus", None),
    ("/metrics/history", f"/metrics/history?queue_name={QUEUE}&hours=1&resolution=5m", monitoring.History),
    ("/status", "/status", monitoring.PipelineStatus),
    ("/pipeline/status", "/pipeline/status", monitoring.PipelineStatus),
    ("/templates", "/templates", tasks.TemplateList),
    ("/templates/{name}", "/templates/nightly", tasks.TemplateView),
    ("/schedules", "/schedules", tasks.ScheduleList),
    ("/scheduled", "/scheduled", tasks.ScheduleList),
    ("/schedules/{name}", "/schedules/hourly", tasks.ScheduleView),
    ("/workflows", "/workflows", tasks.WorkflowList),
    ("/workflows/{workflow_id}", "/workflows/{workflow}", tasks.WorkflowView),
    ("/workflows/{workflow_id}/dag", "/workflows/{workflow}/dag", tasks.WorkflowDag),
    ("/workflows/{workflow_id}/ready", "/workflows/{workflow}/ready", tasks.ReadyTasks),
    ("/dlq", "/dlq", tasks.DeadLetterList),
    ("/dlq/{task_id}", "/dlq/{dead}", tasks.DeadLetter),
]

TEMPLATE = {"name": "nightly", "steps": [{"task_name": "one", "params": {"a": 1}}, {"task_name": "two"}]}
SCHEDULE = {"name": "hourly", "task_name": "health-check", "cron_expression": "15 * * * *", "params": {"deep": True}}


async def spawn(calls: Caller, name: str = "small", **more: Any) -> str:
    return str((await calls.write("POST", "/tasks", {"queue_name": QUEUE, "task_name": name, **more}))["task_id"])


async def fill(calls: Caller) -> dict[str, str]:
    """Make one of everything and return their ids."""
    dead = await spawn(calls, "broken", params={"path": "wrong"})
    (claimed,) = await calls.bench.claim()
    await calls.bench.fail(claimed, retryable=False)
    workflow = (await calls.write("POST", "/workflows", {"name": "observation", "description": "a test"}))[
        "workflow_id"
    ]
    first = await spawn(calls, "first", workflow_id=workflow)
    with_deps = {"queue_name": QUEUE, "task_name": "second", "depends_on": [first], "workflow_id": workflow}
    await calls.write("POST", "/tasks/with-deps", with_deps)
    await calls.write("POST", "/templates", TEMPLATE)
    await calls.operate("POST", "/schedules", SCHEDULE)
    return {"task": first, "workflow": workflow, "dead": dead}


# --- the contract ---------------------------------------------------------------------------------------------------


async def test_every_read_answers_at_every_base_by_its_schema(calls: Caller) -> None:
    names = await fill(calls)
    for base in BASES:
        for _, address, schema in READS:
            reply = await calls.ask("GET", address.format(**names), base=base)
            assert reply.status_code == 200, (address, reply.text)
            if schema is not None:
                TypeAdapter(schema).validate_json(reply.content)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The application, to be looked at."""
    return create_app(APIConfig.from_env({"DSA110_STATE_DIR": str(tmp_path_factory.mktemp("app"))}), AbsurdConfig())


def test_the_table_of_reads_holds_every_declared_one(app: FastAPI) -> None:
    paths, prefix = app.openapi()["paths"], "/api/v1/absurd"
    declared = {path.removeprefix(prefix) for path, methods in paths.items() if prefix in path and "get" in methods}
    assert declared == {path for path, _, _ in READS}


async def test_queues_are_an_array_and_at_the_earlier_clients_base_an_object(calls: Caller) -> None:
    await spawn(calls)
    assert [await calls.json("/queues", base) for base in BASES] == [[QUEUE], {"queues": [QUEUE]}, [QUEUE]]


async def test_a_workflow_shows_counts_and_at_the_earlier_clients_base_its_tasks(calls: Caller) -> None:
    names = await fill(calls)
    old, new = [await calls.json(f"/workflows/{names['workflow']}", base) for base in BASES[1:]]
    assert new["tasks"] == new["counts"] == old["counts"]
    assert old["tasks"] == new["task_list"] == old["task_list"]
    assert [task["task_name"] for task in old["tasks"]] == ["first", "second"]
    assert new["tasks"] | {"total": 2, "pending": 1, "blocked": 1} == new["tasks"]
    assert new["dag_edges"] == [[names["task"], new["task_list"][1]["task_id"]]]
    assert (new["name"], new["description"], new["status"], new["progress"]) == ("observation", "a test", "pending", 0)


# --- tasks ------------------------------------------------------------------------------------------------------------


async def test_a_spawned_task_is_in_the_queue_as_it_was_described(calls: Caller) -> None:
    body = {"queue_name": "other", "task_name": "imaging", "params": {"cell": 3.6, "name": "Ω"}, "priority": 7,
            "timeout_sec": 12.5, "max_retries": 2}  # fmt: skip
    task_id = (await calls.write("POST", "/tasks", body))["task_id"]
    task = await calls.json(f"/tasks/{task_id}")
    assert {key: task[key] for key in ("queue_name", "task_name", "params", "priority")} == {
        key: body[key] for key in ("queue_name", "task_name", "params", "priority")
    }
    assert (task["status"], task["retry_count"], task["created_at"][-1]) == ("pending", 0, "Z")
    row = await calls.bench.connection.fetchrow(
        "select timeout_s, max_attempts from absurd.task where task_id = $1", uuid.UUID(task_id)
    )
    assert tuple(row) == (12.5, 3)


async def test_the_earlier_clients_spawn_does_the_same(calls: Caller) -> None:
    task_id = (await calls.write("POST", "/spawn", {"queue_name": QUEUE, "task_name": "small"}))["task_id"]
    assert (await calls.json(f"/tasks/{task_id}"))["task_name"] == "small"


async def test_a_task_may_wait_for_its_time(calls: Caller) -> None:
    await spawn(calls, run_at="2026-01-01T00:00:00+23:59")
    task_id = await spawn(calls, run_at="2126-01-01T00:00:00")
    assert (await calls.json(f"/tasks/{task_id}"))["status"] == "scheduled"
    assert (await calls.json("/tasks?status=scheduled"))["total"] == 1


async def test_the_same_idempotency_key_gives_the_same_task_and_is_refused_for_another(calls: Caller) -> None:
    body = {"queue_name": QUEUE, "task_name": "small", "params": {"a": 1}}
    first = await calls.write("POST", "/tasks", body, Idempotency_Key="night-7")
    assert await calls.write("POST", "/tasks", body, Idempotency_Key="night-7") == first
    assert await calls.write("POST", "/tasks", body | {"idempotency_key": "night-7"}) == first
    refused = await calls.refused(409, "POST", "/tasks", body | {"idempotency_key": "night-7", "params": {"a": 2}})
    assert refused["details"] == first
    other = await calls.ask(
        "POST", "/tasks", body | {"params": {"a": 2}}, scope="write:jobs", Idempotency_Key="night-7"
    )
    assert (other.status_code, other.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert (await calls.json("/tasks"))["total"] == 1


async def test_every_call_that_makes_work_can_be_sent_again(calls: Caller) -> None:
    """Also when its reply was lost before it was kept: what was made has the ids that follow from the request."""
    steps = [{"task_name": "small", "params": {}}, {"task_name": "second", "params": {}}]
    await calls.write("POST", "/templates", {"name": "again", "queue_name": QUEUE, "steps": steps})
    await calls.operate("POST", "/schedules", SCHEDULE | {"queue_name": QUEUE})
    asked = (
        ("/templates/again/run", {}, "write:jobs"), ("/workflows", {"name": "w"}, "write:jobs"),
        ("/schedules/hourly/trigger", None, "ops"),
    )  # fmt: skip
    for path, body, scope in asked:
        first = await calls.ask("POST", path, body, scope=scope, Idempotency_Key=path)
        again = await calls.ask("POST", path, body, scope=scope, Idempotency_Key=path)
        assert (first.status_code, again.content) == (200, first.content), first.text
        assert again.headers["Idempotency-Replayed"] == "true"
        async with open_database(calls.server.config.database, calls.server.config.timeouts) as adapter:
            await adapter.execute("UPDATE idempotency_keys SET status = NULL, reply = ''")
        made_again = await calls.ask("POST", path, body, scope=scope, Idempotency_Key=path)
        assert "Idempotency-Replayed" not in made_again.headers
        assert made_again.content == first.content
    names = [task["task_name"] for task in (await calls.json("/tasks"))["tasks"]]
    assert names == ["health-check", "second", "small"]
    assert (await calls.json("/workflows"))["total"] == 2


async def test_tasks_are_listed_page_by_page_newest_first_without_gap_or_repetition(calls: Caller) -> None:
    made = [await spawn(calls) for _ in range(5)]
    seen: list[str] = []
    after = ""
    while after is not None and len(seen) < 20:
        page = await calls.json(f"/tasks?limit=2{after and f'&after={after}'}")
        seen += [task["task_id"] for task in page["tasks"]]
        await spawn(calls, "later")  # what comes meanwhile belongs to the beginning of the list
        after = page["next_after"]
    assert seen == made[::-1]


async def test_tasks_are_found_by_queue_status_name_and_workflow(calls: Caller) -> None:
    names = await fill(calls)
    found = {
        query: [task["task_name"] for task in (await calls.json(f"/tasks?{query}"))["tasks"]]
        for query in ("status=failed", "task_name=second", f"workflow_id={names['workflow']}", "queue_name=none")
    }
    assert list(found.values()) == [["broken"], ["second"], ["second", "first"], []]


async def test_lists_are_bounded(calls: Caller) -> None:
    limits = [f"limit={limit}" for limit in ("0", "-1", "1001", "1000000000000", "x")]
    others = ["after=x", "queue_name=", "queue_name=%00"]
    addresses = [f"{path}?{query}" for path in ("/tasks", "/dlq", "/workflows") for query in limits]
    addresses += [f"/tasks?{query}" for query in (*others, "status=odd")] + [f"/dlq?{query}" for query in others]
    for address in addresses:
        reply = await calls.ask("GET", address)
        assert reply.status_code == 422, address
        schemas.ErrorBody.model_validate_json(reply.content)
    assert (await calls.ask("GET", "/dlq?status=failed")).status_code == 400  # it has no such parameter


async def test_a_task_is_cancelled_before_and_while_it_runs_and_not_after(calls: Caller) -> None:
    waiting = await spawn(calls)
    assert waiting in (await calls.write("DELETE", f"/tasks/{waiting}"))["message"]
    assert (await calls.json(f"/tasks/{waiting}"))["status"] == "cancelled"
    refused = await calls.refused(409, "DELETE", f"/tasks/{waiting}")
    assert (refused["error"], refused["details"]) == ("INVALID_STATE", {"status": "cancelled"})
    running = await spawn(calls)
    await calls.bench.claim()
    await calls.write("DELETE", f"/tasks/{running}")
    assert await calls.bench.sql("select cancel from absurd.lease where task_id = $1", uuid.UUID(running))


async def test_a_failed_task_runs_again_and_a_waiting_one_does_not(calls: Caller) -> None:
    names = await fill(calls)
    await calls.write("POST", f"/tasks/{names['dead']}/retry")
    assert (await calls.json(f"/tasks/{names['dead']}"))["status"] == "pending"
    refused = await calls.refused(409, "POST", f"/tasks/{names['dead']}/retry")
    assert "it is pending" in refused["message"]


async def test_what_is_not_there_is_not_found(calls: Caller) -> None:
    absent = [
        ("GET", "/tasks/{id}", "read"), ("DELETE", "/tasks/{id}", "write:jobs"),
        ("POST", "/tasks/{id}/retry", "write:jobs"), ("GET", "/workflows/{id}", "read"),
        ("GET", "/workflows/{id}/dag", "read"), ("GET", "/workflows/{id}/ready", "read"),
        ("DELETE", "/workflows/{id}", "write:jobs"), ("POST", "/workflows/{id}/retry", "write:jobs"),
        ("GET", "/dlq/{id}", "read"), ("DELETE", "/dlq/{id}", "ops"), ("POST", "/dlq/{id}/replay", "write:jobs"),
        ("GET", "/templates/none", "read"), ("DELETE", "/templates/none", "write:jobs"),
        ("POST", "/templates/none/run", "write:jobs"), ("GET", "/schedules/none", "read"),
        ("DELETE", "/schedules/none", "ops"), ("POST", "/schedules/none/trigger", "ops"),
        ("GET", "/workers/none", "read"), ("POST", "/workers/none/heartbeat", "worker"),
        ("POST", "/workers/none/drain", "ops"),
    ]  # fmt: skip
    for method, path, scope in absent:
        body = await calls.refused(404, method, path.format(id=uuid.uuid4()), scope=scope)
        assert schemas.ErrorBody.model_validate(body).error == "NOT_FOUND"


async def test_what_cannot_be_is_refused_and_nothing_is_spawned(calls: Caller) -> None:
    wrong: list[tuple[str, dict[str, Any], int]] = [
        ("/tasks", {}, 422),
        ("/tasks", {"task_name": ""}, 422),
        ("/tasks", {"task_name": "a\u0000"}, 422),
        ("/tasks", {"task_name": "a", "params": [1]}, 422),
        ("/tasks", {"task_name": "a", "priority": 10**12}, 422),
        ("/tasks", {"task_name": "a", "timeout_sec": 0}, 422),
        ("/tasks", {"task_name": "a", "prio": 3}, 422),
        ("/tasks", {"task_name": "a", "run_at": "tomorrow"}, 422),
        ("/tasks", {"task_name": "a", "run_at": "0001-01-01T00:00:00+14:00"}, 422),
        ("/tasks", {"task_name": "a", "depends_on": ["x"]}, 422),
        ("/tasks", {"task_name": "a", "depends_on": [str(uuid.uuid4())]}, 400),
        ("/tasks", {"task_name": "a", "workflow_id": str(uuid.uuid4())}, 404),
        ("/templates", {"name": "t", "steps": []}, 422),
        ("/templates", {"name": "a/b", "steps": [{"task_name": "x"}]}, 422),
        ("/workflows", {"name": "x" * 201}, 422),
    ]
    for path, body, status in wrong:
        schemas.ErrorBody.model_validate(await calls.refused(status, "POST", path, body))
    assert (await calls.json("/tasks"))["total"] == 0


async def test_characters_that_postgresql_cannot_keep_in_parameters_do_no_harm(calls: Caller) -> None:
    task_id = await spawn(calls, params={"text": "a\u0000b", "\u0000": 1}, headers={"\u0000": "\u0000"})
    assert (await calls.json(f"/tasks/{task_id}"))["params"] == {"text": "ab", "": 1}


# --- queues -----------------------------------------------------------------------------------------------------------


async def test_queues_count_their_tasks_by_state(calls: Caller) -> None:
    await fill(calls)
    (stats,) = await calls.json("/queues/stats")
    assert stats == await calls.json(f"/queues/{QUEUE}/stats")
    assert {key: stats[key] for key in ("pending", "blocked", "failed", "total")} == {
        "pending": 1, "blocked": 1, "failed": 1, "total": 3,
    }  # fmt: skip
    assert (await calls.json("/queues/none/stats"))["total"] == 0


async def test_a_paused_queue_gives_no_tasks_until_it_goes_on(calls: Caller) -> None:
    await spawn(calls)
    await calls.operate("POST", f"/queues/{QUEUE}/pause")
    assert await calls.bench.claim() == []
    await calls.operate("POST", f"/queues/{QUEUE}/resume")
    assert len(await calls.bench.claim()) == 1


async def test_limits_of_a_queue_are_kept(calls: Caller) -> None:
    await calls.operate("PUT", f"/queues/{QUEUE}/limits", {"rate_per_s": 2, "burst": 3, "ageing_s": 60})
    row = await calls.bench.connection.fetchrow("select rate_per_s, burst, ageing_s from absurd.queue")
    assert tuple(row) == (2, 3, 60)
    await calls.operate("PUT", f"/queues/{QUEUE}/concurrency", {"key": "disk", "limit": 2})
    for _ in range(3):
        await spawn(calls, concurrency_key="disk")
    assert (await calls.json("/tasks?status=parked"))["total"] == 1


async def test_pruning_deletes_what_ended_long_ago_and_keeps_the_dead_letters(calls: Caller) -> None:
    names = await fill(calls)
    assert await calls.operate("POST", "/prune", {"retention_days": 7}) == {"pruned": 0}
    assert await calls.operate("POST", "/prune", {"retention_days": 0, "statuses": ["completed"]}) == {"pruned": 0}
    assert await calls.operate("POST", "/prune", {"retention_days": 0, "queue_name": QUEUE}) == {"pruned": 1}
    assert (await calls.ask("GET", f"/tasks/{names['dead']}")).status_code == 404
    assert (await calls.json(f"/dlq/{names['dead']}"))["pruned"]


# --- workflows --------------------------------------------------------------------------------------------------------


async def test_a_workflow_grows_runs_and_ends(calls: Caller) -> None:
    names = await fill(calls)
    workflow = f"/workflows/{names['workflow']}"
    dag = await calls.json(f"{workflow}/dag")
    assert (dag["total_depth"], dag["root_tasks"]) == (1, [names["task"]])
    assert [(node["task_name"], node["depth"]) for node in dag["nodes"]] == [("first", 0), ("second", 1)]
    assert dag["nodes"][0]["dependents"] == dag["leaf_tasks"] == [dag["nodes"][1]["task_id"]]
    assert await calls.json(f"{workflow}/ready") | {"count": 1, "ready_tasks": [names["task"]]} == await calls.json(
        f"{workflow}/ready"
    )
    for progress in (50.0, 100.0):
        (claimed,) = await calls.bench.claim()
        await calls.bench.complete(claimed, {"n": 1})
        assert (await calls.json(workflow))["progress"] == progress
    told = await calls.json(workflow)
    assert told["status"] == "completed" and told["completed_at"] >= told["started_at"]
    (item,) = (await calls.json("/workflows?status=completed"))["workflows"]
    assert (item["task_count"], item["completed_tasks"], item["failed_tasks"]) == (2, 2, 0)
    assert (await calls.json("/workflows?status=running"))["workflows"] == []


async def test_a_workflow_is_cancelled_and_started_again(calls: Caller) -> None:
    workflow = f"/workflows/{(await fill(calls))['workflow']}"
    assert (await calls.write("DELETE", workflow))["tasks"] == 2
    assert (await calls.json(workflow))["status"] == "cancelled"
    assert (await calls.write("POST", f"{workflow}/retry"))["tasks"] >= 1
    assert (await calls.json(workflow))["status"] == "pending"


async def test_workflows_are_listed_page_by_page(calls: Caller) -> None:
    made = [(await calls.write("POST", "/workflows", {"name": f"w{n}"}))["workflow_id"] for n in range(3)]
    first = await calls.json("/workflows?limit=2")
    second = await calls.json(f"/workflows?limit=2&after={first['next_after']}")
    assert [item["workflow_id"] for page in (first, second) for item in page["workflows"]] == made[::-1]
    assert second["next_after"] is None


# --- templates, schedules, dead letters -------------------------------------------------------------------------------


async def test_a_template_is_kept_changed_run_and_deleted(calls: Caller) -> None:
    made = await calls.write("POST", "/templates", TEMPLATE)
    assert (made["name"], made["queue_name"], len(made["steps"])) == ("nightly", QUEUE, 2)
    assert (await calls.refused(409, "POST", "/templates", TEMPLATE))["error"] == "RECORD_ALREADY_EXISTS"
    changed = await calls.write("PUT", "/templates/nightly", made | {"description": "every night"})
    assert (changed["description"], changed["steps"]) == ("every night", made["steps"])
    assert (await calls.refused(400, "PUT", "/templates/nightly", made | {"name": "daily"}))[
        "error"
    ] == "VALIDATION_ERROR"
    ran = await calls.write("POST", "/templates/nightly/run", {"b": 2})
    one, two = [await calls.json(f"/tasks/{task_id}") for task_id in ran["task_ids"]]
    assert (one["task_name"], one["params"], one["status"]) == ("one", {"a": 1, "b": 2}, "pending")
    assert (two["task_name"], two["params"], two["status"]) == (
        "two",
        {"b": 2},
        "blocked",
    )  # in order, one after the other
    await calls.write("DELETE", "/templates/nightly")
    assert await calls.json("/templates") == {"templates": [], "total": 0}


@pytest.mark.parametrize(
    ("method", "path", "change"),
    [
        ("PUT", "/templates/nightly", TEMPLATE | {"description": "mine"}),
        ("PATCH", "/schedules/hourly", {"description": "mine"}),
        ("PATCH", "/dlq/{dead}", {"params": {"path": "mine"}}),
    ],
)
async def test_an_edit_of_what_somebody_else_has_changed_is_refused(
    calls: Caller, method: str, path: str, change: dict[str, Any]
) -> None:
    path = path.format(**await fill(calls))
    scope = "ops" if "schedules" in path else "write:jobs"
    read = (await calls.ask("GET", path)).headers["etag"]
    for if_match, status in (('"other", ' + read, 200), (read, 412), (f"W/{read}", 412), ("*", 200)):
        reply = await calls.ask(method, path, change, scope=scope, **{"If-Match": if_match})
        assert reply.status_code == status, (if_match, reply.text)


@pytest.mark.parametrize(
    ("method", "path", "change", "theirs"),
    [
        (
            "PUT",
            "/templates/nightly",
            TEMPLATE | {"description": "mine"},
            "update absurd.template set description = 'theirs'",
        ),
        ("PATCH", "/schedules/hourly", {"description": "mine"}, "update absurd.cron set task_name = 'theirs'"),
        (
            "PATCH",
            "/dlq/{dead}",
            {"params": {"path": "mine"}},
            'update absurd.dead set params = \'{"path": "theirs"}\'',
        ),
    ],
)
async def test_who_edits_between_the_look_and_the_edit_of_another_is_not_overwritten(
    calls: Caller, method: str, path: str, change: dict[str, Any], theirs: str
) -> None:
    path = path.format(**await fill(calls))
    scope = "ops" if "schedules" in path else "write:jobs"
    read = (await calls.ask("GET", path)).headers["etag"]

    async def waits() -> bool:
        return bool(
            await calls.bench.sql(
                "select bool_or(wait_event_type = 'Lock') from pg_stat_activity where datname = current_database()"
            )
        )

    async with calls.bench.session() as session:
        async with session.transaction():
            await session.execute(theirs)
            mine = asyncio.create_task(calls.ask(method, path, change, scope=scope, **{"If-Match": read}))
            await calls.bench.until(waits)  # it has looked, and stands at the row
        assert (await mine).status_code == 412, (await mine).text
    assert "mine" not in (await calls.ask("GET", path)).text
    free = await calls.ask(method, path, change, scope=scope)
    assert (free.status_code, "mine" in free.text) == (200, True)


async def test_a_schedule_is_made_changed_fired_and_deleted(calls: Caller) -> None:
    made = await calls.operate("POST", "/scheduled", SCHEDULE)
    assert re.fullmatch(r".*:15:00Z", made["next_run_at"])
    assert (await calls.refused(409, "POST", "/schedules", SCHEDULE, "ops"))["error"] == "RECORD_ALREADY_EXISTS"
    assert await calls.refused(
        400, "POST", "/schedules", SCHEDULE | {"name": "x", "cron_expression": "61 * * * *"}, "ops"
    )
    assert await calls.refused(400, "POST", "/schedules", SCHEDULE | {"name": "x", "timezone": "Mars/Olympus"}, "ops")
    told = await calls.json("/schedules/hourly")
    assert (told["state"], told["timezone"], told["max_retries"]) == ("active", "UTC", 3)
    changed = await calls.operate("PATCH", "/schedules/hourly", {"state": "paused", "cron_expression": "0 3 * * *"})
    assert (changed["state"], changed["next_run_at"], changed["params"]) == ("paused", None, {"deep": True})
    nothing = dict.fromkeys(("params", "state", "priority", "timezone", "cron_expression", "description"))
    assert await calls.operate("PATCH", "/schedules/hourly", nothing) == changed | {
        "updated_at": (await calls.json("/schedules/hourly"))["updated_at"]
    }
    assert (await calls.json("/schedules?state=active"))["schedules"] == []
    fired = await calls.operate("POST", "/schedules/hourly/trigger")
    assert (await calls.json(f"/tasks/{fired['task_id']}"))["params"] == {"deep": True}
    await calls.operate("DELETE", "/schedules/hourly")
    assert (await calls.json("/schedules"))["total"] == 0


async def test_a_dead_letter_is_looked_at_mended_and_run_again(calls: Caller) -> None:
    dead = (await fill(calls))["dead"]
    (letter,) = (await calls.json(f"/dlq?queue_name={QUEUE}&reason=error"))["tasks"]
    assert (letter["task_id"], letter["task_name"], letter["retry_count"], letter["status"]) == (
        dead,
        "broken",
        1,
        "failed",
    )
    assert letter["error"] == "E: m" and letter["error_detail"]["type"] == "E"
    edited = await calls.write("PATCH", f"/dlq/{dead}", {"params": {"path": "right"}})
    assert edited["params"] == {"path": "right"}
    await calls.write("POST", f"/dlq/{dead}/replay")
    task = await calls.json(f"/tasks/{dead}")
    assert (task["status"], task["params"]) == ("pending", {"path": "right"})
    assert (await calls.json("/dlq"))["tasks"] == []


async def test_dead_letters_are_replayed_and_deleted_in_crowds(calls: Caller) -> None:
    for name in ("a", "a", "b"):
        await spawn(calls, name)
    for claimed in await calls.bench.claim(3):
        await calls.bench.fail(claimed, retryable=False)
    assert await calls.write("POST", "/dlq/replay", {"task_name": "a", "limit": 1}) == {"replayed": 1}
    assert await calls.write("POST", "/dlq/replay", {"task_name": "a"}) == {"replayed": 1}
    (left,) = (await calls.json("/dlq"))["tasks"]
    assert await calls.operate("DELETE", "/dlq?older_than_days=1") == {"purged": 0}
    assert await calls.operate("DELETE", f"/dlq?queue_name={QUEUE}") == {"purged": 1}
    assert (await calls.json(f"/tasks/{left['task_id']}"))["status"] == "failed"


# --- workers and figures ----------------------------------------------------------------------------------------------


async def test_a_worker_shows_what_it_runs(calls: Caller) -> None:
    task_id = await spawn(calls)
    await calls.bench.claim(worker="host-1")
    worker = await calls.json("/workers/host-1")
    assert (worker["state"], worker["task_count"], worker["current_task_id"]) == ("active", 1, task_id)
    assert (worker["queues"], worker["host"]) == ([QUEUE], "here")
    told = await calls.json("/workers")
    assert {key: told[key] for key in ("total", "active", "idle", "stale", "crashed")} == {
        "total": 1, "active": 1, "idle": 0, "stale": 0, "crashed": 0,
    }  # fmt: skip
    assert (await calls.json("/workers/metrics"))["avg_tasks_per_worker"] == 1.0


async def test_a_beat_over_the_api_is_a_beat_and_takes_no_task_away(calls: Caller) -> None:
    await spawn(calls)
    await calls.bench.claim(worker="host-1")
    await calls.bench.sql("update absurd.worker set beat_at = beat_at - interval '100 s'")
    assert (await calls.json("/workers/host-1"))["state"] == "stale"
    told = await calls.done("POST", f"/workers/host-1/heartbeat?task_id={uuid.uuid4()}", scope="worker")
    assert told == {"status": "ok", "worker_id": "host-1"}
    worker = await calls.json("/workers/host-1")
    assert (worker["state"], worker["task_count"]) == ("active", 1)


async def test_the_registry_of_workers_is_that_of_the_database_not_of_a_process(calls: Caller) -> None:
    """The earlier registry lived in one API process's memory and knew only who had called that one."""
    await calls.bench.claim(worker="never-spoke-to-the-api")
    assert [worker["worker_id"] for worker in (await calls.json("/workers"))["workers"]] == ["never-spoke-to-the-api"]


async def test_a_worker_is_told_to_drain(calls: Caller) -> None:
    await calls.bench.claim(worker="host-1")
    await calls.operate("POST", "/workers/host-1/drain")
    verdicts = await calls.bench.connection.fetch("select verdict from absurd.heartbeat('host-1', '{}', 10)")
    assert [row["verdict"] for row in verdicts] == ["drain"]


async def test_figures_follow_what_happened(calls: Caller) -> None:
    """The earlier figures were those of a new process: throughput 0 and success 100 % for ever."""
    names = await fill(calls)
    (claimed,) = await calls.bench.claim()
    await calls.bench.complete(claimed)
    told = await calls.json(f"/metrics?queue_name={QUEUE}")
    assert (told["total_spawned"], told["total_completed"], told["total_failed"]) == (3, 1, 1)
    assert (told["current_pending"], told["current_claimed"]) == (1, 0)
    assert told["success_rate_15min"] == told["error_rate_15min"] == 0.5
    assert told["throughput_15min"] > 0
    assert (await calls.json("/metrics?queue_name=none"))["total_spawned"] == 0
    status = await calls.json("/status")
    assert status["stages"]["broken"]["failed"] == status["stages"]["first"]["completed"] == 1
    assert status["total"] == {"pending": 1, "running": 0, "completed": 1, "failed": 1}
    assert names


async def test_the_history_is_that_of_the_stored_statistics_and_never_invented(calls: Caller) -> None:
    """The earlier history was random numbers, after any error and always."""
    empty = await calls.json("/metrics/history?hours=1&resolution=5m")
    assert set(empty["series"]["throughput"]) == {0.0}
    assert set(empty["series"]["success_rate"]) == set(empty["series"]["p95_latency"]) == {None}
    await fill(calls)
    (claimed,) = await calls.bench.claim()
    await calls.bench.complete(claimed)
    told = await calls.json("/metrics/history?hours=1&resolution=5m")
    assert len(told["timestamps"]) == len(told["series"]["throughput"]) == len(empty["timestamps"])
    assert told["timestamps"][-1].endswith("Z")
    assert [rate for rate in told["series"]["success_rate"] if rate is not None] == [50.0]
    assert told == await calls.json("/metrics/history?hours=1&resolution=5m") | {"series": told["series"]}


async def test_a_history_that_is_not_kept_is_refused(calls: Caller) -> None:
    for query in ("hours=0", "hours=169", "resolution=1m", "hours=x"):
        assert (await calls.ask("GET", f"/metrics/history?{query}")).status_code == 422


async def test_prometheus_reads_the_figures(calls: Caller) -> None:
    await spawn(calls)
    reply = await calls.ask("GET", "/metrics/prometheus", base="/api/absurd")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert re.search(r"^absurd_queue_depth(\{.*\})? 1(\.0)?$", reply.text, re.MULTILINE)


async def test_health_asks_the_database_and_tells_who_is_missing(calls: Caller) -> None:
    """The earlier one said healthy without asking anybody."""
    plain, detailed = await calls.json("/health"), await calls.json("/health/detailed")
    assert (plain["status"], plain["queue"], plain["database_available"]) == ("healthy", QUEUE, True)
    assert (detailed["status"], detailed["worker_pool_healthy"]) == ("critical", False)
    assert plain["alerts"][0]["message"] == detailed["alerts"][0]["message"] == "there is no worker"
    await calls.bench.claim()
    assert (await calls.json("/health/detailed"))["worker_pool_healthy"]


async def test_health_does_not_wait_for_a_database_that_hangs(calls: Caller) -> None:
    await calls.json("/health")
    holder = await asyncpg.connect(calls.bench.url)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE absurd.task IN ACCESS EXCLUSIVE MODE")
            told = await calls.json("/health")
    finally:
        await holder.close()
    assert (told["status"], told["database_available"]) == ("error", False)
    assert "within 2 s" in told["message"]
    assert (await calls.json("/health"))["status"] == "healthy"


# --- who may change what ----------------------------------------------------------------------------------------------


def declared(app: FastAPI) -> dict[tuple[str, str], str]:
    """Return the scope of each call of the queue that changes something."""
    return {
        (method, str(route.path)): str(declared_scope(route))
        for method, route in writing_routes(app)
        if "/absurd/" in str(route.path)
    }


def test_the_scopes_are_those_of_the_page_about_them(app: FastAPI) -> None:
    page = (ROOT / "docs" / "reference" / "security.md").read_text()
    found = re.findall(r"^\| (\w+) `(/\S+)` \| `(\S+)` \|$", page, re.MULTILINE)
    every = {(method, str(route.path)): str(declared_scope(route)) for method, route in writing_routes(app)}
    assert {(method, f"/api/v1{path}"): scope for method, path, scope in found} == every
    assert len(set(found)) == len(found)


def test_the_description_says_which_calls_need_a_key(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    for path, calls in paths.items():
        for method, told in calls.items():
            assert bool(told.get("security")) == (method != "get"), (method, path)
    assert set(app.openapi()["components"]["securitySchemes"]) == {"APIKeyHeader", "HTTPBearer"}


async def test_no_route_changes_anything_without_a_key_or_with_one_of_another_scope(
    calls: Caller, app: FastAPI
) -> None:
    filled = {"task_id": str(uuid.uuid4()), "workflow_id": str(uuid.uuid4()), "name": "none", "worker_id": "none"}
    for (method, path), scope in declared(app).items():
        address = path.format(**filled)
        assert (await calls.ask(method, "", base=address)).status_code == 401, (method, path)
        wrong = {"write:jobs": "ops", "ops": "write:jobs", "worker": "admin"}[scope]
        for other in (wrong, "read"):
            assert (await calls.ask(method, "", base=address, scope=other)).status_code == 403, (method, path)
    assert await calls.bench.sql("select count(*) from absurd.task") == 0


async def test_reads_need_no_key(calls: Caller) -> None:
    """The later routes of the earlier backend wanted write access for every read."""
    names = await fill(calls)
    for _, address, _ in READS[1:3]:
        assert (await calls.ask("GET", address.format(**names))).status_code == 200


async def test_every_write_is_in_the_record(calls: Caller, queue_server: QueueServer) -> None:
    task_id = await spawn(calls)
    await calls.refused(404, "DELETE", f"/tasks/{uuid.uuid4()}")
    second, first = (await queue_server.audit())[:2]
    assert (first.actor, first.action, first.scope, first.status) == (
        "key for write:jobs", "POST spawn_task", "write:jobs", 200,
    )  # fmt: skip
    assert first.path == "/api/v1/absurd/tasks"
    assert (second.status, second.client_ip) == (404, "127.0.0.1")
    assert task_id
