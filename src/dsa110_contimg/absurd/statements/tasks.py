"""Spawning tasks and workflows, looking at them, cancelling and retrying them."""

SPAWN_TASKS = "select task_id, created from absurd.spawn_tasks($1::jsonb)"
SPAWN_BATCH = "select absurd.spawn_batch($1, $2::text[], $3::jsonb)"
SPAWN_WORKFLOW = "select task_id, created from absurd.spawn_workflow($1, $2, $3::jsonb, $4::jsonb)"
# The same on a connection whose habits are not known: everything as text.
SPAWN_TASKS_ON = "select task_id::text, created from absurd.spawn_tasks($1::text::jsonb)"
SPAWN_WORKFLOW_ON = """
select task_id::text, created
from absurd.spawn_workflow($1::text::uuid, $2::text, $3::text::jsonb, $4::text::jsonb)
"""
CANCEL_TASK = "select absurd.cancel_task($1)"
RETRY_TASK = "select absurd.retry_task($1)"
GET_TASK = """
select t.*, array(select e.parent from absurd.edge e where e.child = t.task_id order by e.parent) as depends_on
from absurd.tasks t where t.task_id = $1
"""
TASK_STATUS = "select status from absurd.tasks where task_id = $1"

# Where the tasks of a state stand: a list by state reads that table and no other.
_PLACES: dict[str | None, str] = {
    "blocked": "absurd.blocked x join absurd.task t on t.task_id = x.task_id",
    "pending": "absurd.ready x join absurd.task t on t.task_id = x.task_id",
    "parked": "absurd.parked x join absurd.task t on t.task_id = x.task_id",
    "claimed": "absurd.lease x join absurd.task t on t.task_id = x.task_id",
    "retrying": "absurd.later x join absurd.task t on t.task_id = x.task_id and x.why = 'retry'",
    "scheduled": "absurd.later x join absurd.task t on t.task_id = x.task_id and x.why <> 'retry'",
    None: "absurd.task t",
    **{outcome: f"(select * from absurd.task where outcome = '{outcome}') t"  # noqa: S608 - fixed text
       for outcome in ("completed", "failed", "cancelled", "skipped")},
}  # fmt: skip


def list_tasks(status: str | None) -> str:
    """Return the statement that lists tasks of a state: queue, name, workflow, task before the first, number at most.

    Raises
    ------
    ValueError
        There is no such state.
    """
    if status not in _PLACES:
        known = ", ".join(sorted(state for state in _PLACES if state))
        raise ValueError(f"no task has the status {status!r}; there are {known}")
    return f"""
select v.* from absurd.tasks v where v.task_id in (
    select t.task_id from {_PLACES[status]}
    where ($1::text is null or t.queue = $1) and ($2::text is null or t.name = $2)
      and ($3::uuid is null or t.workflow_id = $3) and ($4::uuid is null or t.task_id < $4)
    order by t.task_id desc limit $5)
order by v.task_id desc
"""  # noqa: S608 - put together from the texts above
