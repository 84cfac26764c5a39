"""What the queue's statements cost: the plan of the claim, whatever else is in the queue."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fixtures.queue_bench import QUEUE, Bench, open_bench

pytest_plugins = ["fixtures.queue_database"]


@pytest.fixture
async def queue(queue_database: str) -> AsyncIterator[Bench]:
    async with open_bench(queue_database) as bench:
        yield bench


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all nodes of a plan."""
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes_of(child))]


async def test_the_claim_is_one_index_scan_whatever_else_is_in_the_queue(queue: Bench) -> None:
    """The very statement of claim_ready, explained beside 10,000 finished, 10,000 later and 10,000 ready tasks."""
    await queue.connection.execute(
        """insert into absurd.task (task_id, queue, name, params, rank, max_attempts, has_children, created_at, outcome)
           select absurd.new_id(), $1, 'small', '{}', n % 5, 1, false, now(), case when n <= 10000 then 'completed' end
           from generate_series(1, 30000) n""",
        QUEUE,
    )
    await queue.connection.execute(
        """with open as (select *, row_number() over () as i from absurd.task where outcome is null),
           l as (insert into absurd.later
                  select now() + interval '1 day', task_id, 0, 0, 'retry' from open where i <= 10000)
           insert into absurd.ready select queue, rank, now(), task_id, name, 0, 0 from open where i > 10000"""
    )
    source = await queue.sql("select prosrc from pg_proc where oid = 'absurd.claim_ready'::regproc")
    select = source[source.index("select r.task_id") : source.index("for update skip locked") + 22]
    values = {
        "p_queue": f"'{QUEUE}'", "p_names": "array['small']", "p_limit": "10", "v_rank": "2",
        "v_at": "'-infinity'::timestamptz", "v_task": "null::uuid",
    }  # fmt: skip
    for name, value in values.items():
        select = select.replace(name, value)
    await queue.connection.execute(
        "set search_path = absurd; set enable_seqscan = off; set enable_bitmapscan = off"
    )  # as the function does
    [explained] = await queue.connection.fetch(f"explain (analyze, buffers, format json) {select}")
    await queue.connection.execute("reset all")
    nodes = nodes_of(json.loads(explained[0])[0]["Plan"])
    assert [node["Node Type"] for node in nodes] == ["Limit", "LockRows", "Index Scan"]
    assert nodes[-1]["Index Name"] == "ready_pkey"
    assert nodes[-1]["Shared Hit Blocks"] + nodes[-1]["Shared Read Blocks"] < 60
    config = await queue.sql("select proconfig from pg_proc where oid = 'absurd.claim_ready'::regproc")
    assert {"enable_seqscan=off", "enable_bitmapscan=off"} <= set(config)
