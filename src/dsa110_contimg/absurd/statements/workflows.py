"""Workflows: what is derived of them from their tasks, and what is done to them."""

# The status of a workflow is never stored: it follows from its tasks whenever somebody asks.
_WORKFLOW = """
select w.workflow_id, w.name, w.metadata, w.created_at, n.*,
       case when n.ended = n.total_tasks then
                case when n.total_tasks = 0 then 'pending' when n.failed_tasks > 0 then 'failed'
                     when n.cancelled_tasks > 0 then 'cancelled' else 'completed' end
            when n.ended > 0 or n.running_tasks > 0 or n.retrying_tasks > 0 then 'running'
            else 'pending' end as status
from absurd.workflow w
cross join lateral (
    select count(*) as total_tasks,
           count(*) filter (where t.status in ('completed', 'failed', 'cancelled', 'skipped')) as ended,
           count(*) filter (where t.status = 'completed') as completed_tasks,
           count(*) filter (where t.status = 'failed') as failed_tasks,
           count(*) filter (where t.status = 'cancelled') as cancelled_tasks,
           count(*) filter (where t.status = 'skipped') as skipped_tasks,
           count(*) filter (where t.status = 'claimed') as running_tasks,
           count(*) filter (where t.status = 'retrying') as retrying_tasks,
           count(*) filter (where t.status = 'blocked') as blocked_tasks,
           count(*) filter (where t.status in ('pending', 'scheduled', 'parked')) as pending_tasks,
           min(t.claimed_at) as started_at,
           case when bool_and(t.completed_at is not null) then max(t.completed_at) end as completed_at
    from absurd.tasks t where t.workflow_id = w.workflow_id) n
"""
HAS_WORKFLOW = "select 1 from absurd.workflow where workflow_id = $1"
GET_WORKFLOW = f"select * from ({_WORKFLOW} where w.workflow_id = $1) x"  # noqa: S608 - fixed text
LIST_WORKFLOWS = f"""
select * from ({_WORKFLOW}
where $2::uuid is null
      or (w.created_at, w.workflow_id) <
         (select last.created_at, last.workflow_id from absurd.workflow last where last.workflow_id = $2)
order by w.created_at desc, w.workflow_id desc) x
where $1::text is null or x.status = $1 order by x.created_at desc, x.workflow_id desc limit $3
"""  # noqa: S608 - fixed text
STOPPED_WORKFLOWS = f"""
select x.workflow_id from ({_WORKFLOW} where w.workflow_id = any($1)) x where x.status in ('failed', 'cancelled')
"""  # noqa: S608 - fixed text
WORKFLOW_TASKS = """
select t.*, array(select e.parent from absurd.edge e where e.child = t.task_id order by e.parent) as depends_on
from absurd.tasks t where t.workflow_id = $1 order by t.task_id
"""
READY_TASKS = """
select r.task_id from absurd.task t join absurd.ready r on r.task_id = t.task_id
where t.workflow_id = $1 order by r.rank, r.run_at, r.task_id
"""
CANCEL_WORKFLOW = "select absurd.cancel_workflow($1)"
RETRY_WORKFLOW = "select absurd.retry_workflow($1)"
