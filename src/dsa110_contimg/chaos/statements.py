"""What a campaign asks of the server besides the queue's own calls."""

#: A session's clock runs `chaos.skew_s` seconds ahead; installed only when clocks are to be skewed.
SKEWED_CLOCK = """
create or replace function absurd.clock() returns timestamptz language sql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$
    select coalesce(nullif(current_setting('absurd.fake_now', true), '')::timestamptz,
                    clock_timestamp() + make_interval(
                        secs => coalesce(nullif(current_setting('chaos.skew_s', true), ''), '0')::float8))
$$
"""
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
     + (select count(*) from absurd.later) + (select count(*) from absurd.lease)
"""
CLAIM_COST = "explain (analyze, buffers, format json) select * from absurd.claim_task('chaos', 'chaos-probe', 1)"
SPAWN_PROBE = "select absurd.spawn_task($1, 'probe')"

JOURNAL = """
select n, extract(epoch from at)::float8 as at, xid, what, task_id::text as task_id, claim, attempt, worker, outcome, by
from chaos.journal order by n
"""
TASKS = """
select to_jsonb(v) - 'params' - 'result' || jsonb_build_object(
           'conc_key', to_jsonb(t)->'conc_key', 'idem_key', to_jsonb(t)->'idem_key',
           'max_crashes', to_jsonb(t)->'max_crashes') as row
from absurd.tasks v join absurd.task t on t.task_id = v.task_id
"""
ATTEMPTS = """
select task_id::text as task_id, attempt, claim, worker_id, reason, extract(epoch from finished_at)::float8 as finished
from absurd.attempt
"""
EDGES = "select parent::text as parent, child::text as child, policy from absurd.edge"
