"""Graphs of tasks: order, circles, depth, readiness."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.absurd.dependencies import (
    DependencyCycleError,
    depth,
    detect_cycles,
    get_ready_tasks,
    topological_sort,
)

#: Graphs without circles: a task depends on smaller numbers only; the keys come in any order.
dags = st.lists(st.sets(st.integers(0, 30), max_size=5), max_size=12).flatmap(
    lambda parents: st.permutations([(n, {p for p in some if p < n}) for n, some in enumerate(parents)]).map(dict)
)
#: Any graph of up to eight tasks.
graphs = st.dictionaries(st.integers(0, 7), st.sets(st.integers(0, 7), max_size=4), max_size=8)


def test_a_chain_is_sorted_from_its_first_to_its_last_task() -> None:
    assert topological_sort({"c": ["b"], "b": ["a"], "a": []}) == ["a", "b", "c"]


def test_a_circle_is_named_task_by_task() -> None:
    graph = {"flag": ["solve"], "solve": ["apply"], "apply": ["flag"], "image": []}
    cycle = detect_cycles(graph)
    assert cycle is not None
    assert cycle[0] == cycle[-1]
    assert set(cycle) == {"flag", "solve", "apply"}
    with pytest.raises(DependencyCycleError, match=r"flag.*->"):
        topological_sort(graph)


def test_a_task_that_waits_for_itself_is_a_circle() -> None:
    assert detect_cycles({"a": ["a"]}) == ["a", "a"]


def test_a_diamond_has_the_depth_of_its_longer_side() -> None:
    graph = {"a": [], "b": ["a"], "c": ["b"], "d": ["a", "c"]}
    assert depth(graph) == {"a": 0, "b": 1, "c": 2, "d": 3}


@given(dags)
def test_every_task_comes_after_all_it_depends_on_and_none_is_left_out(graph: dict[int, set[int]]) -> None:
    order = topological_sort(graph)
    place = {node: n for n, node in enumerate(order)}
    assert set(order) == set(graph).union(*graph.values()) and len(order) == len(place)
    assert all(place[parent] < place[node] for node, parents in graph.items() for parent in parents)


@given(graphs)
def test_a_graph_can_be_sorted_exactly_when_no_circle_is_found_in_it(graph: dict[int, set[int]]) -> None:
    cycle = detect_cycles(graph)
    if cycle is None:
        topological_sort(graph)
        return
    assert all(before in graph[after] for before, after in itertools.pairwise(cycle))
    with pytest.raises(DependencyCycleError):
        topological_sort(graph)


@given(dags)
def test_the_depth_is_one_more_than_that_of_the_deepest_dependency(graph: dict[int, set[int]]) -> None:
    depths = depth(graph)
    for node, parents in graph.items():
        assert depths[node] == max((depths[parent] + 1 for parent in parents), default=0)


@given(dags, st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_ready_are_those_not_started_whose_dependencies_are_all_completed(
    graph: dict[int, set[int]], completed: set[int], failed: set[int], running: set[int]
) -> None:
    before = (set(completed), set(failed), set(running))
    ready = get_ready_tasks(graph, completed, failed, running)
    assert (completed, failed, running) == before, "the arguments were changed"
    everything = set(graph).union(*graph.values())
    expected = {n for n in everything - completed - failed - running if graph.get(n, set()) <= completed}
    assert set(ready) == expected


@given(dags)
def test_doing_what_is_ready_again_and_again_does_everything(graph: dict[int, set[int]]) -> None:
    done: set[int] = set()
    rounds = 0
    while ready := get_ready_tasks(graph, done, set(), set()):
        done.update(ready)
        rounds += 1
    assert done == set(topological_sort(graph))
    assert rounds == max(depth(graph).values(), default=-1) + 1
