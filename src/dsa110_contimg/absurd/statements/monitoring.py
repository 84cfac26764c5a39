"""What the queue says about itself: counts of live tasks, statistics of ended ones, workers, one task's story."""

from dsa110_contimg.absurd.histograms import BUCKETS


def _bucket_sums(column: str) -> str:
    """Return the SQL of an array with the sum of each bucket of a histogram column."""
    return f"array[{', '.join(f'coalesce(sum(s.{column}[{i}]), 0)' for i in range(1, BUCKETS + 1))}]::bigint[]"


# The clock is asked once a statement, in a subquery of its own: it is a function that is not cheap for each row.
LIVE = """
select v.queue, v.name, v.state, count(*) as n, extract(epoch from absurd.clock() - min(v.since))::float8 as oldest_s
from absurd.live v where $1::text is null or v.queue = $1 group by v.queue, v.name, v.state
"""
TOTALS = """
select s.queue, s.name, sum(s.completed) as completed, sum(s.failed) as failed, sum(s.cancelled) as cancelled,
       sum(s.skipped) as skipped, sum(s.retried) as retried, sum(s.timed_out) as timed_out, sum(s.crashed) as crashed
from absurd.stats s where $1::text is null or s.queue = $1 group by s.queue, s.name
"""
TIMES = f"""
select s.queue, s.name, sum(s.completed) as completed, sum(s.wait_s) as wait_s, sum(s.run_s) as run_s,
       {_bucket_sums("wait_hist")} as wait_hist, {_bucket_sums("run_hist")} as run_hist
from absurd.stats s
where s.minute > (select absurd.clock()) - interval '1 day' and s.completed <> 0 and ($1::text is null or s.queue = $1)
group by s.queue, s.name
"""  # noqa: S608 - made of constants
#: The minute that a window begins in counts by the share of it that lies in the window.
RATES = """
select s.queue, s.name, w.minutes,
       greatest(sum(s.completed * x.share), 0)::float8 as completed,
       greatest(sum(s.failed * x.share), 0)::float8 as failed
from absurd.stats s cross join (values (1), (5), (15)) w(minutes)
cross join lateral (select least(1, extract(epoch from s.minute + interval '1 minute' - (select absurd.clock())
                                                        + make_interval(mins => w.minutes)) / 60)) x(share)
where s.minute > (select absurd.clock()) - interval '16 minutes' and x.share > 0 and ($1::text is null or s.queue = $1)
group by s.queue, s.name, w.minutes
"""
HISTORY = f"""
select extract(epoch from date_bin(make_interval(secs => $2), s.minute, 'epoch'))::bigint as at,
       greatest(sum(s.completed), 0) as completed, greatest(sum(s.failed), 0) as failed,
       sum(s.wait_s) as wait_s, sum(s.run_s) as run_s,
       {_bucket_sums("wait_hist")} as wait_hist, {_bucket_sums("run_hist")} as run_hist
from absurd.stats s where s.minute >= to_timestamp($3) and ($1::text is null or s.queue = $1) group by 1
"""  # noqa: S608 - made of constants
NOW = "select absurd.clock()"
#: The tasks are looked up one by one, as in `absurd.live`, whatever the planner believes of the number of leases.
LIST_WORKERS = """
select w.worker_id, w.host, w.pid, w.queues, w.slots, w.state, w.started_at, w.beat_at,
       extract(epoch from (select absurd.clock()) - w.beat_at)::float8 as beat_age_s,
       extract(epoch from w.beat_at - w.started_at)::float8 as uptime_s,
       array(select l.task_id from absurd.lease l where l.worker_id = w.worker_id order by l.claim) as task_ids,
       (select coalesce(jsonb_agg(jsonb_build_object(
                   'task_id', l.task_id, 'task_name', t.name, 'queue_name', t.queue, 'attempt', l.attempt,
                   'run_s', extract(epoch from (select absurd.clock()) - l.started_at), 'progress', l.progress,
                   'message', l.message, 'cancel_requested', l.cancel) order by l.claim), '[]')
        from absurd.lease l cross join lateral (
            select x.queue, x.name from absurd.task x where x.task_id = l.task_id limit 1) t
        where l.worker_id = w.worker_id) as tasks
from absurd.worker w order by w.started_at, w.worker_id
"""
HEALTH = """
select absurd.clock() as at, (select m.schema_version from absurd.meta m) as schema_version,
       obj_description('absurd'::regnamespace, 'pg_namespace') as made_of,
       (select count(*) from absurd.ready r where $1::text is null or r.queue = $1) as queue_depth,
       (select extract(epoch from absurd.clock() - min(v.since))::float8 from absurd.live v
        where v.state = 'pending' and ($1::text is null or v.queue = $1)) as oldest_pending_s,
       (select count(*) from absurd.live v where v.state = 'claimed' and ($1::text is null or v.queue = $1)) as running,
       (select count(*) from absurd.dead d where $1::text is null or d.queue = $1) as dead,
       (select greatest(extract(epoch from (select absurd.clock()) - s.minute)::float8 - 60, 0) from absurd.stats s
        where s.completed > 0 and s.minute > (select absurd.clock()) - interval '7 days'
          and ($1::text is null or s.queue = $1)
        order by s.minute desc limit 1) as last_completed_s,
       array(select q.name from absurd.queue q
             where q.paused and ($1::text is null or q.name = $1) order by 1) as paused
"""
DEAD = """
select d.queue, count(*) as n, extract(epoch from absurd.clock() - min(d.died_at))::float8 as oldest_s
from absurd.dead d group by d.queue
"""
COUNTERS = "select c.name, c.value from absurd.counter c order by c.name"
QUEUES = """
select q.name as queue_name, q.paused, q.rate_per_s, q.burst, q.ageing_s from absurd.queue q
where $1::text is null or q.name = $1 order by q.name
"""
KEYS = """
select c.queue as queue_name, c.key, c.max_running, c.running,
       (select count(*) from absurd.parked p where p.queue = c.queue and p.conc_key = c.key) as parked
from absurd.conc c where $1::text is null or c.queue = $1 order by c.queue, c.key
"""
INSTALLED = "select m.schema_version, m.installed_at from absurd.meta m"

# One task or workflow, by an abbreviation of its id: between two ids, ending as said.
FIND_TASKS = """
select t.task_id as id from absurd.task t
where t.task_id between $1 and $2 and ($3 = '' or t.task_id::text like '%' || $3) order by t.task_id limit 2
"""
FIND_WORKFLOWS = """
select w.workflow_id as id from absurd.workflow w
where w.workflow_id between $1 and $2 and ($3 = '' or w.workflow_id::text like '%' || $3) order by 1 limit 2
"""
FIND_DEAD = """
select d.task_id as id from absurd.dead d
where d.task_id between $1 and $2 and ($3 = '' or d.task_id::text like '%' || $3) order by 1 limit 2
"""
ATTEMPTS = """
select a.attempt, a.worker_id, a.started_at, a.finished_at, a.reason, a.error,
       extract(epoch from a.finished_at - a.started_at)::float8 as run_s
from absurd.attempt a where a.task_id = $1 order by a.claim
"""
RELATIVES = """
select 'parent' as kind, e.policy, t.task_id, t.task_name, t.status, t.error
from absurd.edge e join absurd.tasks t on t.task_id = e.parent where e.child = $1
union all
select 'child', e.policy, t.task_id, t.task_name, t.status, t.error
from absurd.edge e join absurd.tasks t on t.task_id = e.child where e.parent = $1 order by 1 desc, 3
"""
EDGES = """
select e.parent, e.child, e.policy from absurd.edge e join absurd.task t on t.task_id = e.child
where t.workflow_id = $1 order by e.child, e.parent
"""
