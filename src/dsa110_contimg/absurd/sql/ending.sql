-- How attempts and tasks end, and what that does to the tasks that depend on them.

-- Seconds until the next attempt after p_failures failures: exponential with full jitter and a cap.
create or replace function absurd.backoff(p_failures integer, p_retry jsonb) returns double precision
language sql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
    select random() * least(coalesce((p_retry->>'cap_s')::float8, 300),
                            coalesce((p_retry->>'base_s')::float8, 2) * 2 ^ least(greatest(p_failures - 1, 0), 30))
$$;

-- Whether an error may pass: by its type, or one of the types above it ("types"), against the names in the task's
-- "dead_on" and "retry_on". Without either, every error may.
create or replace function absurd.may_pass(p_retry jsonb, p_error jsonb) returns boolean language sql immutable
set search_path = pg_catalog, absurd, pg_temp
as $$
    select not coalesce(p_retry->'dead_on' ?| e.types, false)
           and (coalesce(jsonb_array_length(nullif(p_retry->'retry_on', 'null')), 0) = 0 or p_retry->'retry_on' ?| e.types)
    from (select array_remove(array(select jsonb_array_elements_text(
        case when jsonb_typeof(p_error->'types') = 'array' then p_error->'types' else '[]' end))
        || (p_error->>'type'), null) as types) e
$$;

-- Whether a parent that ended this way makes it impossible for the child to run.
create or replace function absurd.breaks(p_policy text, p_outcome text) returns boolean language sql immutable
set search_path = pg_catalog, absurd, pg_temp
as $$
    select case p_policy when 'done' then false
                         when 'success' then p_outcome <> 'completed'
                         else p_outcome <> 'failed' end
$$;

create or replace function absurd.cancelled(p_last jsonb) returns jsonb language sql immutable
set search_path = pg_catalog, absurd, pg_temp
as $$
    select jsonb_build_object('type', 'Cancelled', 'reason', 'cancelled', 'message', 'cancelled by user', 'last', p_last)
$$;

-- Lock, in the order of task_id, tasks and every task that would be skipped if they ended in these ways.
create or replace function absurd.lock_families(p_tasks uuid[], p_outcomes text[]) returns void language plpgsql
set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    perform 1 from task where task_id = any(array(
        with recursive hit(task_id) as (
            select e.child
            from unnest(p_tasks, p_outcomes) x(task_id, outcome) join edge e on e.parent between x.task_id and x.task_id
            where not e.consumed and breaks(e.policy, x.outcome)
            union
            select e.child from hit h join edge e on e.parent between h.task_id and h.task_id
            where not e.consumed and breaks(e.policy, 'skipped'))
        select unnest(p_tasks) union all select h.task_id from hit h))
    order by task_id for update;
end $$;

-- Count an end (or, with -1, a revival) of tasks that were not completed in a flush.
create or replace function absurd.count_ends(p_tasks uuid[], p_sign integer) returns void language sql
set search_path = pg_catalog, absurd, pg_temp
as $$
    insert into stat as s (queue, name, minute, shard, completed, failed, cancelled, skipped)
    select t.queue, t.name, date_trunc('minute', clock()), pg_backend_pid(),
           p_sign * count(*) filter (where t.outcome = 'completed'), p_sign * count(*) filter (where t.outcome = 'failed'),
           p_sign * count(*) filter (where t.outcome = 'cancelled'), p_sign * count(*) filter (where t.outcome = 'skipped')
    from task t where t.task_id = any(p_tasks) and t.outcome is not null
    group by t.queue, t.name
    on conflict (queue, name, minute, shard) do update
    set completed = s.completed + excluded.completed, failed = s.failed + excluded.failed,
        cancelled = s.cancelled + excluded.cancelled, skipped = s.skipped + excluded.skipped
$$;

-- Count attempts that did not succeed: those that are tried again, those out of time, those whose worker died.
create or replace function absurd.count_attempts(p_tasks uuid[], p_verdicts text[], p_reasons text[]) returns void
language sql set search_path = pg_catalog, absurd, pg_temp
as $$
    insert into stat as s (queue, name, minute, shard, retried, timed_out, crashed)
    select t.queue, t.name, date_trunc('minute', clock()), pg_backend_pid(),
           count(*) filter (where x.verdict in ('retrying', 'pending')), count(*) filter (where x.reason = 'timeout'),
           count(*) filter (where x.reason = 'crashed')
    from unnest(p_tasks, p_verdicts, p_reasons) x(task_id, verdict, reason)
         join task t on t.task_id between x.task_id and x.task_id
    group by t.queue, t.name
    on conflict (queue, name, minute, shard) do update
    set retried = s.retried + excluded.retried, timed_out = s.timed_out + excluded.timed_out,
        crashed = s.crashed + excluded.crashed
$$;

-- Tell the children of ended tasks: skip those that cannot run any more, go on with the children of the skipped, and
-- return those that waited for nothing else and now stand in no table: the caller admits them.
--
-- It must be a statement of its own after the one that ended the parents: a completion that had to wait for the row of
-- its task, because somebody was spawning a child of it, sees the new edge only in a later snapshot.
-- Two last parents that end together meet at the child's row in `blocked`; each consumes its own edges only. All the
-- rows of `blocked` that it will touch, level by level, are locked before, in the order of task_id: two sessions whose
-- levels cross would else wait for each other.
create or replace function absurd.settle(p_parents uuid[]) returns uuid[] language plpgsql
set search_path = pg_catalog, absurd, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_front    uuid[] := p_parents;
    v_freed    uuid[];
    v_skipped  uuid[];
    v_released uuid[] := '{}';
begin
    perform 1 from blocked where task_id = any(array(
        with recursive ended(task_id, outcome) as (
            select p.task_id, p.outcome from task p where p.task_id = any(p_parents)
            union
            select e.child, 'skipped' from ended p join edge e on e.parent between p.task_id and p.task_id
            where not e.consumed and breaks(e.policy, p.outcome))
        select e.child from ended p join edge e on e.parent between p.task_id and p.task_id where not e.consumed))
    order by task_id for update;

    while cardinality(v_front) > 0 loop
        with used as (
            update edge e set consumed = true from task p
            where e.parent = any(v_front) and not e.consumed and p.task_id between e.parent and e.parent
                  and p.outcome is not null
            returning e.child, breaks(e.policy, p.outcome) as broken),
        told as (select u.child, count(*) as n, bool_or(u.broken) as broken from used u group by u.child),
        rest as (
            update blocked b set remaining = b.remaining - t.n from told t where b.task_id between t.child and t.child
            returning b.task_id, b.remaining, t.broken)
        select coalesce(array_agg(r.task_id) filter (where not r.broken and r.remaining <= 0), '{}'),
               coalesce(array_agg(r.task_id) filter (where r.broken), '{}')
        into v_freed, v_skipped from rest r;

        delete from blocked where task_id = any(v_freed || v_skipped);
        v_released := v_released || v_freed;
        update task set outcome = 'skipped', finished_at = clock(), attempts = 0, result = null,
               error = jsonb_build_object('type', 'Skipped', 'reason', 'skipped',
                                          'message', 'a task that this one depends on did not end as needed')
        where task_id = any(v_skipped);
        perform count_ends(v_skipped, 1);
        perform announce(v_skipped, 'skipped');
        v_front := v_skipped;
    end loop;
    return v_released;
end $$;

-- Write the end, other than by completion, of tasks that have just been taken out of their narrow tables and whose
-- families are locked. Returns the tasks that this set free.
create or replace function absurd.finish(
    p_tasks uuid[], p_outcomes text[], p_errors jsonb[], p_attempts integer[], p_started timestamptz[])
returns uuid[] language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_now     timestamptz := clock();
    v_parents uuid[];
begin
    if cardinality(p_tasks) = 0 then
        return '{}';
    end if;
    with done as (
        update task t set outcome = x.outcome, finished_at = v_now, started_at = x.started_at, attempts = x.attempts,
               result = null, error = x.error
        from unnest(p_tasks, p_outcomes, p_errors, p_attempts, p_started) x(task_id, outcome, error, attempts, started_at)
        where t.task_id between x.task_id and x.task_id returning t.*),
    copied as (
        insert into dead as d (task_id, queue, name, params, rank, max_attempts, timeout_s, retry, workflow_id, created_at,
                               died_at, reason, error, attempts, conc_key, fair_key, headers, max_crashes)
        select t.task_id, t.queue, t.name, t.params, t.rank, t.max_attempts, t.timeout_s, t.retry, t.workflow_id,
               t.created_at, t.finished_at, coalesce(t.error->>'reason', 'error'), coalesce(t.error, '{}'), t.attempts,
               t.conc_key, t.fair_key, t.headers, t.max_crashes
        from done t where t.outcome = 'failed'
        on conflict (task_id) do update
        set died_at = excluded.died_at, reason = excluded.reason, error = excluded.error, attempts = excluded.attempts)
    select coalesce(array_agg(d.task_id) filter (where d.has_children), '{}') into v_parents from done d;
    perform count_ends(p_tasks, 1);
    perform announce(array(select x.task_id from unnest(p_tasks, p_outcomes) x(task_id, outcome) where x.outcome = o),
                     o) from (values ('failed'), ('cancelled')) ends(o);
    return case when cardinality(v_parents) > 0 then settle(v_parents) else '{}' end;
end $$;

-- End attempts whose leases the caller has just deleted; p_errors: one for each. p_after_s: when to try again, instead of
-- the back-off. p_max_crashes: the workers died, and a task that has now lost so many of them is poison; null: they
-- reported this themselves. Returns what became of each: cancelled, failed, retrying, or pending (at once again).
create or replace function absurd.end_attempts(
    p_leases absurd.lease[], p_errors jsonb[], p_retryable boolean, p_after_s double precision, p_max_crashes integer)
returns text[] language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_now      timestamptz := clock();
    v_verdicts text[];
    v_freed    uuid[] := '{}';
    v_back     uuid[];
begin
    select array_agg(case
               when l.cancel then 'cancelled'
               when p_max_crashes is not null then
                   case when l.crashes + 1 >= coalesce(t.max_crashes, p_max_crashes) then 'failed' else 'pending' end
               when not coalesce(p_retryable, may_pass(t.retry, p_errors[l.ordinality::int])) or l.attempt - l.crashes >= t.max_attempts
                   then 'failed'
               else 'retrying' end order by l.ordinality)
    into v_verdicts
    from unnest(p_leases) with ordinality l
         join task t on t.task_id between l.task_id and l.task_id;

    insert into attempt (task_id, attempt, claim, worker_id, started_at, finished_at, reason, error)
    select l.task_id, l.attempt, l.claim, l.worker_id, l.started_at, v_now,
           case when l.cancel then 'cancelled' else coalesce(p_errors[l.ordinality::int]->>'reason', 'error') end,
           coalesce(p_errors[l.ordinality::int], '{}')
    from unnest(p_leases) with ordinality l;
    perform count_attempts(array_agg(l.task_id order by l.ordinality), v_verdicts,
                           array_agg(case when not l.cancel then p_errors[l.ordinality::int]->>'reason' end order by l.ordinality))
    from unnest(p_leases) with ordinality l;

    if v_verdicts && array['failed', 'cancelled'] then
        perform lock_families(array_agg(l.task_id), array_agg(v_verdicts[l.ordinality::int]))
        from unnest(p_leases) with ordinality l
        where v_verdicts[l.ordinality::int] in ('failed', 'cancelled');
        select finish(array_agg(l.task_id), array_agg(v_verdicts[l.ordinality::int]),
                      array_agg(case when l.cancel then cancelled(p_errors[l.ordinality::int]) else p_errors[l.ordinality::int] end),
                      array_agg(l.attempt), array_agg(l.started_at))
        into v_freed
        from unnest(p_leases) with ordinality l
        where v_verdicts[l.ordinality::int] in ('failed', 'cancelled');
    end if;
    perform put_off(l.task_id, v_now + make_interval(secs => coalesce(p_after_s,
                    (select backoff(l.attempt - l.crashes, t.retry) from task t where t.task_id = l.task_id))),
                    l.attempt, l.crashes, 'retry', p_errors[l.ordinality::int])
    from unnest(p_leases) with ordinality l
    where v_verdicts[l.ordinality::int] = 'retrying';
    perform put_back(array_agg(l.task_id), array_agg(l.attempt), array_agg(l.crashes + 1), array_agg(l.conc_key))
    from unnest(p_leases) with ordinality l
    where v_verdicts[l.ordinality::int] = 'pending' having count(*) > 0;
    select coalesce(array_agg(l.task_id), '{}') into v_back
    from unnest(p_leases) with ordinality l
    where l.conc_key is not null and v_verdicts[l.ordinality::int] <> 'pending';
    if cardinality(v_freed || v_back) > 0 then
        perform admit(v_freed, null, null, v_back);
    end if;
    return v_verdicts;
end $$;

-- A task that stands in no table waits until p_at.
create or replace function absurd.put_off(
    p_task uuid, p_at timestamptz, p_attempt integer, p_crashes integer, p_why text, p_error jsonb) returns void
language sql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
    insert into later (run_at, task_id, attempt, crashes, why) values (p_at, p_task, p_attempt, p_crashes, p_why);
    select announce(array[p_task], case p_why when 'retry' then 'retrying' else 'scheduled' end,
                    jsonb_strip_nulls(jsonb_build_object('attempt', p_attempt, 'error', left(p_error->>'message', 300))));
$$;

-- Tasks that were claimed are ready again at once; they keep their permits.
create or replace function absurd.put_back(p_tasks uuid[], p_attempts integer[], p_crashes integer[], p_keys text[])
returns void language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    insert into ready (queue, rank, run_at, task_id, name, attempt, crashes, conc_key)
    select t.queue, t.rank, clock(), t.task_id, t.name, x.attempt, x.crashes, x.conc_key
    from unnest(p_tasks, p_attempts, p_crashes, p_keys) x(task_id, attempt, crashes, conc_key)
         join task t on t.task_id between x.task_id and x.task_id;
    perform wake(array(select distinct t.queue from task t where t.task_id = any(p_tasks)));
    perform announce(p_tasks, 'pending');
end $$;
