-- Spawning tasks.

-- Spawn tasks. Each element of p_nodes: {task_id, queue, name, params, priority, timeout_s, max_attempts, max_crashes,
-- retry: {base_s, cap_s, retry_on, dead_on}, workflow_id, depends_on: [{task_id, policy}], run_at, idempotency_key,
-- idempotency_ttl_s, concurrency_key, fair_key, headers}. A task may depend on tasks that exist and on earlier elements,
-- so a cycle cannot be stored. Returns one row for each element in their order: a task_id that exists already is left
-- alone, so the call can be repeated after a lost answer; for an idempotency key that exists, task_id is that task's.
create or replace function absurd.spawn_tasks(p_nodes jsonb) returns table (task_id uuid, created boolean)
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_now    timestamptz := clock();
    v_nodes  jsonb := p_nodes;
    v_deps   boolean;
    v_inside uuid[];
    v_before uuid[];
    v_new    uuid[];
    v_keyed  uuid[];
    v_queues text[];
    v_bad    text;
    v_from   uuid[] := '{}';
    v_to     uuid[] := '{}';
begin
    if p_nodes @? '$[*].idempotency_key ? (@ != null)' then
        select coalesce(array_agg(k.task_id), '{}'), coalesce(array_agg(k.existing), '{}') into v_from, v_to
        from reserve_keys(p_nodes) k;
        if cardinality(v_from) > 0 then
            v_nodes := without_existing(p_nodes, v_from, v_to);
        end if;
    end if;
    v_deps := v_nodes @? '$[*].depends_on[*].task_id';
    if v_deps then
        select p.inside, p.before into v_inside, v_before from lock_parents(v_nodes) p;
    end if;

    with made as (
        insert into task as t (task_id, queue, name, params, rank, max_attempts, timeout_s, retry, workflow_id,
                               has_children, created_at, run_at, idem_key, conc_key, fair_key, headers, max_crashes)
        select n.task_id, n.queue, n.name, coalesce(n.params, '{}'), -coalesce(n.priority, 0),
               coalesce(n.max_attempts, 4), n.timeout_s, n.retry, n.workflow_id,
               v_inside is not null and n.task_id in (select unnest(v_inside)), v_now, n.run_at,
               n.idempotency_key, n.concurrency_key, n.fair_key, n.headers, n.max_crashes
        from jsonb_to_recordset(v_nodes) n(task_id uuid, queue text, name text, params jsonb, priority integer,
             timeout_s float8, max_attempts integer, retry jsonb, workflow_id uuid, run_at timestamptz,
             idempotency_key text, concurrency_key text, fair_key text, headers jsonb, max_crashes integer)
        order by n.task_id
        on conflict (task_id) do nothing
        returning t.task_id, t.queue, t.rank, t.name, t.conc_key is null and t.fair_key is null
                  and (t.run_at is null or t.run_at <= v_now) and not v_deps as plain,
                  t.queue <> '' and t.name <> '' and t.max_attempts > 0 and coalesce(t.timeout_s, 1) > 0
                  and coalesce(t.max_crashes, 1) > 0 as right),
    put as (
        insert into ready (queue, rank, run_at, task_id, name, attempt, crashes)
        select m.queue, m.rank, v_now, m.task_id, m.name, 0, 0 from made m where m.plain)
    select coalesce(array_agg(m.task_id), '{}'), array_agg(m.task_id) filter (where not m.plain),
           array_agg(distinct m.queue) filter (where m.plain), min(format('%s (%s)', m.name, m.task_id)) filter (where not m.right)
    into v_new, v_keyed, v_queues, v_bad from made m;
    if v_bad is not null then
        raise exception using errcode = 'check_violation', message = format(
            'task %s: give a queue, a name, and max_attempts, timeout_s and max_crashes greater than 0', v_bad);
    end if;

    if v_deps then
        perform admit(attach(v_nodes, v_new, v_before));
    else
        perform wake(v_queues);
        if heard() then
            perform announce(array(select unnest(v_new) except select unnest(v_keyed)), 'pending');
        end if;
        if v_keyed is not null then
            perform admit(v_keyed);
        end if;
    end if;
    if cardinality(v_new) = 1 and jsonb_array_length(p_nodes) = 1 then
        return query select v_new[1], true;  -- the usual call pays for no joins
        return;
    end if;
    return query
        select coalesce(e.existing, n.id), e.existing is null and m.id is not null
        from (select (x.n->>'task_id')::uuid as id, x.i from jsonb_array_elements(p_nodes) with ordinality x(n, i)) n
             left join (select distinct f.id, f.existing from unnest(v_from, v_to) f(id, existing)) e on e.id = n.id
             left join unnest(v_new) m(id) on m.id = n.id
        order by n.i;
end $$;

-- Lock the tasks that nodes depend on: one that is completing now waits for this transaction or has ended before it, so
-- no wake-up falls between. Refuses dependencies on what neither exists nor stands earlier in the list. Returns the
-- parents among the nodes, and those that were there before.
create or replace function absurd.lock_parents(p_nodes jsonb, out inside uuid[], out before uuid[])
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_bad text;
begin
    select array_agg(l.task_id) into before
    from (select t.task_id from task t where t.task_id = any(array(
              select d.task_id from jsonb_array_elements(p_nodes) n, jsonb_to_recordset(n->'depends_on') d(task_id uuid)))
          order by t.task_id for update) l;

    with node as materialized (
        select (n->>'task_id')::uuid as id, n->>'name' as name, n->'depends_on' as deps, i
        from jsonb_array_elements(p_nodes) with ordinality x(n, i)),
    dep as materialized (
        select c.id, c.name, d.task_id as parent, p.i < c.i as earlier
        from node c cross join jsonb_to_recordset(c.deps) d(task_id uuid) left join node p on p.id = d.task_id)
    select array_agg(distinct d.parent) filter (where d.earlier),
           min(format('task %s (%s) depends on %s, which is neither a task of the queue nor earlier in the list',
                      d.name, d.id, d.parent))
               filter (where not coalesce(d.earlier, d.parent in (select unnest(before)))
                       and not exists (select from task t where t.task_id = d.id))
    into inside, v_bad from dep d;
    if v_bad is not null then
        raise exception using errcode = 'foreign_key_violation', message = v_bad;
    end if;
end $$;

-- Attach new tasks (p_new, of p_nodes) to their parents, of which p_before are older and locked; returns those that wait
-- for nothing.
create or replace function absurd.attach(p_nodes jsonb, p_new uuid[], p_before uuid[]) returns uuid[]
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_blocked uuid[];
    v_ended   uuid[];
begin
    with new as materialized (select unnest(p_new) as id),
    made as (
        insert into edge (parent, child, policy)
        select d.task_id, n.id, coalesce(d.policy, 'success')
        from (select (x->>'task_id')::uuid as id, x->'depends_on' as deps from jsonb_array_elements(p_nodes) x) n
             join new on new.id = n.id
             cross join jsonb_to_recordset(n.deps) d(task_id uuid, policy text)
        on conflict do nothing  -- two of its parents are one task, by an idempotency key
        returning child),
    waiting as (
        insert into blocked (task_id, remaining) select m.child, count(*) from made m group by m.child order by m.child
        returning task_id)
    select coalesce(array_agg(w.task_id), '{}') into v_blocked from waiting w;
    perform announce(v_blocked, 'blocked');

    update task t set has_children = true where t.task_id = any(p_before) and not t.has_children;
    v_ended := array(select t.task_id from task t where t.task_id = any(p_before) and t.outcome is not null);
    return array(select unnest(p_new) except select unnest(v_blocked)) || settle(v_ended);
end $$;

-- Spawn one task, for psql and other languages. Returns its id, or that of the task that has the idempotency key.
create or replace function absurd.spawn_task(
    p_queue text, p_name text, p_params jsonb default '{}', p_priority integer default 0,
    p_timeout_s double precision default null, p_max_retries integer default 3, p_depends_on uuid[] default '{}',
    p_workflow_id uuid default null, p_task_id uuid default null, p_run_at timestamptz default null,
    p_idempotency_key text default null, p_concurrency_key text default null, p_fair_key text default null,
    p_headers jsonb default null)
returns uuid language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$
    select s.task_id from spawn_tasks(jsonb_build_array(jsonb_build_object(
        'task_id', coalesce(p_task_id, new_id()), 'queue', p_queue, 'name', p_name, 'params', p_params,
        'priority', p_priority, 'timeout_s', p_timeout_s, 'max_attempts', p_max_retries + 1, 'workflow_id', p_workflow_id,
        'depends_on', (select coalesce(jsonb_agg(jsonb_build_object('task_id', d)), '[]') from unnest(p_depends_on) d),
        'run_at', p_run_at, 'idempotency_key', p_idempotency_key, 'concurrency_key', p_concurrency_key,
        'fair_key', p_fair_key, 'headers', p_headers))) s
$$;

-- Spawn the tasks of a workflow and the workflow itself.
create or replace function absurd.spawn_workflow(p_workflow uuid, p_name text, p_metadata jsonb, p_nodes jsonb)
returns table (task_id uuid, created boolean)
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    insert into workflow (workflow_id, name, metadata, created_at) values (p_workflow, p_name, p_metadata, clock())
    on conflict (workflow_id) do nothing;
    return query select * from spawn_tasks(p_nodes);
end $$;

-- Spawn many tasks that differ in nothing but id and parameters (JSON): the fast way for those without parents, keys and
-- a time of their own. p_like: {queue, name, priority, timeout_s, max_attempts, max_crashes, retry, workflow_id,
-- headers}. Returns the ids that were new.
create or replace function absurd.spawn_batch(p_tasks uuid[], p_params text[], p_like jsonb) returns uuid[]
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_now   timestamptz := clock();
    v_queue text := p_like->>'queue';
    v_name  text := p_like->>'name';
    v_rank  integer := -coalesce((p_like->>'priority')::integer, 0);
    v_new   uuid[];
begin
    if not coalesce(v_queue <> '' and v_name <> '' and coalesce((p_like->>'max_attempts')::integer, 1) > 0
                    and coalesce((p_like->>'timeout_s')::float8, 1) > 0
                    and coalesce((p_like->>'max_crashes')::integer, 1) > 0, false) then
        raise exception using errcode = 'check_violation', message = format(
            'tasks like %s: give a queue, a name, and max_attempts, timeout_s and max_crashes greater than 0', p_like);
    end if;
    -- No `on conflict`: it would note each row twice in the write-ahead log. Who meets the same spawn half done sees it whole
    -- the second time.
    for v_round in 1..2 loop
        begin
            with made as (
                insert into task as t (task_id, queue, name, params, rank, max_attempts, timeout_s, retry, workflow_id,
                                       has_children, created_at, headers, max_crashes)
                select n.id, v_queue, v_name, n.params::jsonb, v_rank, coalesce((p_like->>'max_attempts')::integer, 4),
                       (p_like->>'timeout_s')::float8, nullif(p_like->'retry', 'null'), (p_like->>'workflow_id')::uuid,
                       false, v_now, nullif(p_like->'headers', 'null'), (p_like->>'max_crashes')::integer
                from unnest(p_tasks, p_params) n(id, params)
                where not exists (select from task x where x.task_id = n.id)
                order by n.id
                returning t.task_id),
            put as (
                insert into ready (queue, rank, run_at, task_id, name, attempt, crashes)
                select v_queue, v_rank, v_now, m.task_id, v_name, 0, 0 from made m)
            select coalesce(array_agg(m.task_id), '{}') into v_new from made m;
            exit;
        exception when unique_violation then
            if v_round = 2 then
                raise;
            end if;
        end;
    end loop;
    perform wake(array[v_queue]);
    perform announce(v_new, 'pending');
    return v_new;
end $$;
