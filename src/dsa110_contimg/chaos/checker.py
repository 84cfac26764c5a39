"""Judges a campaign: one pure function for each invariant of the queue.

Each function looks at the evidence and returns how many things it has judged and every violation that it found, with
what shows it. An invariant of which nothing could be judged is reported as *not put to the test*, never as held.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from dsa110_contimg.chaos.evidence import Evidence
from dsa110_contimg.chaos.history import Row

ENDED = frozenset({"completed", "failed", "cancelled", "skipped"})
_OUTAGES = frozenset({"restart", "blackout", "exhaust", "partition", "sessions", "cut", "freeze"})
_CROSSED = ("deadlock detected", "could not serialize", "DeadlockDetected", "SerializationError")


@dataclass(frozen=True)
class Violation:
    """Something that must not be, with what shows it."""

    what: str
    shown_by: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """What one invariant's function found."""

    number: int
    promise: str
    judged: int
    violations: list[Violation]

    @property
    def held(self) -> bool:
        """Whether something was judged and nothing was wrong."""
        return self.judged > 0 and not self.violations


Judgement = tuple[int, list[Violation]]


def no_task_is_lost(evidence: Evidence) -> Judgement:
    """Every spawn that was acknowledged has a task, which has ended; at no moment was one misplaced."""
    acknowledged = {task for event in evidence.of_kind("spawn", op="ok") for task in event["tasks"]}
    acknowledged |= {row["task_id"] for row in evidence.journal if row["what"] == "spawned"}
    pruned = {task for event in evidence.of_kind("prune") for task in event["tasks"]}
    found = [Violation(f"task {task} is gone") for task in sorted(acknowledged - evidence.task.keys() - pruned)]
    for row in evidence.tasks:
        if row["status"] not in ENDED:
            found.append(Violation(f"task {row['task_id']} is {row['status']}", [row]))
    samples = evidence.of_kind("sample")
    found += [Violation(f"misplaced: {event['misplaced']}", [event]) for event in samples if event["misplaced"]]
    return len(acknowledged) + len(samples), found


def no_aborted_spawn_runs(evidence: Evidence) -> Judgement:
    """A task whose spawn was rolled back exists nowhere and is started by nobody."""
    aborted = {task: event for event in evidence.of_kind("spawn", op="aborted") for task in event["tasks"]}
    started = {event["task"] for event in evidence.of_kind("start")}
    found = [
        Violation(f"task {task} was rolled back and exists", [event])
        for task, event in aborted.items()
        if task in evidence.task or task in started or task in evidence.by_task
    ]
    return len(aborted), found


def one_completion_per_task(evidence: Evidence) -> Judgement:
    """A task ends once, and its result is that of the claim that was current when it was accepted."""
    found, judged = [], 0
    for task, rows in evidence.by_task.items():
        ends = [row for row in rows if row["what"] in ("ended", "revived")]
        judged += any(row["what"] == "ended" for row in ends)
        for first, second in pairwise(ends):
            if first["what"] == second["what"] == "ended":
                found.append(Violation(f"task {task} ended twice", [first, second]))
        found += [_wrong_holder(row, rows) for row in ends if _not_by_its_holder(row, rows)]
    return judged, found


def _holder_at_end(end: Row, rows: Iterable[Row]) -> int | None:
    """Return the claim whose lease was closed by the transaction that ended the task."""
    return next((row["claim"] for row in rows if row["what"] == "unleased" and row["xid"] == end["xid"]), None)


def _not_by_its_holder(end: Row, rows: list[Row]) -> bool:
    if end["what"] != "ended" or end["outcome"] != "completed":
        return False
    holder = _holder_at_end(end, rows)
    return holder is None or (end["by"] is not None and end["by"] != holder)


def _wrong_holder(end: Row, rows: list[Row]) -> Violation:
    holder = _holder_at_end(end, rows)
    return Violation(f"task {end['task_id']}: a result of claim {end['by']} was accepted under {holder}", [end, *rows])


def stale_writes_are_refused(evidence: Evidence) -> Judgement:
    """No write under a claim that is over is accepted: completion, failure, release, progress, beat."""
    ghosts = evidence.of_kind("ghost")
    found = [
        Violation(f"{event['verb']} of task {event['task']} under the old claim {event['claim']} was accepted", [event])
        for event in ghosts
        if event["accepted"]
    ]
    return len(ghosts), found


def attempts_overlap_only_after_a_loss(evidence: Evidence) -> Judgement:
    """While a handler runs, nobody else starts the same task, unless the first had lost its lease before."""
    runs: dict[str, list[Row]] = {}
    ends = {event["claim"]: event["t"] for event in evidence.of_kind("end")}
    for event in evidence.of_kind("start"):
        runs.setdefault(event["task"], []).append({**event, "ended": ends.get(event["claim"])})
    found, judged = [], 0
    for starts in runs.values():
        starts.sort(key=lambda run: int(run["claim"]))
        judged += len(starts)
        found += [
            Violation(f"task {first['task']} ran twice at once without a loss", [first, second])
            for first, second in pairwise(starts)
            if _overlaps_without_loss(evidence.leases, first, second)
        ]
    return judged, found


def _overlaps_without_loss(leases: Mapping[int, Row], first: Row, second: Row) -> bool:
    if first["claim"] == second["claim"]:
        return True  # one claim, two starts
    lease, following = leases.get(first["claim"]), leases.get(second["claim"])
    if lease is None or following is None:
        return True  # it ran without a lease
    return lease["closed"] is None or bool(lease["closed"] > following["opened"])


def children_wait_for_their_parents(evidence: Evidence) -> Judgement:
    """A task is claimed only after each parent has ended as the edge asks, is released once, and skips spread.

    Who retries a task wants it to run whatever the parents that are over ended with: these let it go by any end.
    """
    found = []
    retried = {event["task"] for event in evidence.of_kind("retry")}
    for edge in evidence.edges:
        parent = evidence.by_task.get(edge["parent"], [])
        child = evidence.by_task.get(edge["child"], [])
        ended = [row for row in parent if row["what"] == "ended"]
        asked_at = max((row["n"] for row in child if row["what"] == "revived" and edge["child"] in retried), default=-1)
        fitting = [row["n"] for row in ended if row["n"] < asked_at or _fits(edge["policy"], row["outcome"])]
        claims = [row for row in child if row["what"] == "leased"]
        if claims and (not fitting or claims[0]["n"] < fitting[0]):
            what = f"task {edge['child']} was claimed before {edge['parent']} had ended"
            found.append(Violation(what, [edge, *parent, *child]))
        skipped = any(row["what"] == "ended" and row["outcome"] == "skipped" for row in child)
        if ended and not fitting and not skipped and evidence.task.get(edge["child"], {}).get("status") != "cancelled":
            what = f"task {edge['child']} was not skipped after {edge['parent']}"
            found.append(Violation(what, [edge, *parent, *child]))
    for child in {edge["child"] for edge in evidence.edges}:
        whats = Counter(row["what"] for row in evidence.by_task.get(child, []))
        if whats["released"] > 1 + whats["revived"]:
            found.append(Violation(f"task {child} was released {whats['released']} times", evidence.by_task[child]))
    return len(evidence.edges), found


def _fits(policy: str, outcome: str) -> bool:
    return policy == "done" or outcome == {"success": "completed", "failure": "failed"}[policy]


def each_tick_fires_once(evidence: Evidence) -> Judgement:
    """Every time of a schedule fired exactly once, with a task of its own."""
    found = [
        Violation(f"schedule {tick['name']} fired {tick['fires']} times for {tick['fire_at']}", [tick])
        for tick in evidence.ticks
        if tick["fires"] != 1 or tick["tasks"] != 1
    ]
    return len(evidence.ticks), found


def concurrency_stays_within_its_limit(evidence: Evidence) -> Judgement:
    """Never do more tasks of a key hold a lease than its limit, and at the end every permit is accounted for."""
    limits = {(row["queue"], row["key"]): row["max_running"] for row in evidence.permits}
    keys = {
        row["task_id"]: (row["queue_name"], row["concurrency_key"])
        for row in evidence.tasks
        if row.get("concurrency_key")
    }
    holding: Counter[tuple[str, str]] = Counter()
    found, judged = [], len(evidence.permits)
    for row in evidence.journal:
        if row["task_id"] in keys and row["what"] in ("leased", "unleased"):
            key = keys[row["task_id"]]
            judged += 1
            holding[key] += 1 if row["what"] == "leased" else -1
            if holding[key] > limits.get(key, 1):
                found.append(Violation(f"{holding[key]} tasks of {key} ran at once, {limits.get(key, 1)} may", [row]))
    for row in evidence.permits:
        if row["running"] != row["counted"]:
            found.append(Violation(f"{row['running']} permits of {row['key']} are out, {row['counted']} used", [row]))
    return judged, found


def one_task_per_idempotency_key(evidence: Evidence) -> Judgement:
    """However many clients spawn with one key, they all get the same task, and there is one."""
    answers: dict[str, set[str]] = {}
    for event in evidence.of_kind("spawn", op="ok"):
        if event.get("key"):
            answers.setdefault(event["key"], set()).update(event["tasks"])
    found = [
        Violation(f"key {key} was answered with {len(ids)} tasks: {sorted(ids)}")
        for key, ids in answers.items()
        if len(ids) != 1
    ]
    counted = Counter(row["idempotency_key"] for row in evidence.tasks if row.get("idempotency_key"))
    found += [Violation(f"key {key} has {count} tasks") for key, count in counted.items() if count != 1]
    return len(answers), found


def attempts_are_bounded(evidence: Evidence) -> Judgement:
    """Failed attempts stay within what the task allows; whoever kills its workers ends among the dead letters."""
    reasons: dict[str, Counter[str]] = {}
    revived = {row["task_id"] for row in evidence.journal if row["what"] == "revived"}
    for row in evidence.attempts:
        reasons.setdefault(row["task_id"], Counter())[row["reason"]] += 1
    found = []
    for task, counts in reasons.items():
        if task not in evidence.task or task in revived:
            continue
        row = evidence.task[task]
        failures = sum(count for reason, count in counts.items() if reason not in ("crashed", "cancelled"))
        if failures > row["max_retries"] + 1:
            found.append(Violation(f"task {task} failed {failures} times", [row]))
        limit = row.get("max_crashes")
        if limit is not None and counts["crashed"] > limit:
            found.append(Violation(f"task {task} crashed {counts['crashed']} times, {limit} are allowed", [row]))
    for row in evidence.tasks:
        if row["task_name"] == "poison" and row["status"] not in ("failed", "cancelled", "skipped"):
            found.append(Violation(f"the poison task {row['task_id']} is {row['status']}", [row]))
    return len(evidence.tasks), found


def a_soft_stop_costs_nothing(evidence: Evidence) -> Judgement:
    """A worker that ended because it was told to leaves no lease behind and no attempt counted as crashed.

    One that could not reach the server meanwhile is left out: nobody can give back what nobody takes.
    """
    asked: dict[str, float] = {event["worker"]: event["t"] for event in evidence.of_kind("fault", kind="term")}
    stopped = {
        event["who"]: event
        for event in evidence.of_kind("exit", asked=True)
        if not _outage(evidence, float(asked.get(event["who"]) or event["t"]), event["t"])
    }
    left = {row["worker"] for row in evidence.leases.values() if row["closed"] is None}
    found = [
        Violation(f"worker {who} stopped softly and still holds a lease", [stopped[who]]) for who in left & set(stopped)
    ]
    for row in evidence.attempts:
        who = row["worker_id"]
        if who in stopped and row["reason"] == "crashed" and row["finished"] > asked.get(who, stopped[who]["t"]):
            found.append(Violation(f"the soft stop of {who} cost task {row['task_id']} an attempt", [row]))
    return len(stopped), found


def _outage(evidence: Evidence, begin_s: float, end_s: float) -> bool:
    """Tell whether a fault that keeps processes from the server fell into these times, or shortly before."""
    faults = [event for event in evidence.of_kind("fault") if event["kind"] in _OUTAGES]
    near = [event for event in faults if begin_s - evidence.terms.lease_s <= event["t"] <= end_s]
    return bool(near)


def no_crossed_transaction_reaches_the_user(evidence: Evidence) -> Judgement:
    """No client, worker or server log tells of a deadlock or a serialization failure."""
    found = [
        Violation(event["text"], [event])
        for event in evidence.of_kind("word")
        if any(sign in event["text"] for sign in _CROSSED)
    ]
    found += [Violation(line) for line in evidence.server_words if any(sign in line for sign in _CROSSED)]
    return len(evidence.of_kind("word")) + len(evidence.server_words) + len(evidence.of_kind("spawn", op="ok")), found


def a_claim_costs_the_same_with_history(evidence: Evidence) -> Judgement:
    """The pages that a claim reads do not grow with the tasks that have ended."""
    return _costs(evidence, "claim")


def a_held_snapshot_costs_little(evidence: Evidence) -> Judgement:
    """The pages that a claim reads do not grow while another session holds an old snapshot."""
    return _costs(evidence, "claim under a snapshot")


def _costs(evidence: Evidence, what: str) -> Judgement:
    probes = evidence.of_kind("probe", what=what)
    found = [
        Violation(f"{what}: {first['value']} pages, later {last['value']}", [first, last])
        for first, last in zip(probes[:1], probes[-1:], strict=True)
        if last["value"] > first["value"] * evidence.terms.cost_ratio_limit
    ]
    return max(0, len(probes) - 1), found


def an_idle_queue_wakes_in_time(evidence: Evidence) -> Judgement:
    """A task for an idle queue starts within the limit even when every notification is lost."""
    starts: dict[str, float] = {}
    for event in evidence.of_kind("start"):
        starts.setdefault(event["task"], event["t"])
    probes = evidence.of_kind("wake")
    limit_s = evidence.terms.wake_limit_s
    found = [
        Violation(f"task {event['task']} waited longer than {limit_s:g} s on an idle queue", [event])
        for event in probes
        if starts.get(event["task"], float("inf")) - event["t"] > limit_s
    ]
    return len(probes), found


#: The invariants, by their numbers.
INVARIANTS: Mapping[int, Callable[[Evidence], Judgement]] = {
    1: no_task_is_lost,
    2: no_aborted_spawn_runs,
    3: one_completion_per_task,
    4: stale_writes_are_refused,
    5: attempts_overlap_only_after_a_loss,
    6: children_wait_for_their_parents,
    7: each_tick_fires_once,
    8: concurrency_stays_within_its_limit,
    9: one_task_per_idempotency_key,
    10: attempts_are_bounded,
    11: a_soft_stop_costs_nothing,
    12: no_crossed_transaction_reaches_the_user,
    13: a_claim_costs_the_same_with_history,
    14: a_held_snapshot_costs_little,
    15: an_idle_queue_wakes_in_time,
}


def check(evidence: Evidence) -> list[Verdict]:
    """Judge everything."""
    verdicts = []
    for number, judge in INVARIANTS.items():
        judged, violations = judge(evidence)
        verdicts.append(Verdict(number, judge.__name__.replace("_", " "), judged, violations))
    return verdicts
