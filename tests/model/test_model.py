"""The queue against its model: whatever is done, in whatever order, both say and are the same after every step.

``python tests/model/walk.py`` walks at full size (200 seeds of 1 000 steps).
"""

import asyncio
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from model.twin import OPERATIONS, Operation, Twin, walk

pytest_plugins = ["fixtures.queue_database"]


class Bench:
    """A twin with the event loop that its connection lives in."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self.run = runner.run
        self.twin: Twin = runner.run(Twin.open(url))


@pytest.fixture(scope="module")
def bench(queue_database: str) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        bench = Bench(queue_database, runner)
        yield bench
        runner.run(bench.twin.reset())
        bench.twin.sql.terminate()


def machine(bench: Bench) -> type[RuleBasedStateMachine]:
    """Return a state machine with a rule for each operation."""

    def __init__(self: Any) -> None:
        RuleBasedStateMachine.__init__(self)
        self.twin = bench.run(bench.twin.reset())

    def as_rule(operation: Operation) -> Any:
        def step(self: Any, **arguments: int) -> None:
            bench.run(self.twin.do(operation.name, arguments))

        step.__name__ = operation.name
        return rule(**{name: st.integers(0, n - 1) for name, n in operation.ranges.items()})(step)

    rules = {operation.name: as_rule(operation) for operation in OPERATIONS}
    return type("Queue", (RuleBasedStateMachine,), {"__init__": __init__, **rules})


def explore(bench: Bench, examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(machine(bench), settings=chosen)


def walk_from(bench: Bench, walks: int, steps: int) -> None:
    first = int(os.environ.get("DSA110_TEST_SEED", random.randrange(2**31)))
    print(f"DSA110_TEST_SEED={first}")
    for seed in range(first, first + walks):
        result = bench.run(walk(bench.twin, seed, steps))
        assert result.error is None, f"seed {seed}, step {result.steps}: {result.error}\n" + "\n".join(result.trace)


def test_the_queue_agrees_with_its_model_on_what_hypothesis_tries(bench: Bench) -> None:
    explore(bench, examples=10, steps=30)


def test_the_queue_agrees_with_its_model_on_random_walks(bench: Bench) -> None:
    walk_from(bench, walks=4, steps=250)


@pytest.mark.slow
def test_the_queue_agrees_with_its_model_on_more_of_what_hypothesis_tries(bench: Bench) -> None:
    explore(bench, examples=60, steps=60)


@pytest.mark.slow
def test_the_queue_agrees_with_its_model_on_long_walks(bench: Bench) -> None:
    walk_from(bench, walks=5, steps=1000)
