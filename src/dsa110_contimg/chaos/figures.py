"""The figures of a campaign, for its report."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from dsa110_contimg.chaos.checker import Verdict
from dsa110_contimg.chaos.evidence import Evidence
from dsa110_contimg.chaos.history import Row


def take_over_times_s(evidence: Evidence) -> list[float]:
    """Return, for each task that a killed worker held, how long it took until the queue had it back."""
    times = []
    for fault in evidence.of_kind("fault", kind="kill", op="begin"):
        for lease in evidence.leases.values():
            held = lease["worker"] == fault["worker"] and lease["opened"] < fault["t"]
            if held and lease["closed"] is not None and lease["closed"] > fault["t"]:
                times.append(lease["closed"] - fault["t"])
    return times


def taken_from_the_living(evidence: Evidence) -> list[Row]:
    """Return the attempts that count as crashed though nobody had killed or frozen their worker."""
    faults = evidence.of_kind("fault", op="begin")
    hit = {event["worker"] for event in faults if event["kind"] in ("kill", "freeze")}
    poisoned = {row["task_id"] for row in evidence.tasks if row["task_name"] == "poison"}
    hit |= {row["worker_id"] for row in evidence.attempts if row["task_id"] in poisoned}
    return [row for row in evidence.attempts if row["reason"] == "crashed" and row["worker_id"] not in hit]


def figures(evidence: Evidence, verdicts: Sequence[Verdict]) -> Row:
    """Count what happened, and what must not have."""
    wrong = {verdict.number: len(verdict.violations) for verdict in verdicts}
    spawns = Counter(event["op"] for event in evidence.of_kind("spawn"))
    faults = Counter(event["kind"] for event in evidence.of_kind("fault", op="begin"))
    outcomes = Counter(row["status"] for row in evidence.tasks)
    reasons = Counter(row["reason"] for row in evidence.attempts)
    times_s = take_over_times_s(evidence)
    words = Counter(event["level"] for event in evidence.of_kind("word"))
    return {
        "tasks": len(evidence.tasks),
        "lost": wrong[1],
        "double_completions": wrong[3],
        "stale_writes_accepted": wrong[4],
        "outcomes": dict(outcomes),
        "attempts_started": len(evidence.of_kind("start")),
        "attempts_without_success": dict(reasons),
        "spawn_calls": dict(spawns),
        "faults": dict(faults),
        "ghost_writes": len(evidence.of_kind("ghost")),
        "take_overs_timed": len(times_s),
        "take_over_p50_s": round(median(times_s), 2) if times_s else None,
        "take_over_max_s": round(max(times_s), 2) if times_s else None,
        "taken_from_the_living": len(taken_from_the_living(evidence)),
        "words": dict(words),
    }
