"""The benchmarks, by name, in the order in which they run."""

from collections.abc import Awaitable, Callable, Mapping

from benchmarks.queue.arena import Arena
from benchmarks.queue.measures import (
    backlog,
    chains,
    costs,
    drain,
    horizon,
    keys,
    latency,
    listeners,
    recovery,
    spawning,
)
from benchmarks.queue.report import Table

Measure = Callable[[Arena], Awaitable[Table]]

MEASURES: Mapping[str, Measure] = {
    "drain": drain.measure,
    "slow_commits": drain.measure_slow_commits,
    "costs": costs.measure,
    "spawning": spawning.measure,
    "latency": latency.measure,
    "recovery": recovery.measure,
    "horizon": horizon.measure,
    "backlog": backlog.measure,
    "chains": chains.measure,
    "keys": keys.measure,
    "listeners": listeners.measure,
}
