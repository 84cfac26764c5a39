"""Spawning tasks and workflows, looking at them, cancelling and retrying them."""

SPAWN_TASKS = "select task_id, created from absurd.spawn_tasks($1::jsonb)"
SPAWN_WORKFLOW = "select task_id, created from absurd.spawn_workflow($1, $2, $3::jsonb, $4::jsonb)"
CANCEL_TASK = "select absurd.cancel_task($1)"
RETRY_TASK = "select absurd.retry_task($1)"
GET_TASK = """
select t.*, array(select e.parent from absurd.edge e where e.child = t.task_id order by e.parent) as depends_on
from absurd.tasks t where t.task_id = $1
"""
LIST_TASKS = """
select * from absurd.tasks
where ($1::text is null or queue_name = $1) and ($2::text is null or status = $2)
order by task_id desc limit $3
"""
QUEUE_STATS = "select * from absurd.get_queue_stats($1)"
LIST_QUEUE_STATS = """
select s.* from (
    select queue from absurd.stat union select queue from absurd.ready
    union select t.queue from absurd.lease l join absurd.task t on t.task_id = l.task_id
    union select t.queue from absurd.blocked b join absurd.task t on t.task_id = b.task_id
    union select t.queue from absurd.later w join absurd.task t on t.task_id = w.task_id
) q cross join lateral absurd.get_queue_stats(q.queue) s order by s.queue_name
"""
GET_WORKFLOW = "select workflow_id, name, metadata, created_at from absurd.workflow where workflow_id = $1"
WORKFLOW_TASKS = """
select t.*, array(select e.parent from absurd.edge e where e.child = t.task_id order by e.parent) as depends_on
from absurd.tasks t where t.workflow_id = $1 order by t.task_id
"""
LISTEN = "select absurd.listen()"
EVENT = "select body from absurd.event where event_id = $1"
