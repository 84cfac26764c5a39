"""What the queue is, in Python without a database: the model that the SQL functions must agree with.

Times are seconds of a clock that only moves when it is told to. A task with a concurrency key that waits is ``waiting``
here; whether it is parked or pending is a matter of permits, which :class:`twin.Twin` counts.
"""

from dataclasses import dataclass, field
from uuid import UUID

ENDED = ("completed", "failed", "cancelled", "skipped")
LEASE_S, MAX_CRASHES, OVERTIME_S = 10.0, 2, 30.0


@dataclass(eq=False)
class Task:
    id: UUID
    priority: int = 0
    run_at: float = 0.0
    max_attempts: int = 1
    max_crashes: int | None = None
    timeout_s: float | None = None
    key: str | None = None
    edges: dict[UUID, str] = field(default_factory=dict)  # parents that it has not heard of yet → policy
    policies: dict[UUID, str] = field(default_factory=dict)  # all its parents → policy
    state: str = "new"
    attempt: int = 0
    crashes: int = 0
    ready_at: float = 0.0
    due_at: float = 0.0
    claim: int = 0
    worker: str = ""
    started_at: float = 0.0
    cancel: bool = False


@dataclass
class Worker:
    beat_at: float
    state: str = "active"


def breaks(policy: str, outcome: str) -> bool:
    return {"done": False, "success": outcome != "completed", "failure": outcome != "failed"}[policy]


class Model:
    def __init__(self, now: float) -> None:
        self.now = now
        self.tasks: dict[UUID, Task] = {}
        self.workers: dict[str, Worker] = {}
        self.keys: dict[str, tuple[UUID, float]] = {}  # idempotency key → task, expires at
        self.ends: dict[str, int] = dict.fromkeys(ENDED, 0)
        self.dead: set[UUID] = set()

    # ------------------------------------------------------------------------------------------------ entering, leaving
    def spawn(self, task: Task, idempotency: str | None = None, ttl_s: float = 1e9) -> tuple[UUID, bool]:
        if idempotency is not None:
            known, expires_at = self.keys.get(idempotency, (task.id, 0.0))
            if known in self.tasks and known != task.id and expires_at > self.now:
                return known, False
            self.keys[idempotency] = (task.id, self.now + ttl_s)
        self.tasks[task.id] = task
        task.policies = dict(task.edges)
        task.state = "blocked"
        self.settle([self.tasks[parent] for parent in task.edges])
        self.admit_if_free(task)
        return task.id, True

    def admit_if_free(self, task: Task) -> None:
        if task.state == "blocked" and not task.edges:
            self.admit(task)

    def admit(self, task: Task, attempt: int = 0, crashes: int = 0) -> None:
        task.attempt, task.crashes, task.due_at = attempt, crashes, task.run_at
        task.state = "scheduled" if task.run_at > self.now else "waiting"
        task.ready_at = self.now

    def settle(self, parents: list[Task]) -> None:
        front = [parent for parent in parents if parent.state in ENDED]
        while front:
            parent = front.pop()
            for child in self.tasks.values():
                policy = child.edges.pop(parent.id, None)
                if policy is None or child.state != "blocked":
                    continue
                if breaks(policy, parent.state):
                    child.state, child.attempt = "skipped", 0
                    self.ends["skipped"] += 1
                    front.append(child)
                else:
                    self.admit_if_free(child)

    def end(self, task: Task, outcome: str) -> str:
        task.state, task.cancel = outcome, False
        self.ends[outcome] += 1
        if outcome == "failed":
            self.dead.add(task.id)
        self.settle([task])
        return outcome

    # ------------------------------------------------------------------------------------------------------- the worker
    def held(self, task: UUID, claim: int) -> Task | None:
        found = self.tasks.get(task)
        return found if found and found.state == "claimed" and found.claim == claim else None

    def claim(self, task: UUID, claim: int, worker: str) -> Task:
        found = self.tasks[task]
        found.state, found.claim, found.worker, found.started_at = "claimed", claim, worker, self.now
        found.attempt += 1
        return found

    def complete(self, task: UUID, claim: int) -> bool:
        found = self.held(task, claim)
        return found is not None and bool(self.end(found, "completed"))

    def fail(self, task: UUID, claim: int, retryable: bool, after_s: float) -> str | None:
        found = self.held(task, claim)
        if found is None:
            return None
        if found.cancel:
            return self.end(found, "cancelled")
        if not retryable or found.attempt - found.crashes >= found.max_attempts:
            return self.end(found, "failed")
        found.state, found.due_at = "retrying", self.now + after_s
        return "retrying"

    def put_back(self, task: Task, attempt: int) -> None:
        if task.cancel:
            self.end(task, "cancelled")
        else:
            task.state, task.attempt, task.ready_at = "waiting", attempt, self.now

    def release(self, task: UUID, claim: int) -> bool:
        found = self.held(task, claim)
        if found is not None:
            self.put_back(found, found.attempt - 1)
        return found is not None

    def snooze(self, task: UUID, claim: int, after_s: float) -> bool:
        found = self.held(task, claim)
        if found is not None and found.cancel:
            self.end(found, "cancelled")
        elif found is not None:
            found.state, found.due_at, found.attempt = "scheduled", self.now + after_s, found.attempt - 1
        return found is not None

    def leases(self, worker: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.state == "claimed" and task.worker == worker]

    def beat(self, worker: str, claims: list[int]) -> set[tuple[int | None, str]]:
        known = self.workers.get(worker)
        verdicts: set[tuple[int | None, str]] = set()
        if known is None or known.state == "crashed":
            verdicts.add((None, "unknown"))
        else:
            known.beat_at = self.now
        for task in self.leases(worker):
            if task.claim not in claims and task.started_at < self.now - LEASE_S:
                self.put_back(task, task.attempt - 1)
        verdicts |= {(task.claim, "cancel") for task in self.leases(worker) if task.cancel}
        verdicts |= {(claim, "lost") for claim in claims if claim not in [t.claim for t in self.leases(worker)]}
        return verdicts

    def leave(self, worker: str) -> None:
        if worker in self.workers:
            self.workers[worker].state = "stopped"
        for task in self.leases(worker):
            self.put_back(task, task.attempt - 1)

    def reap(self) -> int:
        for worker in self.workers.values():
            if worker.state == "active" and worker.beat_at < self.now - LEASE_S:
                worker.state = "crashed"
        claimed = [task for task in self.tasks.values() if task.state == "claimed"]
        lost = [t for t in claimed if t.worker not in self.workers or self.workers[t.worker].state != "active"]
        late = [
            t for t in claimed if t not in lost and t.timeout_s and t.started_at + t.timeout_s < self.now - OVERTIME_S
        ]
        for task in lost:
            self.take_over(task)
        for task in late:
            self.fail(task.id, task.claim, True, 0.0)
        self.promote()
        return len(lost) + len(late)

    def take_over(self, task: Task) -> None:
        if not task.cancel and task.crashes + 1 >= (task.max_crashes or MAX_CRASHES):
            self.end(task, "failed")
        else:
            task.crashes += not task.cancel
            self.put_back(task, task.attempt)

    def promote(self) -> None:
        for task in self.tasks.values():
            if task.state in ("scheduled", "retrying") and task.due_at <= self.now:
                self.admit(task, task.attempt, task.crashes)

    # --------------------------------------------------------------------------------------------------- the operators
    def cancel(self, task: UUID) -> bool:
        found = self.tasks[task]
        if found.state in ENDED:
            return False
        if found.state == "claimed":
            found.cancel = True
        else:
            self.end(found, "cancelled")
        return True

    def followers(self, root: Task) -> set[UUID]:
        """Return what runs again with a task: what its end had skipped, and what waits for an end of whatever kind."""
        again, front = {root.id}, [root.id]
        while front:
            parent = front.pop()
            for child in self.tasks.values():
                policy = child.policies.get(parent)
                if policy is not None and child.id not in again and (child.state == "skipped" or policy == "done"):
                    again.add(child.id)
                    front.append(child.id)
        return again

    def retry(self, task: UUID) -> bool:
        root = self.tasks[task]
        if root.state not in ("failed", "cancelled"):
            return False
        again = self.followers(root)
        moved = [t for t in self.tasks.values() if t.id in again and t.state != "claimed"]
        ended = {t.id: t.state for t in self.tasks.values()}
        for one in moved:
            if one.state in ENDED:
                self.ends[one.state] -= 1
            self.dead.discard(one.id)
            one.state, one.attempt, one.crashes, one.cancel = "blocked", 0, 0, False
        ids = {one.id for one in moved}
        for one in moved:
            for parent, policy in one.policies.items():
                over = parent in self.tasks and ended[parent] in ENDED
                if parent in ids or (
                    one is not root and parent in self.tasks and (not over or breaks(policy, ended[parent]))
                ):
                    one.edges[parent] = policy
        for one in moved:
            self.admit_if_free(one)
        self.settle([self.tasks[parent] for one in moved for parent in one.edges if parent in self.tasks])
        return True
