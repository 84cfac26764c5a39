"""What a campaign asks of the server besides the queue's own calls."""

TRUE_CLOCK = "select extract(epoch from clock_timestamp())::float8"
CUT_SESSIONS = """
select count(pg_terminate_backend(pid)) from (
    select pid from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and application_name like 'absurd%'
    order by random() limit $1) chosen
"""
OLD_CLAIMS = "select task_id, claim from chaos.journal where what = 'unleased' order by random() limit $1"
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
