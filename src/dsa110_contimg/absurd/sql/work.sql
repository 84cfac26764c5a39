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
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_done uuid[];
begin
    if cardinality(p_tasks) > 0 then
        v_done := complete_claims(p_tasks, p_claims, p_results);
        return query select case when g.task_id = any(v_done) then 'completed' else 'stale' end, g.task_id, g.claim,
                            null::integer, null::integer, null, null, null::jsonb, null::jsonb, null::uuid, null::float8
                     from unnest(p_tasks, p_claims) g(task_id, claim);
    end if;
    if p_limit > 0 then
        return query select 'claimed', c.* from claim_from(p_worker, p_queues, p_limit, p_names) c;
    end if;
end $$;

-- Claim from several queues in turn. A paused queue hands out nothing, one with a rate what its bucket holds.
create or replace function absurd.claim_from(p_worker text, p_queues text[], p_limit integer, p_names text[])
returns table (task_id uuid, claim bigint, attempt integer, crashes integer, queue text, name text, params jsonb,
               headers jsonb, workflow_id uuid, timeout_s double precision)
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_queues text[] := p_queues;
    v_count  integer := cardinality(p_queues);
    v_free   integer[];
    v_left   integer := p_limit;
    v_take   integer;
    v_got    integer;
    v_set    boolean;
begin
    if v_count > 1 then  -- another one is the first each time
        v_got := floor(random() * v_count);
        v_queues := p_queues[v_got + 1:] || p_queues[:v_got];
    end if;
    v_set := exists (select from queue q where q.name = any(p_queues));
    if v_set then
        perform 1 from queue q where q.name = any(p_queues) and q.rate_per_s is not null order by q.name for update;
        v_free := array(select allowance(x.name, p_limit) from unnest(v_queues) with ordinality x(name, i) order by x.i);
    else
        v_free := array_fill(p_limit, array[v_count]);
    end if;
    -- First an even share of each, then what the others had no tasks for.
    for i in 0..2 * v_count - 1 loop
        v_take := least(v_free[i % v_count + 1], ceil(v_left::float8 / greatest(v_count - i, 1)));
        if v_take > 0 then
            return query select c.* from claim_ready(p_worker, v_queues[i % v_count + 1], v_take, p_names) c;
            get diagnostics v_got = row_count;
            v_left := v_left - v_got;
            if v_set and v_got > 0 then
                update queue q set tokens = q.tokens - v_got where q.name = v_queues[i % v_count + 1] and q.rate_per_s is not null;
            end if;
            v_free[i % v_count + 1] := case when v_got < v_take then 0 else v_free[i % v_count + 1] - v_got end;
        end if;
        exit when v_left = 0;
    end loop;
end $$;

-- Claim up to p_limit ready tasks of one queue: one index scan, whatever the statistics say (they are often those of an
-- empty table). The scan goes on where the last one of this session ended, because what lies before is mostly what has
-- been claimed already, and as long as somebody holds an old snapshot it can't be cleaned away. Once in
-- absurd.rescan_s (default 1) seconds, and whenever nothing is found, it begins at the front: there lie retries and
-- tasks of a higher priority that have come since.
create or replace function absurd.claim_ready(p_worker text, p_queue text, p_limit integer, p_names text[])
returns table (task_id uuid, claim bigint, attempt integer, crashes integer, queue text, name text, params jsonb,
               headers jsonb, workflow_id uuid, timeout_s double precision)
language plpgsql set search_path = pg_catalog, absurd, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_now   timestamptz := clock();
    v_name  text := 'absurd.place_' || md5(p_queue);
    v_place text[] := nullif(current_setting(v_name, true), '')::text[];  -- rank, run_at, task_id, when it was begun
    v_rank  integer;
    v_at    timestamptz;
    v_task  uuid;
begin
    if v_place[4]::timestamptz > clock_timestamp() - make_interval(
            secs => coalesce(nullif(current_setting('absurd.rescan_s', true), '')::float8, 1)) then
        v_rank := v_place[1];
        v_at := v_place[2];
        v_task := v_place[3];
    end if;
    loop
        if v_rank is null then
            v_place := array['', '', '', clock_timestamp()::text];
        end if;
        return query
        with c as materialized (
            select r.task_id, r.rank, r.run_at, r.attempt, r.crashes, r.conc_key from ready r
            where r.queue = p_queue
              and (r.rank, r.run_at, r.task_id) > (coalesce(v_rank, -2147483648), coalesce(v_at, '-infinity'),
                                                   coalesce(v_task, '00000000-0000-0000-0000-000000000000'))
              and (p_names is null or r.name = any(p_names))
            order by r.rank, r.run_at, r.task_id limit p_limit for update skip locked),
        noted as materialized (
            select set_config(v_name, array[c.rank::text, c.run_at::text, c.task_id::text, v_place[4]]::text, false)
            from c order by c.rank desc, c.run_at desc, c.task_id desc limit 1),
        gone as (delete from ready r using c where r.task_id = c.task_id),
        picked as materialized (
            select c.*, nextval('absurd.claim_number') as claim, t.name, t.params, t.headers, t.workflow_id, t.timeout_s,
                   t.created_at
            from c join task t on t.task_id = c.task_id),
        held as (
            insert into lease (task_id, claim, attempt, crashes, worker_id, started_at, deadline, ready_at, conc_key)
            select p.task_id, p.claim, p.attempt + 1, p.crashes, p_worker, v_now,
                   v_now + make_interval(secs => p.timeout_s),
                   case when p.run_at > v_now then p.created_at else p.run_at end, p.conc_key
            from picked p)
        select p.task_id, p.claim, p.attempt + 1, p.crashes, p_queue, p.name, p.params, p.headers, p.workflow_id,
               p.timeout_s
        from noted, picked p order by p.claim;
        exit when found or v_rank is null;
        v_rank := null;
        v_at := null;
        v_task := null;
    end loop;
    if heard() then
        perform announce(array(select l.task_id from lease l where l.worker_id = p_worker and l.started_at = v_now),
                         'claimed');
    end if;
end $$;

-- Record results under the claims of their tasks, and return the tasks whose claim was current. A task without
-- children and concurrency key is done after the one statement.
create or replace function absurd.complete_claims(p_tasks uuid[], p_claims bigint[], p_results jsonb[]) returns uuid[]
language plpgsql set search_path = pg_catalog, absurd, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_now     timestamptz := clock();
    v_done    uuid[];
    v_parents uuid[];
    v_back    uuid[];
begin
    if exists (select from edge e where e.parent = any(p_tasks) and e.policy = 'failure') then
        perform 1 from lease l join unnest(p_tasks, p_claims) g(task_id, claim)
                on g.task_id = l.task_id and g.claim = l.claim order by l.task_id for update of l;
        perform lock_families(p_tasks, array_fill('completed'::text, array[cardinality(p_tasks)]));
    end if;
    with given as materialized (
        select * from unnest(p_tasks, p_claims, p_results) g(task_id, claim, result) order by g.task_id),
    gone as (
        delete from lease l using given g where l.task_id = g.task_id and l.claim = g.claim
        returning l.task_id, l.attempt, l.started_at, l.ready_at, l.conc_key, g.result),
    done as (
        update task t set outcome = 'completed', finished_at = v_now, started_at = g.started_at, attempts = g.attempt,
               result = g.result, error = null
        from gone g where t.task_id = g.task_id
        returning t.task_id, t.queue, t.name, t.has_children, g.conc_key,
                  greatest(0, extract(epoch from g.started_at - g.ready_at))::float8 as wait_s,
                  greatest(0, extract(epoch from v_now - g.started_at))::float8 as run_s),
    counted as (
        insert into stat as s (queue, name, minute, shard, completed, wait_s, run_s, wait_hist, run_hist)
        select d.queue, d.name, date_trunc('minute', v_now), pg_backend_pid(), count(*), sum(d.wait_s), sum(d.run_s),
               histogram(array_agg(d.wait_s)), histogram(array_agg(d.run_s))
        from done d group by d.queue, d.name
        on conflict (queue, name, minute, shard) do update
        set completed = s.completed + excluded.completed, wait_s = s.wait_s + excluded.wait_s,
            run_s = s.run_s + excluded.run_s, wait_hist = add_histograms(s.wait_hist, excluded.wait_hist),
            run_hist = add_histograms(s.run_hist, excluded.run_hist))
    select coalesce(array_agg(d.task_id), '{}'), array_agg(d.task_id) filter (where d.has_children),
           coalesce(array_agg(d.task_id) filter (where d.conc_key is not null), '{}')
    into v_done, v_parents, v_back from done d;
    perform announce(v_done, 'completed');
    if v_parents is not null or cardinality(v_back) > 0 then
        perform admit(settle(coalesce(v_parents, '{}')), null, null, v_back);
    end if;
    return v_done;
end $$;

-- How many of these times (s) lie in each bucket: see the table `stat`.
create or replace function absurd.histogram(p_seconds double precision[]) returns integer[]
language plpgsql immutable set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_hist integer[] := array_fill(0, array[48]);
    v_i    integer;
    v_s    double precision;
begin
    foreach v_s in array p_seconds loop
        v_i := case when v_s <= 0.001 then 1 else least(48, 1 + floor(2 * ln(v_s / 0.001) / ln(2.0::float8))::integer) end;
        v_hist[v_i] := v_hist[v_i] + 1;
    end loop;
    return v_hist;
end $$;

create or replace function absurd.add_histograms(p_one integer[], p_other integer[]) returns integer[]
language sql immutable set search_path = pg_catalog, absurd, pg_temp
as $$
    select coalesce(p_one, p_other)
    where p_one is null or p_other is null
    union all
    select array_agg(x.a + x.b order by x.i)
    from unnest(p_one, p_other) with ordinality x(a, b, i) where p_one is not null and p_other is not null
    having count(*) > 0
$$;

-- Claim tasks of one queue, for psql, tests and other languages: always from the front.
create or replace function absurd.claim_task(
    p_queue text, p_worker text, p_limit integer default 1, p_names text[] default null)
returns table (task_id uuid, claim bigint, attempt integer, name text, params jsonb, workflow_id uuid,
               timeout_s double precision, headers jsonb)
language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp set absurd.rescan_s = '0'
as $$
    select c.task_id, c.claim, c.attempt, c.name, c.params, c.workflow_id, c.timeout_s, c.headers
    from claim_from(p_worker, array[p_queue], p_limit, p_names) c
$$;

-- Record a result under its claim. False: the claim is not current, nothing was written.
create or replace function absurd.complete_task(p_task uuid, p_claim bigint, p_result jsonb) returns boolean
language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$ select cardinality(complete_claims(array[p_task], array[p_claim], array[p_result])) > 0 $$;

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
