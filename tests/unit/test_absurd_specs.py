"""What is to be spawned: ids, descriptions of tasks, chains."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import RFC_4122

import pytest

from dsa110_contimg.absurd.adapter import Adapter
from dsa110_contimg.absurd.chains import (
    ALIASES,
    CHAINS,
    NOT_SERVED_HERE,
    Chain,
    Step,
    UnknownChainError,
    as_chain,
    chain_specs,
    find_chain,
)
from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.absurd.dependencies import DependencyCycleError
from dsa110_contimg.absurd.ids import new_id
from dsa110_contimg.absurd.specs import Dependency, SpecError, TaskSpec, in_order, node
from dsa110_contimg.absurd.workflows import FINISH, STAGES

CONFIG = AbsurdConfig(queue_name="q", task_timeout_sec=60.0, max_retries=2)


def test_ids_are_uuids_of_version_7_in_the_order_of_their_making() -> None:
    ids = [new_id() for _ in range(5000)]
    assert ids == sorted(set(ids))
    assert {(made.version, made.variant) for made in ids} == {(7, RFC_4122)}


def test_ids_do_not_run_ahead_of_the_clock_however_many_are_made() -> None:
    ids = [new_id() for _ in range(5000)]
    assert ids[-1].int >> 80 <= time.time() * 1000 + 1


def test_a_task_says_nothing_twice_and_the_configuration_fills_what_it_leaves_open() -> None:
    made = node(TaskSpec("imaging", {"a": 1}), CONFIG)
    assert made == {
        "task_id": made["task_id"], "queue": "q", "name": "imaging", "params": {"a": 1}, "priority": 0,
        "timeout_s": 60.0, "max_attempts": 3,
    }  # fmt: skip


def test_everything_a_task_says_reaches_the_queue() -> None:
    parent = new_id()
    at = datetime(2026, 11, 22, 3, tzinfo=UTC)
    spec = TaskSpec(
        "imaging", {"a": 1}, depends_on=(Dependency(parent, "done"),), priority=5, timeout_sec=9.0, max_retries=0,
        queue="other", backoff_base_sec=1.0, backoff_cap_sec=8.0, retry_on=["OSError"], dead_on=["ValueError"],
        max_crashes=1, run_at=at, idempotency_key="i", idempotency_ttl_sec=60.0, concurrency_key="c", fair_key="f",
        headers={"trace": "t"},
    )  # fmt: skip
    workflow = new_id()
    assert node(spec, CONFIG, workflow) == {
        "task_id": str(spec.task_id), "queue": "other", "name": "imaging", "params": {"a": 1}, "priority": 5,
        "timeout_s": 9.0, "max_attempts": 1, "max_crashes": 1, "workflow_id": str(workflow),
        "retry": {"base_s": 1.0, "cap_s": 8.0, "retry_on": ["OSError"], "dead_on": ["ValueError"]},
        "depends_on": [{"task_id": str(parent), "policy": "done"}], "run_at": "2026-11-22T03:00:00+00:00",
        "idempotency_key": "i", "idempotency_ttl_s": 60.0, "concurrency_key": "c", "fair_key": "f",
        "headers": {"trace": "t"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, "name"),
        ({"timeout_sec": 0}, "timeout_sec is 0"),
        ({"timeout_sec": float("nan")}, "timeout_sec is nan"),
        ({"max_retries": -1}, "max_retries is -1"),
        ({"run_at": datetime(2026, 1, 1)}, "without a time zone"),
    ],
)
def test_a_task_that_cannot_be_is_refused_where_it_is_described(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        TaskSpec(**{"name": "x", **fields})


@pytest.mark.parametrize(
    ("fields", "plain"),
    [
        ({}, True),
        ({"priority": 3, "headers": {}}, True),
        ({"depends_on": (new_id(),)}, False),
        ({"idempotency_key": "k"}, False),
        ({"concurrency_key": "k"}, False),
        ({"fair_key": "k"}, False),
        ({"run_at": datetime.now(UTC) + timedelta(hours=1)}, False),
    ],
)
def test_plain_are_tasks_for_which_nothing_has_to_be_looked_up(fields: dict[str, Any], plain: bool) -> None:
    assert TaskSpec("x", **fields).is_plain == plain


def test_tasks_are_sorted_behind_what_they_wait_for_and_circles_are_refused_by_name() -> None:
    a, b = new_id(), new_id()
    first, second = TaskSpec("first", task_id=a), TaskSpec("second", task_id=b, depends_on=(a,))
    assert in_order([second, first]) == [first, second]
    with pytest.raises(DependencyCycleError, match=r"first -> second -> first|second -> first -> second"):
        in_order([second, TaskSpec("first", task_id=a, depends_on=(b,))])


# --- chains ---------------------------------------------------------------------------------------------------------

EXPECTED = {
    "standard-pipeline": "catalog-setup convert-uvh5-to-ms calibration-solve calibration-apply imaging validation "
    "crossmatch photometry",
    "quick-imaging": "convert-uvh5-to-ms calibration-apply imaging",
    "calibrator": "catalog-setup convert-uvh5-to-ms calibration-solve",
    "target": "convert-uvh5-to-ms calibration-apply imaging validation photometry",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_named_chains_have_the_steps_of_the_contract(name: str) -> None:
    assert CHAINS[name].task_names == tuple(EXPECTED[name].split())


def test_older_names_of_chains_are_understood_and_unknown_ones_get_a_hint() -> None:
    assert {alias: find_chain(alias).name for alias in ALIASES} == {
        "calibrator-processing": "calibrator",
        "target-processing": "target",
    }
    with pytest.raises(UnknownChainError, match="did you mean standard-pipeline"):
        find_chain("standart-pipeline")
    with pytest.raises(UnknownChainError, match="there are calibrator, "):
        find_chain("xyz")


def test_the_chain_of_an_observation_is_what_is_spawned_for_one() -> None:
    assert CHAINS["observation"].task_names == (*STAGES, FINISH)


def test_it_is_said_of_every_step_that_no_worker_of_this_package_runs() -> None:
    handled = Adapter(recorder=None, code_version="").tasks().handlers()  # type: ignore[arg-type]
    unserved = {step for chain in CHAINS.values() for step in chain.unserved(handled)}
    assert unserved == set(NOT_SERVED_HERE)
    assert CHAINS["quick-imaging"].unserved(handled) == CHAINS["observation"].unserved(handled) == []


def test_each_step_of_a_chain_waits_for_all_before_it() -> None:
    specs = chain_specs(find_chain("quick-imaging"), {"a": 1})
    for place, spec in enumerate(specs):
        assert [d.task_id for d in spec.parents()] == [earlier.task_id for earlier in specs[:place]]


def test_parameters_of_a_step_lie_over_those_of_the_chain() -> None:
    chain = Chain("c", "", (Step("one", {"a": 2}, priority=7, timeout_sec=5), Step("two", policy="done")))
    one, two = chain_specs(
        chain, {"a": 1, "b": 1}, {"two": {"b": 3}}, priority=1, timeout_sec=9, queue="q", idempotency_key="k"
    )
    assert (one.params, one.priority, one.timeout_sec, one.queue) == ({"a": 2, "b": 1}, 7, 5, "q")
    assert (two.params, two.priority, two.timeout_sec) == ({"a": 1, "b": 3}, 1, 9)
    assert [d.policy for d in two.parents()] == ["done"]
    assert (one.idempotency_key, two.idempotency_key) == ("k 0 one", "k 1 two")


def test_parameters_for_a_step_that_the_chain_does_not_have_are_refused() -> None:
    with pytest.raises(UnknownChainError, match="no step 'flaging'"):
        chain_specs(find_chain("observation"), {}, {"flaging": {}})


def test_a_chain_can_be_given_by_its_steps() -> None:
    assert as_chain(["a", Step("b")]).task_names == ("a", "b")
    chain = find_chain("target")
    assert as_chain(chain) is chain
