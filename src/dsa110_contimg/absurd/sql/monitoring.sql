-- What the queue says about itself. Python reads it through `statements/monitoring.py`.

create index if not exists stat_minute on absurd.stat (minute, shard);

-- How often something happened that never should, and was put right.
create table if not exists absurd.counter (
    name  text primary key,
    value bigint not null
);

create table if not exists absurd.stat_fold (
    one       boolean primary key default true check (one),
    folded_to timestamptz not null
);

create or replace function absurd.count_repairs(p_name text, p_n integer) returns void language sql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$
    insert into counter as c (name, value) select p_name, p_n where p_n > 0
    on conflict (name) do update set value = c.value + excluded.value
$$;

-- Every task that has not ended, with its state, and of those that wait for a worker or run, since when.
-- The place of a task with a fair_key may be a time to come: of these the time counts at which they were spawned.
-- The wide rows are looked up one by one (`limit` keeps the planner to that), so that the tasks that have ended cost nothing.
create or replace view absurd.live as
select r.queue, r.name, 'pending' as state, r.task_id,
       case when r.run_at <= (select absurd.clock()) then r.run_at
            else (select t.created_at from absurd.task t where t.task_id = r.task_id) end as since
from absurd.ready r
union all
select t.queue, t.name, 'claimed', l.task_id, l.started_at
from absurd.lease l cross join lateral (
    select x.queue, x.name from absurd.task x where x.task_id = l.task_id limit 1) t
union all
select t.queue, t.name, case w.why when 'retry' then 'retrying' else 'scheduled' end, w.task_id, null
from absurd.later w cross join lateral (
    select x.queue, x.name from absurd.task x where x.task_id = w.task_id limit 1) t
union all
select p.queue, p.name, 'parked', p.task_id, null from absurd.parked p
union all
select t.queue, t.name, 'blocked', b.task_id, null
from absurd.blocked b cross join lateral (
    select x.queue, x.name from absurd.task x where x.task_id = b.task_id limit 1) t;

-- The sum of histograms, which are the rows of p_all.
create or replace function absurd.sum_histograms(p_all integer[]) returns integer[] language sql immutable
set search_path = pg_catalog, absurd, pg_temp
as $$
    select array_agg(x.n order by x.i)
    from (select i, sum(p_all[r][i])::integer as n
          from generate_subscripts(p_all, 1) r cross join generate_subscripts(p_all, 2) i group by i) x
$$;

-- Count what flushes have noted. Both halves see the same rows of `tally`: they are one statement, and the caller, the
-- reaper, is alone.
create or replace function absurd.count_tallies() returns void language sql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$
    with gone as (delete from tally)
    insert into stat as s (queue, name, minute, shard, completed, wait_s, run_s, wait_hist, run_hist)
    select t.queue, t.name, t.minute, 0, t.completed, t.wait_s, t.run_s, t.wait_hist, t.run_hist
    from tallied t order by t.queue, t.name, t.minute
    on conflict (queue, name, minute, shard) do update
    set completed = s.completed + excluded.completed, wait_s = s.wait_s + excluded.wait_s, run_s = s.run_s + excluded.run_s,
        wait_hist = sum_histograms(array[s.wait_hist, excluded.wait_hist]),
        run_hist = sum_histograms(array[s.run_hist, excluded.run_hist])
$$;

-- Fold old statistics: those older than an hour into rows of five minutes, those older than eight days into one row for
-- each queue and task name, at minute '-infinity'. So the totals stay true, and reading them stays cheap.
create or replace function absurd.fold_stats() returns integer language plpgsql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_bound timestamptz := date_bin('5 minutes', clock() - interval '1 hour', 'epoch');
    v_count integer;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('absurd.fold_stats', 0))
       or v_bound <= (select folded_to from stat_fold) then
        return 0;
    end if;
    insert into stat_fold as f (folded_to) values (v_bound) on conflict (one) do update set folded_to = excluded.folded_to;
    with old as (
        delete from stat s
        where s.minute > '-infinity' and s.minute < v_bound
          and (s.shard <> 0 or s.minute <> date_bin('5 minutes', s.minute, 'epoch') or s.minute < v_bound - interval '8 days')
        returning s.*),
    folded as (
        insert into stat as s (queue, name, minute, shard, completed, failed, cancelled, skipped, retried, timed_out,
                               crashed, wait_s, run_s, wait_hist, run_hist)
        select o.queue, o.name, x.step, 0, sum(o.completed), sum(o.failed), sum(o.cancelled), sum(o.skipped),
               sum(o.retried), sum(o.timed_out), sum(o.crashed), sum(o.wait_s), sum(o.run_s),
               sum_histograms(array_agg(coalesce(o.wait_hist, x.none))),
               sum_histograms(array_agg(coalesce(o.run_hist, x.none)))
        from old o cross join lateral (
            select case when o.minute < v_bound - interval '8 days' then '-infinity'
                        else date_bin('5 minutes', o.minute, 'epoch') end, array_fill(0, array[48])) x(step, none)
        group by o.queue, o.name, x.step
        on conflict (queue, name, minute, shard) do update
        set completed = s.completed + excluded.completed, failed = s.failed + excluded.failed,
            cancelled = s.cancelled + excluded.cancelled, skipped = s.skipped + excluded.skipped,
            retried = s.retried + excluded.retried, timed_out = s.timed_out + excluded.timed_out,
            crashed = s.crashed + excluded.crashed, wait_s = s.wait_s + excluded.wait_s, run_s = s.run_s + excluded.run_s,
            wait_hist = sum_histograms(array[s.wait_hist, excluded.wait_hist]),
            run_hist = sum_histograms(array[s.run_hist, excluded.run_hist])
        returning 1)
    select count(*) into v_count from folded;
    return v_count;
end $$;
