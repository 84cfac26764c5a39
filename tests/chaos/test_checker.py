"""The judge of campaigns: a good history passes, and each function sees the bad history that it is there for."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dsa110_contimg.chaos.checker import INVARIANTS, check
from dsa110_contimg.chaos.evidence import Evidence
from dsa110_contimg.chaos.figures import figures, take_over_times_s
from dsa110_contimg.chaos.report import as_json, as_text

Row = dict[str, Any]


def event(t: float, kind_: str, who: str = "w1", /, **fields: Any) -> Row:
    return {"t": t, "who": who, "e": kind_, **fields}


def entry(n: int, what: str, task: str, xid: str = "", **fields: Any) -> Row:
    row = {"n": n, "at": float(n), "xid": xid or f"x{n}", "what": what, "task_id": task, "claim": None}
    return {**row, "attempt": None, "worker": None, "outcome": None, "by": None, **fields}


def row_of(task: str, status: str = "completed", **fields: Any) -> Row:
    return {"task_id": task, "status": status, "task_name": "plain", "queue_name": "q", "max_retries": 3, **fields}


def good() -> Evidence:
    """Task *a* ran once, its child *b* lost a worker first, *c* waited for a permit of the same key as *a*."""
    events = [
        event(0.0, "spawn", "c", op="ok", call=1, tasks=["a", "b"], key=None),
        event(0.1, "spawn", "c", op="ok", call=2, tasks=["c"], key="k"),
        event(0.1, "spawn", "c", op="ok", call=3, tasks=["c"], key="k"),
        event(0.2, "spawn", "c", op="aborted", call=4, tasks=["z"]),
        event(0.3, "sample", misplaced=0),
        event(1.5, "wake", task="a"),
        event(2.1, "start", task="a", claim=1, attempt=1),
        event(2.9, "end", task="a", claim=1, how="returned"),
        event(5.1, "start", task="b", claim=2, attempt=1),
        event(5.5, "fault", "campaign", kind="kill", op="begin", worker="w1"),
        event(7.1, "start", "w2", task="b", claim=3, attempt=2),
        event(8.0, "end", "w2", task="b", claim=3, how="returned"),
        event(8.5, "ghost", "campaign", verb="complete", task="a", claim=1, accepted=False),
        event(8.6, "fault", "campaign", kind="term", op="begin", worker="w2"),
        event(8.7, "exit", "w2", asked=True),
        event(8.8, "probe", "campaign", what="claim", value=40),
        event(8.9, "probe", "campaign", what="claim", value=41),
        event(8.8, "probe", "campaign", what="claim under a snapshot", value=40),
        event(8.9, "probe", "campaign", what="claim under a snapshot", value=44),
    ]
    journal = [
        entry(0, "spawned", "a"), entry(1, "spawned", "b"), entry(1, "spawned", "c"),
        entry(2, "leased", "a", claim=1, attempt=1, worker="w1"),
        entry(3, "unleased", "a", "e1", claim=1, attempt=1, worker="w1"),
        entry(3, "ended", "a", "e1", outcome="completed", by=1),
        entry(4, "released", "b", "e1"),
        entry(5, "leased", "b", claim=2, attempt=1, worker="w1"),
        entry(6, "unleased", "b", claim=2, attempt=1, worker="w1"),
        entry(7, "leased", "b", claim=3, attempt=2, worker="w2"),
        entry(8, "unleased", "b", "e2", claim=3, attempt=2, worker="w2"),
        entry(8, "ended", "b", "e2", outcome="completed", by=3),
        entry(9, "leased", "c", claim=4, attempt=1, worker="w3"),
        entry(10, "unleased", "c", "e3", claim=4, attempt=1, worker="w3"),
        entry(10, "ended", "c", "e3", outcome="completed", by=4),
    ]  # fmt: skip
    return Evidence(
        events=events,
        journal=journal,
        tasks=[
            row_of("a", concurrency_key="one"),
            row_of("b"),
            row_of("c", concurrency_key="one", idempotency_key="k"),
        ],
        attempts=[{"task_id": "b", "attempt": 1, "claim": 2, "worker_id": "w1", "reason": "crashed", "finished": 6.0}],
        edges=[{"parent": "a", "child": "b", "policy": "success"}],
        permits=[{"queue": "q", "key": "one", "max_running": 1, "running": 0, "counted": 0}],
        ticks=[{"name": "nightly", "fire_at": 0.0, "fires": 1, "tasks": 1}],
        server_words=["FATAL: the database system is starting up"],
    )


def journal_of(evidence: Evidence, what: str, task: str) -> Row:
    return next(row for row in evidence.journal if (row["what"], row["task_id"]) == (what, task))


def lose_a_task(e: Evidence) -> None:
    e.tasks.pop()


def leave_a_task_waiting(e: Evidence) -> None:
    e.tasks[1]["status"] = "pending"


def misplace_a_task(e: Evidence) -> None:
    e.events.append(event(3.0, "sample", misplaced=2))


def run_an_aborted_spawn(e: Evidence) -> None:
    e.events.append(event(3.0, "start", task="z", claim=9, attempt=1))


def keep_an_aborted_spawn(e: Evidence) -> None:
    e.tasks.append(row_of("z"))


def end_a_task_twice(e: Evidence) -> None:
    e.journal.append(entry(9, "ended", "a", "e1", outcome="completed", by=1))


def keep_the_result_of_a_stale_claim(e: Evidence) -> None:
    journal_of(e, "ended", "b")["by"] = 2


def complete_without_a_lease(e: Evidence) -> None:
    journal_of(e, "ended", "b")["xid"] = "another"


def accept_a_ghost(e: Evidence) -> None:
    next(x for x in e.events if x["e"] == "ghost")["accepted"] = True


def start_one_claim_twice(e: Evidence) -> None:
    e.events.append(event(2.5, "start", "w2", task="a", claim=1, attempt=1))


def claim_what_is_held(e: Evidence) -> None:
    journal_of(e, "leased", "b")
    next(row for row in e.journal if row["claim"] == 2 and row["what"] == "unleased")["at"] = 7.5


def run_without_a_lease(e: Evidence) -> None:
    e.events.append(event(9.0, "start", "w2", task="b", claim=99, attempt=3))


def claim_a_child_before_its_parent(e: Evidence) -> None:
    journal_of(e, "leased", "b")["n"] = 2


def run_the_child_of_a_failed_parent(e: Evidence) -> None:
    journal_of(e, "ended", "a")["outcome"] = "failed"


def release_a_child_twice(e: Evidence) -> None:
    e.journal.append(entry(9, "released", "b"))


def leave_a_child_unskipped(e: Evidence) -> None:
    journal_of(e, "ended", "a")["outcome"] = "failed"
    e.journal[:] = [row for row in e.journal if row["task_id"] != "b"]
    e.tasks[1]["status"] = "failed"


def revive_without_being_asked(e: Evidence) -> None:
    retry_a_cancelled_child(e)
    e.events[:] = [x for x in e.events if x["e"] != "retry"]


def run_a_retried_child_before_its_parent_ends(e: Evidence) -> None:
    retry_a_cancelled_child(e)
    journal_of(e, "revived", "b")["n"] = 2.5


def retry_a_cancelled_child(e: Evidence) -> None:
    """*b* was cancelled while it waited, *a* failed, and somebody wanted *b* nevertheless."""
    journal_of(e, "ended", "a")["outcome"] = "failed"
    journal_of(e, "released", "b").update(what="ended", outcome="cancelled", n=2)
    e.journal.insert(7, entry(4, "revived", "b"))
    e.events.append(event(4.0, "retry", "c", op="ok", task="b", answer=True))


def fire_a_tick_twice(e: Evidence) -> None:
    e.ticks[0]["fires"] = 2


def miss_a_tick(e: Evidence) -> None:
    e.ticks[0]["fires"] = 0


def run_two_of_a_key_at_once(e: Evidence) -> None:
    row = next(row for row in e.journal if row["what"] == "leased" and row["task_id"] == "c")
    e.journal.remove(row)
    e.journal.insert(4, row)


def leak_a_permit(e: Evidence) -> None:
    e.permits[0]["running"] = 1


def answer_a_key_with_two_tasks(e: Evidence) -> None:
    e.events[2]["tasks"] = ["d"]


def store_two_tasks_of_a_key(e: Evidence) -> None:
    e.tasks[1]["idempotency_key"] = "k"


def fail_too_often(e: Evidence) -> None:
    e.attempts.extend({**e.attempts[0], "task_id": "c", "reason": "error", "attempt": n} for n in range(5))


def crash_too_often(e: Evidence) -> None:
    e.tasks[1]["max_crashes"] = 1
    e.attempts.append({**e.attempts[0], "claim": 3})


def let_poison_live(e: Evidence) -> None:
    e.tasks[0]["task_name"] = "poison"


def count_a_soft_stop(e: Evidence) -> None:
    e.attempts.append({**e.attempts[0], "worker_id": "w2", "claim": 7, "finished": 8.9})


def keep_a_lease_after_a_soft_stop(e: Evidence) -> None:
    e.journal.append(entry(11, "leased", "c", claim=12, attempt=2, worker="w2"))


def log_a_deadlock(e: Evidence) -> None:
    e.events.append(event(3.0, "word", level="ERROR", text="ERROR: DeadlockDetectedError: deadlock detected"))


def log_a_deadlock_at_the_server(e: Evidence) -> None:
    e.server_words.append("ERROR:  deadlock detected")


def claim_dearly(e: Evidence) -> None:
    e.events.append(event(9.0, "probe", "campaign", what="claim", value=90))


def pay_for_a_snapshot(e: Evidence) -> None:
    e.events.append(event(9.0, "probe", "campaign", what="claim under a snapshot", value=90))


def wake_late(e: Evidence) -> None:
    next(x for x in e.events if x["e"] == "wake")["t"] = 0.5


def never_wake(e: Evidence) -> None:
    e.events.append(event(9.0, "wake", task="d"))


BAD: list[tuple[int, Callable[[Evidence], None]]] = [
    (1, lose_a_task), (1, leave_a_task_waiting), (1, misplace_a_task),
    (2, run_an_aborted_spawn), (2, keep_an_aborted_spawn),
    (3, end_a_task_twice), (3, keep_the_result_of_a_stale_claim), (3, complete_without_a_lease),
    (4, accept_a_ghost),
    (5, start_one_claim_twice), (5, claim_what_is_held), (5, run_without_a_lease),
    (6, claim_a_child_before_its_parent), (6, run_the_child_of_a_failed_parent), (6, release_a_child_twice),
    (6, leave_a_child_unskipped), (6, revive_without_being_asked), (6, run_a_retried_child_before_its_parent_ends),
    (7, fire_a_tick_twice), (7, miss_a_tick),
    (8, run_two_of_a_key_at_once), (8, leak_a_permit),
    (9, answer_a_key_with_two_tasks), (9, store_two_tasks_of_a_key),
    (10, fail_too_often), (10, crash_too_often), (10, let_poison_live),
    (11, count_a_soft_stop), (11, keep_a_lease_after_a_soft_stop),
    (12, log_a_deadlock), (12, log_a_deadlock_at_the_server),
    (13, claim_dearly), (14, pay_for_a_snapshot),
    (15, wake_late), (15, never_wake),
]  # fmt: skip


def test_a_good_history_passes_every_judge_and_puts_each_to_the_test() -> None:
    verdicts = check(good())
    assert [verdict.violations for verdict in verdicts] == [[]] * len(INVARIANTS)
    assert [verdict.number for verdict in verdicts if not verdict.held] == []


@pytest.mark.parametrize(("number", "spoil"), BAD, ids=[f"{n}-{spoil.__name__}" for n, spoil in BAD])
def test_a_bad_history_is_seen_by_its_judge(number: int, spoil: Callable[[Evidence], None]) -> None:
    evidence = copy.deepcopy(good())
    spoil(evidence)
    judged, violations = INVARIANTS[number](evidence)
    assert judged > 0
    assert violations, f"invariant {number} did not see it"
    assert all(violation.what for violation in violations)


def test_a_task_that_somebody_retries_may_run_after_any_end_of_its_parent() -> None:
    evidence = copy.deepcopy(good())
    retry_a_cancelled_child(evidence)
    assert INVARIANTS[6](evidence) == (1, [])


def test_every_judge_has_a_history_that_it_condemns() -> None:
    assert {number for number, _ in BAD} == set(INVARIANTS)


def test_nothing_seen_is_not_called_held() -> None:
    assert not any(verdict.held for verdict in check(Evidence()))


def test_a_wait_for_the_wake_up_is_judged_by_the_limit_of_the_campaign() -> None:
    evidence = good()
    patient = replace(evidence, terms=replace(evidence.terms, wake_limit_s=0.5))
    assert not INVARIANTS[15](evidence)[1]
    assert INVARIANTS[15](patient)[1]


def test_the_time_of_a_take_over_counts_from_the_kill() -> None:
    assert take_over_times_s(good()) == [0.5]


def test_the_report_says_what_was_violated_and_what_was_not_put_to_the_test() -> None:
    evidence = replace(good(), ticks=[])
    lose_a_task(evidence)
    verdicts = check(evidence)
    text = as_text(figures(evidence, verdicts), verdicts)
    assert "no task is lost" in text and "VIOLATED" in text and "task c is gone" in text
    assert "not put to the test" in text
    assert as_json(figures(evidence, verdicts), verdicts)["violations"] == 1
