"""What a campaign asks of the server besides the queue's own calls."""

SET_CONCURRENCY = "select absurd.set_concurrency($1, $2, $3)"
TRUE_CLOCK = "select extract(epoch from clock_timestamp())::float8"
CUT_SESSIONS = """
select count(pg_terminate_backend(pid)) from (
    select pid from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and application_name like 'absurd%'
    order by random() limit $1) chosen
"""
STALE_FLUSH = """
select verdict = 'completed'
from absurd.flush('ghost', array[$1::uuid], array[$2::bigint], array['{"claim": -1}'::jsonb], '{}', 0)
"""
STALE_BEAT = """
select bool_and(verdict not in ('lost', 'unknown')) from absurd.heartbeat('ghost', array[$2::bigint], 10)
where $1::uuid is not null
"""
HOLDERS = "select distinct worker_id from absurd.lease"
OLD_CLAIMS = "select task_id, claim from chaos.journal where what = 'unleased' order by random() limit $1"
TASKS_THERE = "select count(*) from absurd.task"
MISPLACED = "select count(*) from absurd.misplaced"
LIVE = """
select (select count(*) from absurd.blocked) + (select count(*) from absurd.ready)
     + (select count(*) from absurd.later) + (select count(*) from absurd.parked) + (select count(*) from absurd.lease)
"""
CLAIM_COST = "explain (analyze, buffers, format json) select * from absurd.claim_task('chaos', 'chaos-probe', 1)"
SPAWN_PROBE = "select absurd.spawn_task($1, 'probe')"

JOURNAL = """
select n, extract(epoch from at)::float8 as at, xid, what, task_id::text as task_id, claim, attempt, worker, outcome, by
from chaos.journal order by n
"""
TASKS = """
select to_jsonb(v) - array['params', 'result', 'error_detail', 'headers'] as row from absurd.tasks v
"""
ATTEMPTS = """
select task_id::text as task_id, attempt, claim, worker_id, reason, extract(epoch from finished_at)::float8 as finished
from absurd.attempt
"""
EDGES = "select parent::text as parent, child::text as child, policy from absurd.edge"
PERMITS = """
select c.queue, c.key, c.max_running, c.running,
       (select count(*) from absurd.ready r where r.queue = c.queue and r.conc_key = c.key)
       + (select count(*) from absurd.lease l where l.conc_key = c.key) as counted
from absurd.conc c
"""

REGISTER_PROBE = "select absurd.register_worker('chaos-probe', 'here', 1, array['chaos-probe'], 10)"
SPAWN_PROBES = "select absurd.spawn_task('chaos-probe', 'probe') from generate_series(1, $1)"
PROBE_CLAIMS = "select task_id, claim from absurd.lease where worker_id = 'chaos-probe'"
FLUSH_PROBE = """
select count(*) from absurd.flush('chaos-probe', $1::uuid[], $2::bigint[],
    array_fill('{}'::jsonb, array[cardinality($1)]), array['chaos-probe'], 0)
"""
FLUSH_COST = """
explain (analyze, buffers, format json)
select * from absurd.flush('chaos-probe', $1::uuid[], $2::bigint[],
    array_fill('{}'::jsonb, array[cardinality($1)]), array['chaos-probe'], $3)
"""

#: A session's time runs `chaos.speed` times as fast since `chaos.base` (s since 1970); only schedulers' sessions do so.
FAST_CLOCK = """
create or replace function absurd.clock() returns timestamptz language sql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$
    select coalesce(nullif(current_setting('absurd.fake_now', true), '')::timestamptz,
                    case when coalesce(current_setting('chaos.speed', true), '') = '' then clock_timestamp()
                         else to_timestamp(b.base + (extract(epoch from clock_timestamp()) - b.base)
                                                    * current_setting('chaos.speed')::float8) end)
    from (select nullif(current_setting('chaos.base', true), '')::float8 as base) b
$$
"""
TICKS = """
select c.name, extract(epoch from x.at)::float8 as fire_at,
       (select count(*) from absurd.fire f where f.name = c.name and f.fire_at = x.at) as fires,
       (select count(*) from absurd.task t where t.headers->>'schedule' = c.name
                                             and (t.headers->>'fire_at')::timestamptz = x.at) as tasks
from absurd.cron c cross join generate_series($1::timestamptz, c.next_at - interval '1 min', interval '1 min') x(at)
"""
