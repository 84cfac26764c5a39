"""Every statement that Python sends to the queue: calls of the functions of ``schema.sql``, and the reads.

Python never changes a task's state by itself; the functions do.
"""

# ------------------------------------------------------------------------------------------------------- transitions
SPAWN_TASKS = "select task_id, created from absurd.spawn_tasks($1::jsonb)"
SPAWN_WORKFLOW = "select task_id, created from absurd.spawn_workflow($1, $2, $3::jsonb, $4::jsonb)"
CANCEL_TASK = "select absurd.cancel_task($1)"
RETRY_TASK = "select absurd.retry_task($1)"

CLAIM_TASKS = "select * from absurd.claim_task($1, $2, $3, $4::text[])"
COMPLETE_TASK = "select absurd.complete_task($1, $2, $3::jsonb)"
FAIL_TASK = "select absurd.fail_task($1, $2, $3::jsonb, $4)"
RELEASE_TASK = "select absurd.release_task($1, $2)"
REPORT_PROGRESS = "select absurd.report_progress($1, $2, $3, $4)"

REGISTER_WORKER = "select absurd.register_worker($1, $2, $3, $4::text[], $5)"
HOLD_LOCK = "select absurd.hold_lock($1)"
HEARTBEAT = "select claim, verdict from absurd.heartbeat($1, $2::bigint[], $3)"
LEAVE = "select absurd.leave($1, $2)"
REAP = "select absurd.reap($1, $2)"
REPAIR = "select absurd.repair()"

# ------------------------------------------------------------------------------------------------------------- reads
SCHEMA_VERSION = "select schema_version from absurd.meta"
SCHEMA_EXISTS = "select to_regclass('absurd.meta') is not null"

GET_TASK = """
select t.*, array(select e.parent from absurd.edge e where e.child = t.task_id order by e.parent) as depends_on
from absurd.tasks t where t.task_id = $1
"""

LIST_TASKS = """
select * from absurd.tasks
where ($1::text is null or queue_name = $1) and ($2::text is null or status = $2)
order by task_id desc limit $3
"""

PARENT_RESULTS = """
select p.task_name, p.status, p.result, p.error
from absurd.edge e join absurd.tasks p on p.task_id = e.parent
where e.child = $1 order by p.task_id
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

LIST_WORKERS = """
select w.worker_id, w.host, w.pid, w.queues, w.slots, w.state, w.started_at, w.beat_at,
       extract(epoch from absurd.clock() - w.beat_at)::float8 as beat_age_s,
       extract(epoch from w.beat_at - w.started_at)::float8 as uptime_s,
       array(select l.task_id from absurd.lease l where l.worker_id = w.worker_id order by l.claim) as task_ids
from absurd.worker w order by w.started_at, w.worker_id
"""

HEALTH = """
select (select count(*) from absurd.ready) as queue_depth,
       (select extract(epoch from absurd.clock() - min(run_at))::float8 from absurd.ready) as oldest_pending_s,
       (select count(*) from absurd.lease) as running,
       (select count(*) from absurd.dead) as dead,
       (select extract(epoch from absurd.clock() - max(minute))::float8 from absurd.stat
        where completed > 0 and minute > absurd.clock() - interval '1 day') as last_completed_s
"""

STATUS = """
select (select schema_version from absurd.meta) as schema_version,
       (select count(*) from pg_class where relnamespace = 'absurd'::regnamespace and relkind in ('r', 'p')
                                        and not relispartition) as tables,
       (select count(*) from pg_proc where pronamespace = 'absurd'::regnamespace) as functions,
       (select count(*) from absurd.task) as tasks,
       (select count(*) from absurd.misplaced) as misplaced
"""

# ----------------------------------------------------------------------------------------------------------- schedules
UPSERT_CRON = """
insert into absurd.cron (name, expr, timezone, queue, task_name, params, rank, timeout_s, max_attempts, next_at,
                         created_at)
values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, absurd.clock())
on conflict (name) do update
set expr = excluded.expr, timezone = excluded.timezone, queue = excluded.queue, task_name = excluded.task_name,
    params = excluded.params, rank = excluded.rank, timeout_s = excluded.timeout_s,
    max_attempts = excluded.max_attempts, next_at = excluded.next_at
"""
LIST_CRON = "select * from absurd.cron order by name"
DUE_CRON = "select name, expr, timezone, next_at from absurd.cron where next_at <= absurd.clock() and not paused"
NEXT_CRON = "select extract(epoch from min(next_at) - absurd.clock())::float8 from absurd.cron where not paused"
PAUSE_CRON = "update absurd.cron set paused = $2 where name = $1 returning name"
DELETE_CRON = "delete from absurd.cron where name = $1 returning name"
FIRE_CRON = "select absurd.fire_cron($1, $2, $3, $4)"
NOW = "select absurd.clock()"

# --------------------------------------------------------------------------------------------------------------- setup
LOCK_SETUP = "select pg_advisory_xact_lock(hashtextextended('absurd.setup', 0))"
DROP_SCHEMA = "drop schema if exists absurd cascade"

# ----------------------------------------------------------------------------------------------------- channels' names
READY_CHANNEL = "absurd_ready"
CANCEL_CHANNEL = "absurd_cancel"
EVENT_CHANNEL = "absurd_event"
