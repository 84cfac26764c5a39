"""Directed graphs of tasks: cycles, order, depth, readiness. Pure functions of ``{task: the tasks it depends on}``.

A dependency that is not itself a key of the mapping counts as a task without dependencies of its own.
"""

from collections.abc import Collection, Hashable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)
Graph = Mapping[Node, Collection[Node]]


class DependencyCycleError(ValueError):
    """Tasks that wait for each other in a circle can never run."""


def detect_cycles(graph: Graph[Node]) -> list[Node] | None:
    """Return one cycle, each task followed by one that depends on it and the first repeated at the end; else None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def topological_sort(graph: Graph[Node]) -> list[Node]:
    """Return all tasks, each after everything that it depends on; tasks of equal rank keep the order of ``graph``.

    Raises
    ------
    DependencyCycleError
        The tasks wait for each other; the message names the circle.
    """
    if cycle := detect_cycles(graph):
        raise DependencyCycleError(f"tasks wait for each other: {' -> '.join(str(node) for node in cycle)}")
    return list(TopologicalSorter(graph).static_order())


def get_ready_tasks(
    graph: Graph[Node], completed: Collection[Node], failed: Collection[Node], in_progress: Collection[Node]
) -> list[Node]:
    """Return the tasks that can start now: everything they depend on is completed and they have not been started.

    A task with a failed dependency, direct or through others, is never ready. No argument is changed.
    """
    started = {*completed, *failed, *in_progress}
    done = set(completed)
    return [node for node in topological_sort(graph) if node not in started and done.issuperset(graph.get(node, ()))]


def depth(graph: Graph[Node]) -> dict[Node, int]:
    """Return for each task the length of the longest chain of dependencies below it; 0 for those without any."""
    depths: dict[Node, int] = {}
    for node in topological_sort(graph):
        depths[node] = max((depths[parent] + 1 for parent in graph.get(node, ())), default=0)
    return depths
