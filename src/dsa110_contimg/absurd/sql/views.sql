-- What people and programs read.

create or replace view absurd.tasks as
select t.task_id, t.queue as queue_name, t.name as task_name, t.params, -t.rank as priority,
       case when t.outcome is not null then t.outcome
            when l.task_id is not null then 'claimed'
            when r.task_id is not null then 'pending'
            when w.task_id is not null then case w.why when 'retry' then 'retrying' else 'scheduled' end
            when k.task_id is not null then 'parked'
            when b.task_id is not null then 'blocked'
            else 'lost' end as status,                                     -- 'lost' is impossible, and would be visible
       l.worker_id, coalesce(t.attempts, l.attempt, r.attempt, w.attempt, k.attempt, 0) as attempt,
       t.max_attempts - 1 as max_retries, t.timeout_s as timeout_sec, t.workflow_id, t.created_at,
       coalesce(l.started_at, t.started_at) as claimed_at, t.finished_at as completed_at, w.run_at as retry_at, t.result,
       t.error as error_detail,
       case when t.error is not null then concat_ws(': ', t.error->>'type', t.error->>'message')
            when w.why = 'retry' then (select concat_ws(': ', a.error->>'type', a.error->>'message')
                                       from absurd.attempt a where a.task_id = t.task_id order by a.claim desc limit 1)
       end as error,
       case when t.outcome = 'completed' then 1.0 else l.progress end as progress, l.message as progress_message,
       coalesce(l.cancel, false) as cancel_requested, t.run_at, t.idem_key as idempotency_key,
       t.conc_key as concurrency_key, t.fair_key, t.headers, t.max_crashes
from absurd.task t
left join absurd.lease l on l.task_id = t.task_id
left join absurd.ready r on r.task_id = t.task_id
left join absurd.later w on w.task_id = t.task_id
left join absurd.parked k on k.task_id = t.task_id
left join absurd.blocked b on b.task_id = t.task_id;

-- Every task that is not in exactly one place: empty, at any moment.
create or replace view absurd.misplaced as
select t.task_id, t.outcome, places.n
from absurd.task t
cross join lateral (
    select (select count(*) from absurd.blocked x where x.task_id = t.task_id)
         + (select count(*) from absurd.ready x where x.task_id = t.task_id)
         + (select count(*) from absurd.later x where x.task_id = t.task_id)
         + (select count(*) from absurd.parked x where x.task_id = t.task_id)
         + (select count(*) from absurd.lease x where x.task_id = t.task_id) as n) places
where places.n <> (t.outcome is null)::integer;

-- The histogram of times. The bucket of a time follows from its logarithm to the base of the square root of 2, from 1 ms:
-- 2 / ln(2) = 2.885… steps.
create or replace function absurd.histogram(p_times_s double precision[]) returns integer[] language sql immutable
set search_path = pg_catalog, absurd, pg_temp
as $$
    select array_agg(coalesce(x.n, 0) order by b.i)
    from generate_series(1, 48) b(i) left join (
        select 1 + least(47, greatest(0, floor(2.8853900817779268::float8 * ln(greatest(t, 0.001) / 0.001))::integer)) as i,
               count(*)::integer as n
        from unnest(p_times_s) t group by 1) x on x.i = b.i
$$;

create or replace view absurd.tallied as
select t.queue, t.name, date_trunc('minute', t.at) as minute, count(*)::integer as completed,
       sum(greatest(u.wait_s, 0)) as wait_s, sum(greatest(u.run_s, 0)) as run_s,
       absurd.histogram(array_agg(u.wait_s)) as wait_hist, absurd.histogram(array_agg(u.run_s)) as run_hist
from absurd.tally t cross join unnest(t.wait_s, t.run_s) u(wait_s, run_s) group by 1, 2, 3;

-- All statistics, to the last flush.
create or replace view absurd.stats as
select s.queue, s.name, s.minute, s.completed, s.failed, s.cancelled, s.skipped, s.wait_s, s.run_s, s.retried, s.timed_out,
       s.crashed, s.wait_hist, s.run_hist
from absurd.stat s
union all
select t.queue, t.name, t.minute, t.completed, 0, 0, 0, t.wait_s, t.run_s, 0, 0, 0, t.wait_hist, t.run_hist
from absurd.tallied t;

create or replace function absurd.get_queue_stats(p_queue text)
returns table (queue_name text, pending bigint, claimed bigint, completed bigint, failed bigint, cancelled bigint,
               retrying bigint, blocked bigint, skipped bigint, scheduled bigint, parked bigint)
language sql stable security definer set search_path = pg_catalog, absurd, pg_temp
as $$
    select p_queue,
           (select count(*) from ready r where r.queue = p_queue),
           (select count(*) from lease l join task t on t.task_id = l.task_id where t.queue = p_queue),
           coalesce(sum(s.completed), 0), coalesce(sum(s.failed), 0), coalesce(sum(s.cancelled), 0),
           w.retrying,
           (select count(*) from blocked b join task t on t.task_id = b.task_id where t.queue = p_queue),
           coalesce(sum(s.skipped), 0), w.scheduled,
           (select count(*) from parked k where k.queue = p_queue)
    from (select count(*) filter (where l.why = 'retry') as retrying, count(*) filter (where l.why <> 'retry') as scheduled
          from later l join task t on t.task_id = l.task_id where t.queue = p_queue) w
         left join stats s on s.queue = p_queue
    group by w.retrying, w.scheduled
$$;
