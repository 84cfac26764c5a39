-- The worker's calls: claim, complete, fail and what lies between.

-- Complete what has ended and claim for the slots that are free: the one statement of a busy worker.
--
-- p_tasks, p_claims, p_results: completions, each accepted under the current claim of its task only. p_queues, p_limit:
-- the queues take turns in handing out up to p_limit tasks, of the names given (null = any).
-- Returns a row 'completed' or 'stale' for each completion and a row 'claimed' for each new claim.
create or replace function absurd.flush(
    p_worker text, p_tasks uuid[], p_claims bigint[], p_results jsonb[], p_queues text[], p_limit integer,
    p_names text[] default null)
returns table (verdict text, task_id uuid, claim bigint, attempt integer, crashes integer, queue text, name text,
               params jsonb, headers jsonb, workflow_id uuid, timeout_s double precision)
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_now   timestamptz := clock();
    v_heard boolean;
    v_set   boolean;
    v_done  uuid[];
begin
    select exists (select from audience where until > clock_timestamp()),
           cardinality(p_queues) > 1 or exists (select from queue q where q.name = any(p_queues))
    into v_heard, v_set;
    if cardinality(p_tasks) > 0 then
        v_done := complete_claims(p_tasks, p_claims, p_results, v_now);
        return query select case when g.task_id = any(v_done) then 'completed' else 'stale' end, g.task_id, g.claim,
                            null::integer, null::integer, null, null, null::jsonb, null::jsonb, null::uuid, null::float8
                     from unnest(p_tasks, p_claims) g(task_id, claim);
    end if;
    if p_limit > 0 then
        if v_set then
            return query select * from claim_in_turn(p_worker, p_queues, p_limit, p_names, v_now);
        else
            return query select * from claim_ready(p_worker, p_queues[1], p_limit, p_names, v_now);
        end if;
    end if;
    if v_heard then
        perform tell_flush(p_worker, v_done, v_now);
    end if;
end $$;

-- Claim from several queues in turn. A paused queue hands out nothing, one with a rate what its bucket holds.
create or replace function absurd.claim_in_turn(
    p_worker text, p_queues text[], p_limit integer, p_names text[], p_now timestamptz)
returns table (verdict text, task_id uuid, claim bigint, attempt integer, crashes integer, queue text, name text,
               params jsonb, headers jsonb, workflow_id uuid, timeout_s double precision)
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_count  integer := cardinality(p_queues);
    v_first  integer := floor(random() * v_count);  -- another one is the first each time
    v_queues text[] := p_queues[v_first + 1:] || p_queues[:v_first];
    v_free   integer[];
    v_left   integer := p_limit;
    v_take   integer;
    v_got    integer;
    n        integer;
begin
    perform 1 from queue q where q.name = any(p_queues) and q.rate_per_s is not null order by q.name for update;
    v_free := array(select allowance(x.name, p_limit, p_now) from unnest(v_queues) with ordinality x(name, i) order by x.i);
    -- First an even share of each, then what the others had no tasks for.
    for i in 0..2 * v_count - 1 loop
        n := i % v_count + 1;
        v_take := least(v_free[n], ceil(v_left::float8 / greatest(v_count - i, 1)));
        if v_take > 0 then
            return query select * from claim_ready(p_worker, v_queues[n], v_take, p_names, p_now);
            get diagnostics v_got = row_count;
            v_left := v_left - v_got;
            v_free[n] := case when v_got < v_take then 0 else v_free[n] - v_got end;
            update queue q set tokens = q.tokens - v_got
            where q.name = v_queues[n] and q.rate_per_s is not null and v_got > 0;
        end if;
        exit when v_left = 0;
    end loop;
end $$;

-- Claim up to p_limit ready tasks of one queue: one index scan, whatever the statistics say (they are often those of an
-- empty table). The scan goes on where the last one of this session ended, because what lies before is mostly what has
-- been claimed already, and as long as somebody holds an old snapshot it can't be cleaned away. Once in
-- absurd.rescan_s (default 1) seconds, and whenever nothing is found, it begins at the front: there lie retries and
-- tasks of a higher priority that have come since.
create or replace function absurd.claim_ready(
    p_worker text, p_queue text, p_limit integer, p_names text[], p_now timestamptz)
returns table (verdict text, task_id uuid, claim bigint, attempt integer, crashes integer, queue text, name text,
               params jsonb, headers jsonb, workflow_id uuid, timeout_s double precision)
language plpgsql set search_path = pg_catalog, absurd, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_name  text := 'absurd.seen_' || md5(p_queue);
    v_place text[] := nullif(current_setting(v_name, true), '');  -- rank, run_at, task_id, when the scan was begun (s)
    v_now_s double precision := date_part('epoch', clock_timestamp());
    v_begun text := v_place[4];
    v_rank  integer := -2147483648;
    v_at    timestamptz := '-infinity';
    v_task  uuid := '00000000-0000-0000-0000-000000000000';
begin
    if v_begun::float8 > v_now_s - coalesce(nullif(current_setting('absurd.rescan_s', true), '')::float8, 1) then
        v_rank := v_place[1];
        v_at := v_place[2];
        v_task := v_place[3];
    else
        v_begun := v_now_s;
    end if;
    loop
        return query
        with c as materialized (
            select r.task_id, r.rank, r.run_at, r.attempt, r.crashes, r.conc_key from ready r
            where r.queue = p_queue and (r.rank, r.run_at, r.task_id) > (v_rank, v_at, v_task)
              and (p_names is null or r.name = any(p_names))
            order by r.rank, r.run_at, r.task_id limit p_limit for update skip locked),
        noted as materialized (
            select set_config(v_name, array[c.rank::text, c.run_at::text, c.task_id::text, v_begun]::text, false)
            from c order by c.rank desc, c.run_at desc, c.task_id desc limit 1),
        -- Not by ctid: a row that was aged since the snapshot is found by the version that the snapshot sees.
        gone as (delete from ready r using c where r.task_id between c.task_id and c.task_id),
        picked as materialized (
            select c.*, nextval('absurd.claim_number') as claim, t.name, t.params, t.headers, t.workflow_id, t.timeout_s,
                   t.created_at
            from c join task t on t.task_id between c.task_id and c.task_id),
        held as (
            insert into lease (task_id, claim, attempt, crashes, worker_id, started_at, deadline, ready_at, conc_key)
            select p.task_id, p.claim, p.attempt + 1, p.crashes, p_worker, p_now,
                   p_now + make_interval(secs => p.timeout_s),
                   case when p.run_at > p_now then p.created_at else p.run_at end, p.conc_key
            from picked p)
        select 'claimed', p.task_id, p.claim, p.attempt + 1, p.crashes, p_queue, p.name, p.params, p.headers,
               p.workflow_id, p.timeout_s
        from noted, picked p order by p.claim;
        exit when found or v_at = '-infinity';
        v_rank := -2147483648;
        v_at := '-infinity';
        v_begun := v_now_s;
    end loop;
end $$;

-- Record results under the claims of their tasks, and return the tasks whose claim was current. A task without
-- children and concurrency key is done after the one statement.
create or replace function absurd.complete_claims(
    p_tasks uuid[], p_claims bigint[], p_results jsonb[], p_now timestamptz) returns uuid[]
language plpgsql set search_path = pg_catalog, absurd, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_done    uuid[];
    v_parents uuid[];
    v_back    uuid[];
    v_locked  boolean := false;
begin
    loop
        -- A parent whose completion skips children waits until their families are locked: then it does it all again.
        with given as materialized (
            select * from unnest(p_tasks, p_claims, p_results) g(task_id, claim, result)
            where v_locked or not exists (select from edge e where e.parent = any(p_tasks) and e.policy = 'failure')
            order by g.task_id),
        gone as (
            delete from lease l using given g where l.task_id between g.task_id and g.task_id and l.claim = g.claim
            returning l.task_id, l.attempt, l.started_at, l.ready_at, l.conc_key, g.result),
        done as (
            update task t set outcome = 'completed', finished_at = p_now, started_at = g.started_at,
                   attempts = g.attempt, result = g.result, error = null
            from gone g where t.task_id between g.task_id and g.task_id
            returning t.task_id, t.queue, t.name, t.has_children, g.conc_key, g.ready_at, g.started_at),
        counted as (
            insert into tally (queue, name, at, wait_s, run_s)
            select d.queue, d.name, p_now, array_agg(date_part('epoch', d.started_at - d.ready_at)),
                   array_agg(date_part('epoch', p_now - d.started_at))
            from done d group by d.queue, d.name)
        select array_agg(d.task_id), array_agg(d.task_id) filter (where d.has_children),
               array_agg(d.task_id) filter (where d.conc_key is not null)
        into v_done, v_parents, v_back from done d;
        exit when v_done is not null or v_locked
               or not exists (select from edge e where e.parent = any(p_tasks) and e.policy = 'failure');
        perform 1 from lease l join unnest(p_tasks, p_claims) g(task_id, claim)
                on g.task_id = l.task_id and g.claim = l.claim order by l.task_id for update of l;
        perform lock_families(p_tasks, array_fill('completed'::text, array[cardinality(p_tasks)]));
        v_locked := true;
    end loop;
    if v_parents is not null or v_back is not null then
        perform admit(settle(coalesce(v_parents, '{}')), null, null, coalesce(v_back, '{}'));
    end if;
    return v_done;
end $$;

-- Claim tasks of one queue, for psql, tests and other languages: always from the front.
create or replace function absurd.claim_task(
    p_queue text, p_worker text, p_limit integer default 1, p_names text[] default null)
returns table (task_id uuid, claim bigint, attempt integer, name text, params jsonb, workflow_id uuid,
               timeout_s double precision, headers jsonb)
language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$
    select set_config('absurd.rescan_s', '0', true);  -- no SET clause: only a superuser may make a function with one
    select c.task_id, c.claim, c.attempt, c.name, c.params, c.workflow_id, c.timeout_s, c.headers
    from flush(p_worker, '{}', '{}', '{}', array[p_queue], p_limit, p_names) c
$$;

-- Record a result under its claim. False: the claim is not current, nothing was written.
create or replace function absurd.complete_task(p_task uuid, p_claim bigint, p_result jsonb) returns boolean
language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$ select c.verdict = 'completed' from flush('', array[p_task], array[p_claim], array[p_result], '{}', 0) c $$;

-- Record a failed attempt under its claim: retrying, failed or cancelled; null: the claim is not current.
-- p_error: {"type", "types", "message", "reason", ...}; reason is error, timeout or crashed. p_retryable: whether the
-- error may pass; null: the task's retry_on and dead_on decide. p_after_s: when to try again, instead of the back-off.
create or replace function absurd.fail_task(
    p_task uuid, p_claim bigint, p_error jsonb, p_retryable boolean default null, p_after_s double precision default null)
returns text language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    l lease;
begin
    delete from lease where task_id = p_task and claim = p_claim returning * into l;
    if not found then
        return null;
    end if;
    return (end_attempts(array[l], array[p_error], p_retryable, p_after_s, null))[1];
end $$;

-- Try again after p_after_s seconds, without counting the attempt. False: the claim is not current.
create or replace function absurd.snooze_task(p_task uuid, p_claim bigint, p_after_s double precision) returns boolean
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    l lease;
begin
    delete from lease where task_id = p_task and claim = p_claim returning * into l;
    if not found then
        return false;
    elsif l.cancel then
        perform end_attempts(array[l], array['{"type": "Snoozed", "message": "it was to run later"}'::jsonb], false, null, null);
        return true;
    end if;
    perform put_off(p_task, clock() + make_interval(secs => p_after_s), l.attempt - 1, l.crashes, 'snooze', null);
    if l.conc_key is not null then
        perform admit('{}', null, null, array[p_task]);
    end if;
    return true;
end $$;

-- Give a task back without counting the attempt (soft stop). False: the claim is not current.
create or replace function absurd.release_task(p_task uuid, p_claim bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    l lease;
begin
    delete from lease where task_id = p_task and claim = p_claim returning * into l;
    if found then
        perform release_leases(array[l]);
    end if;
    return l.task_id is not null;
end $$;

-- The same for leases that the caller has just deleted. One that was to be cancelled is.
create or replace function absurd.release_leases(p_leases absurd.lease[]) returns void
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    perform put_back(array_agg(l.task_id), array_agg(l.attempt - 1), array_agg(l.crashes), array_agg(l.conc_key))
    from unnest(p_leases) l where not l.cancel having count(*) > 0;
    perform end_attempts(array_agg(l), array_fill('{"type": "Stopped", "message": "the worker stopped"}'::jsonb,
                                                  array[count(*)::integer]), false, null, null)
    from unnest(p_leases) l where l.cancel having count(*) > 0;
end $$;

-- Note how far a task is. False: the claim is not current.
create or replace function absurd.report_progress(p_task uuid, p_claim bigint, p_progress double precision, p_message text)
returns boolean language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    update lease set progress = p_progress, message = left(p_message, 300) where task_id = p_task and claim = p_claim;
    if found then
        perform announce(array[p_task], 'claimed',
                         jsonb_strip_nulls(jsonb_build_object('progress', p_progress, 'message', left(p_message, 300))));
        return true;
    end if;
    return false;
end $$;
