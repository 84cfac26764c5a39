"""The calls of a worker."""

FLUSH = """
select verdict, task_id, claim, attempt, crashes, queue, name, params, headers, workflow_id, timeout_s
from absurd.flush($1, $2::uuid[], $3::bigint[], $4::jsonb[], $5::text[], $6, $7::text[])
"""
COMPLETE_TASK = "select absurd.complete_task($1, $2, $3::jsonb)"
FAIL_TASK = "select absurd.fail_task($1, $2, $3::jsonb, $4, $5)"
SNOOZE_TASK = "select absurd.snooze_task($1, $2, $3)"
RELEASE_TASK = "select absurd.release_task($1, $2)"
REPORT_PROGRESS = "select absurd.report_progress($1, $2, $3, $4)"
PARENT_RESULTS = """
select p.task_name, p.status, p.result, p.error
from absurd.edge e join absurd.tasks p on p.task_id = e.parent
where e.child = $1 order by p.task_id
"""
REGISTER_WORKER = "select absurd.register_worker($1, $2, $3, $4::text[], $5)"
WAIT_SHORTLY = "set local lock_timeout = '200ms'"
HOLD_LOCK = "select absurd.hold_lock($1)"
HEARTBEAT = "select claim, verdict from absurd.heartbeat($1, $2::bigint[], $3)"
LEAVE = "select absurd.leave($1, $2)"
REAP = "select absurd.reap($1, $2)"
REPAIR = "select absurd.repair()"
NOW = "select absurd.clock()"
