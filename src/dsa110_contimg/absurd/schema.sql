-- ABSURD: the durable task queue. Tables, and every transition of a task.
--
-- The promise: a committed task is never lost; it is claimed by one worker at a time; it runs at least once; its
-- completion is recorded exactly once, by the holder of the current claim.
--
-- The life of a task
--
--     spawn ──► blocked ──────► ready ──claim──► lease ──complete──► task.outcome = completed
--                  │              ▲                │
--                  │ a parent     │ back-off over  ├─ fail, attempts left ──► later
--                  │ ended so     ├─ later ◄───────┤
--                  │ that it      │                ├─ fail, none left ──────► task.outcome = failed, copy in dead
--                  │ cannot run   ├─ soft stop ◄───┤
--                  ▼              └─ worker lost ◄─┴─ cancel ───────────────► task.outcome = cancelled
--           task.outcome = skipped
--
-- A task that is not over stands in exactly one of the narrow tables blocked, ready, later, lease; its wide row in
-- `task` is written when it is spawned and once more when it ends. People read the view `absurd.tasks`, where the
-- tables appear as the states blocked, pending, retrying, claimed, and the outcomes completed, failed, cancelled, skipped.
--
-- Order of locks, everywhere: first the rows of `task` in the order of task_id, then the rows of the narrow tables.
-- claim_task, heartbeat, release_task and the promotion of due tasks touch narrow tables only.
--
-- Each statement of these functions must see what was committed while the one before it waited for a lock, so they are
-- VOLATILE and meant for READ COMMITTED (the default of every server).
--
-- This file can be run again at any time: it creates what is missing and replaces the functions.

create schema if not exists absurd;

create table if not exists absurd.meta (
    one            boolean primary key default true check (one),
    schema_version integer not null,
    serves_from    integer not null,             -- the oldest version of the code that works with this schema
    roles          boolean not null,             -- set up with roles: each `init` brings their rights up to date
    installed_at   timestamptz not null default now()
);

-- ------------------------------------------------------------------------------------------------------------ tables

-- Partitioned by the time inside the id (UUIDv7), so that old months can be dropped whole.
create table if not exists absurd.task (
    task_id      uuid primary key,
    queue        text not null check (queue <> ''),
    name         text not null check (name <> ''),
    params       jsonb not null,
    rank         integer not null,               -- = -priority: the claim reads its index forwards
    max_attempts integer not null check (max_attempts > 0),
    timeout_s    double precision check (timeout_s > 0),
    retry        jsonb,                          -- {"base_s", "cap_s"} of the back-off; null = the defaults of backoff()
    workflow_id  uuid,
    has_children boolean not null,               -- false: ending needs no look at `edge`
    created_at   timestamptz not null,
    started_at   timestamptz,                    -- the rest is written at the end
    finished_at  timestamptz,
    outcome      text check (outcome in ('completed', 'failed', 'cancelled', 'skipped')),
    attempts     integer,
    result       jsonb,
    error        jsonb                           -- {"type", "message", "traceback", "reason", ...}
) partition by range (task_id);
create index if not exists task_workflow on absurd.task (workflow_id) where workflow_id is not null;
create table if not exists absurd.task_default partition of absurd.task default with (fillfactor = 80);

create table if not exists absurd.workflow (
    workflow_id uuid primary key,
    name        text not null,
    metadata    jsonb not null,
    created_at  timestamptz not null
);

create table if not exists absurd.edge (
    parent   uuid not null,
    child    uuid not null,
    policy   text not null check (policy in ('success', 'done', 'failure')),
    consumed boolean not null default false,     -- the parent has ended and the child knows it
    primary key (parent, child)
);
create index if not exists edge_child on absurd.edge (child);

create table if not exists absurd.blocked (
    task_id   uuid primary key,
    remaining integer not null                   -- edges not yet consumed
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

create table if not exists absurd.ready (
    queue    text not null,
    rank     integer not null,
    run_at   timestamptz not null,
    task_id  uuid not null unique,
    name     text not null,
    attempt  integer not null,                   -- attempts made so far
    crashes  integer not null,                   -- of these, how many ended with the worker's death
    primary key (queue, rank, run_at, task_id)
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

create table if not exists absurd.later (
    run_at  timestamptz not null,
    task_id uuid not null unique,
    attempt integer not null,
    crashes integer not null,
    why     text not null check (why in ('retry')),
    primary key (run_at, task_id)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

create sequence if not exists absurd.claim_number;

create table if not exists absurd.lease (
    task_id    uuid primary key,
    claim      bigint not null,                  -- the fence: every write of a worker names it
    attempt    integer not null,                 -- this attempt's number, from 1
    crashes    integer not null,
    worker_id  text not null,
    started_at timestamptz not null,
    deadline   timestamptz,
    cancel     boolean not null default false,   -- somebody asked the worker to stop
    progress   double precision,
    message    text
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
create index if not exists lease_worker on absurd.lease (worker_id);
create index if not exists lease_deadline on absurd.lease (deadline);

-- Attempts that did not succeed.
create table if not exists absurd.attempt (
    task_id     uuid not null,
    attempt     integer not null,
    claim       bigint not null,
    worker_id   text not null,
    started_at  timestamptz not null,
    finished_at timestamptz not null,
    reason      text not null,                   -- error | timeout | cancelled | crashed
    error       jsonb not null,
    primary key (task_id, claim)
);

-- The dead letters: full copies, which outlive the rows of `task`.
create table if not exists absurd.dead (
    task_id      uuid primary key,
    queue        text not null,
    name         text not null,
    params       jsonb not null,
    rank         integer not null,
    max_attempts integer not null,
    timeout_s    double precision,
    retry        jsonb,
    workflow_id  uuid,
    created_at   timestamptz not null,
    died_at      timestamptz not null,
    reason       text not null,                  -- error | timeout | crashed
    error        jsonb not null,
    attempts     integer not null
);

-- One row a worker; the beat changes no indexed column (HOT).
create table if not exists absurd.worker (
    worker_id     text primary key,
    host          text not null,
    pid           integer not null,
    queues        text[] not null,
    slots         integer not null,
    started_at    timestamptz not null,
    beat_at       timestamptz not null,
    state         text not null check (state in ('active', 'stopping', 'stopped', 'crashed')),
    locked_at     timestamptz,                   -- when it took its session advisory lock; null = lease only
    unlocked_seen timestamptz                    -- since when the reaper has found that lock free
) with (fillfactor = 50);

-- Ended tasks by minute. `shard` keeps two sessions that finish tasks in the same minute off each other's row.
create table if not exists absurd.stat (
    queue     text not null,
    name      text not null,
    minute    timestamptz not null,
    shard     smallint not null,
    completed integer not null default 0,
    failed    integer not null default 0,
    cancelled integer not null default 0,
    skipped   integer not null default 0,
    wait_s    double precision not null default 0,   -- sums over the completed
    run_s     double precision not null default 0,
    primary key (queue, name, minute, shard)
) with (fillfactor = 70);

-- ------------------------------------------------------------------------------------------------------ small pieces

-- The queue's time: the server's clock, or in a test session the setting absurd.fake_now.
create or replace function absurd.clock() returns timestamptz language sql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$ select coalesce(nullif(current_setting('absurd.fake_now', true), '')::timestamptz, clock_timestamp()) $$;

-- The smallest UUIDv7 of a moment.
create or replace function absurd.first_id(p_at timestamptz) returns uuid language sql immutable
set search_path = pg_catalog, absurd, pg_temp
as $$ select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;

-- A UUIDv7 of now, for callers without their own (psql, other languages).
create or replace function absurd.new_id() returns uuid language sql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$
    select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6),
        52, 1), 53, 1), 'hex')::uuid
$$;

-- Seconds until the next attempt after p_failures failures: exponential with full jitter and a cap.
create or replace function absurd.backoff(p_failures integer, p_retry jsonb) returns double precision
language sql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
    select random() * least(coalesce((p_retry->>'cap_s')::float8, 300),
                            coalesce((p_retry->>'base_s')::float8, 2) * 2 ^ least(greatest(p_failures - 1, 0), 30))
$$;

-- Whether a parent that ended this way makes it impossible for the child to run.
create or replace function absurd.breaks(p_policy text, p_outcome text) returns boolean language sql immutable
set search_path = pg_catalog, absurd, pg_temp
as $$
    select case p_policy when 'done' then false
                         when 'success' then p_outcome <> 'completed'
                         else p_outcome <> 'failed' end
$$;

-- Wake idle workers of these queues. Equal notifications of one transaction are sent once.
create or replace function absurd.wake(p_queues text[]) returns void language sql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$ select pg_notify('absurd_ready', q) from unnest(p_queues) q where q is not null $$;

-- Tell live views what happened to tasks.
create or replace function absurd.announce(p_tasks uuid[], p_status text, p_more jsonb default '{}') returns void
language sql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
    select pg_notify('absurd_event', (jsonb_build_object(
        'type', 'task_update', 'task_id', t.task_id, 'workflow_id', t.workflow_id, 'queue', t.queue, 'name', t.name,
        'status', p_status) || jsonb_strip_nulls(p_more))::text)
    from task t where t.task_id = any(p_tasks)
$$;

-- Months of `task` for now and the next two; a month that cannot be made now is left to the next call, its rows go to
-- the default partition until then.
create or replace function absurd.make_partitions() returns void language plpgsql
set search_path = pg_catalog, absurd, pg_temp set lock_timeout = '2s'
as $$
declare
    v_month timestamptz;
    v_name  text;
begin
    for i in 0..2 loop
        v_month := date_trunc('month', now() at time zone 'UTC') at time zone 'UTC' + make_interval(months => i);
        v_name := 'task_' || to_char(v_month at time zone 'UTC', 'YYYY_MM');
        if to_regclass('absurd.' || v_name) is null then
            begin
                execute format('create table absurd.%I partition of absurd.task for values from (%L) to (%L) '
                               'with (fillfactor = 80)',
                               v_name, absurd.first_id(v_month), absurd.first_id(v_month + interval '1 month'));
            exception when lock_not_available or check_violation or duplicate_table then
                raise notice 'partition % not made: %', v_name, sqlerrm;
            end;
        end if;
    end loop;
end $$;

-- ------------------------------------------------------------------------------------------------------------- ending

-- Lock, in the order of task_id, a task and every task that would be skipped if it ended this way.
create or replace function absurd.lock_family(p_task uuid, p_outcome text) returns void language plpgsql
set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    perform 1 from task where task_id in (
        with recursive hit(task_id) as (
            select e.child from edge e where e.parent = p_task and not e.consumed and breaks(e.policy, p_outcome)
            union
            select e.child from hit h join edge e on e.parent = h.task_id
            where not e.consumed and breaks(e.policy, 'skipped'))
        select p_task union all select h.task_id from hit h)
    order by task_id for update;
end $$;

-- Count an end (or, with -1, a revival) of tasks.
create or replace function absurd.count_ends(p_tasks uuid[], p_sign integer) returns void language sql
set search_path = pg_catalog, absurd, pg_temp
as $$
    insert into stat as s (queue, name, minute, shard, completed, failed, cancelled, skipped, wait_s, run_s)
    select t.queue, t.name, date_trunc('minute', clock()), pg_backend_pid() % 16,
           p_sign * count(*) filter (where t.outcome = 'completed'), p_sign * count(*) filter (where t.outcome = 'failed'),
           p_sign * count(*) filter (where t.outcome = 'cancelled'), p_sign * count(*) filter (where t.outcome = 'skipped'),
           p_sign * coalesce(sum(extract(epoch from t.started_at - t.created_at)) filter (where t.outcome = 'completed'), 0),
           p_sign * coalesce(sum(extract(epoch from t.finished_at - t.started_at)) filter (where t.outcome = 'completed'), 0)
    from task t where t.task_id = any(p_tasks) and t.outcome is not null
    group by t.queue, t.name order by t.queue, t.name
    on conflict (queue, name, minute, shard) do update
    set completed = s.completed + excluded.completed, failed = s.failed + excluded.failed,
        cancelled = s.cancelled + excluded.cancelled, skipped = s.skipped + excluded.skipped,
        wait_s = s.wait_s + excluded.wait_s, run_s = s.run_s + excluded.run_s
$$;

-- Tell the children of ended tasks: release those that waited for nothing else, skip those that cannot run any more,
-- and go on with the children of the skipped.
--
-- It must be a statement of its own after the one that ended the parents: a completion that had to wait for the row of
-- its task, because somebody was spawning a child of it, sees the new edge only in a later snapshot.
-- Two last parents that end together meet at the child's row in `blocked`; each consumes its own edges only.
create or replace function absurd.settle(p_parents uuid[]) returns void language plpgsql
set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_front    uuid[] := p_parents;
    v_released uuid[];
    v_skipped  uuid[];
begin
    while cardinality(v_front) > 0 loop
        perform 1 from blocked where task_id in (
            select e.child from edge e where e.parent = any(v_front) and not e.consumed)
        order by task_id for update;

        with used as (
            update edge e set consumed = true from task p
            where e.parent = any(v_front) and not e.consumed and p.task_id = e.parent and p.outcome is not null
            returning e.child, breaks(e.policy, p.outcome) as broken),
        told as (select u.child, count(*) as n, bool_or(u.broken) as broken from used u group by u.child),
        rest as (
            update blocked b set remaining = b.remaining - t.n from told t where b.task_id = t.child
            returning b.task_id, b.remaining, t.broken)
        select coalesce(array_agg(r.task_id) filter (where not r.broken and r.remaining <= 0), '{}'),
               coalesce(array_agg(r.task_id) filter (where r.broken), '{}')
        into v_released, v_skipped from rest r;

        delete from blocked where task_id = any(v_released || v_skipped);
        perform make_ready(v_released, 0, 0);

        update task set outcome = 'skipped', finished_at = clock(), attempts = 0, result = null,
               error = jsonb_build_object('type', 'Skipped', 'reason', 'skipped',
                                          'message', 'a task that this one depends on did not end as needed')
        where task_id = any(v_skipped);
        perform count_ends(v_skipped, 1);
        perform announce(v_skipped, 'skipped');
        v_front := v_skipped;
    end loop;
end $$;

-- Put tasks that stand in no table into `ready`.
create or replace function absurd.make_ready(p_tasks uuid[], p_attempt integer, p_crashes integer) returns void
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    if cardinality(p_tasks) > 0 then
        insert into ready (queue, rank, run_at, task_id, name, attempt, crashes)
        select t.queue, t.rank, clock(), t.task_id, t.name, p_attempt, p_crashes from task t where t.task_id = any(p_tasks);
        perform wake(array(select distinct t.queue from task t where t.task_id = any(p_tasks)));
        perform announce(p_tasks, 'pending', jsonb_build_object('attempt', p_attempt));
    end if;
end $$;

-- Write the end of a task that has just been taken out of its narrow table.
create or replace function absurd.finish(
    p_task uuid, p_outcome text, p_result jsonb, p_error jsonb, p_attempts integer, p_started timestamptz)
returns void language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    t task%rowtype;
begin
    update task set outcome = p_outcome, finished_at = clock(), started_at = p_started, attempts = p_attempts,
           result = p_result, error = p_error
    where task_id = p_task returning * into t;
    if p_outcome = 'failed' then
        insert into dead (task_id, queue, name, params, rank, max_attempts, timeout_s, retry, workflow_id, created_at,
                          died_at, reason, error, attempts)
        values (t.task_id, t.queue, t.name, t.params, t.rank, t.max_attempts, t.timeout_s, t.retry, t.workflow_id,
                t.created_at, t.finished_at, coalesce(p_error->>'reason', 'error'), p_error, p_attempts)
        on conflict (task_id) do update
        set died_at = excluded.died_at, reason = excluded.reason, error = excluded.error, attempts = excluded.attempts;
    end if;
    perform count_ends(array[p_task], 1);
    perform announce(array[p_task], p_outcome,
                     jsonb_build_object('attempt', p_attempts, 'error', left(p_error->>'message', 300)));
    if t.has_children then
        perform settle(array[p_task]);
    end if;
end $$;

-- ----------------------------------------------------------------------------------------------------------- spawning

-- Spawn tasks. Each element of p_nodes: {task_id, queue, name, params, priority, timeout_s, max_attempts, retry,
-- workflow_id, depends_on: [{task_id, policy}]}. A task may depend on tasks that exist and on earlier elements, so a
-- cycle cannot be stored. A task_id that exists already is left alone: the call can be repeated after a lost answer.
create or replace function absurd.spawn_tasks(p_nodes jsonb) returns table (task_id uuid, created boolean)
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_now     timestamptz := clock();
    v_parents uuid[];
    v_new     uuid[];
    v_free    uuid[];
    v_bad     text;
begin
    select coalesce(array_agg(distinct d.task_id), '{}') into v_parents
    from jsonb_array_elements(p_nodes) n, jsonb_to_recordset(n->'depends_on') d(task_id uuid);

    -- A parent that is completing now waits for this transaction or has ended before it: no wake-up falls between.
    perform 1 from task t where t.task_id = any(v_parents) order by t.task_id for update;

    with node as (
        select (n->>'task_id')::uuid as id, n->>'name' as name, n->'depends_on' as deps, i
        from jsonb_array_elements(p_nodes) with ordinality x(n, i))
    select format('task %s (%s) depends on %s, which is neither a task of the queue nor earlier in the list',
                  c.name, c.id, d.task_id) into v_bad
    from node c cross join jsonb_to_recordset(c.deps) d(task_id uuid)
    where not exists (select from node p where p.id = d.task_id and p.i < c.i)
      and (not exists (select from task t where t.task_id = d.task_id)
           or exists (select from node p where p.id = d.task_id))
      and not exists (select from task t where t.task_id = c.id)
    limit 1;
    if v_bad is not null then
        raise exception using errcode = 'foreign_key_violation', message = v_bad;
    end if;

    with made as (
        insert into task (task_id, queue, name, params, rank, max_attempts, timeout_s, retry, workflow_id, has_children,
                          created_at)
        select n.task_id, n.queue, n.name, coalesce(n.params, '{}'), -coalesce(n.priority, 0),
               coalesce(n.max_attempts, 4), n.timeout_s, n.retry, n.workflow_id, n.task_id = any(v_parents), v_now
        from jsonb_to_recordset(p_nodes) n(task_id uuid, queue text, name text, params jsonb, priority integer,
             timeout_s float8, max_attempts integer, retry jsonb, workflow_id uuid)
        order by n.task_id
        on conflict (task_id) do nothing returning task_id)
    select coalesce(array_agg(m.task_id), '{}') into v_new from made m;

    update task t set has_children = true where t.task_id = any(v_parents) and not t.has_children;

    insert into edge (parent, child, policy)
    select d.task_id, (n->>'task_id')::uuid, coalesce(d.policy, 'success')
    from jsonb_array_elements(p_nodes) n, jsonb_to_recordset(n->'depends_on') d(task_id uuid, policy text)
    where (n->>'task_id')::uuid = any(v_new);

    insert into blocked (task_id, remaining)
    select e.child, count(*) from edge e where e.child = any(v_new) group by e.child order by e.child;
    if cardinality(v_new) <= 100 then
        perform announce(array(select e.child from edge e where e.child = any(v_new) group by e.child), 'blocked');
    end if;

    select coalesce(array_agg(x), '{}') into v_free from unnest(v_new) x
    where not exists (select from edge e where e.child = x);
    perform make_ready(v_free, 0, 0);
    perform settle(array(select t.task_id from task t where t.task_id = any(v_parents) and t.outcome is not null));

    return query select (n->>'task_id')::uuid, (n->>'task_id')::uuid = any(v_new) from jsonb_array_elements(p_nodes) n;
end $$;

-- Spawn one task, for psql and other languages.
create or replace function absurd.spawn_task(
    p_queue text, p_name text, p_params jsonb default '{}', p_priority integer default 0,
    p_timeout_s double precision default null, p_max_retries integer default 3, p_depends_on uuid[] default '{}',
    p_workflow_id uuid default null, p_task_id uuid default null)
returns uuid language sql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
    select s.task_id from spawn_tasks(jsonb_build_array(jsonb_build_object(
        'task_id', coalesce(p_task_id, new_id()), 'queue', p_queue, 'name', p_name, 'params', p_params,
        'priority', p_priority, 'timeout_s', p_timeout_s, 'max_attempts', p_max_retries + 1, 'workflow_id', p_workflow_id,
        'depends_on', (select coalesce(jsonb_agg(jsonb_build_object('task_id', d)), '[]') from unnest(p_depends_on) d)))) s
$$;

-- Spawn the tasks of a workflow and the workflow itself.
create or replace function absurd.spawn_workflow(p_workflow uuid, p_name text, p_metadata jsonb, p_nodes jsonb)
returns table (task_id uuid, created boolean) language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    insert into workflow (workflow_id, name, metadata, created_at) values (p_workflow, p_name, p_metadata, clock())
    on conflict (workflow_id) do nothing;
    return query select * from spawn_tasks(p_nodes);
end $$;

-- ------------------------------------------------------------------------------------------------- the worker's calls

-- Claim up to p_limit ready tasks of a queue, of the names given (null = any). The claim is one index scan, whatever the
-- statistics say: they are often those of an empty table.
create or replace function absurd.claim_task(
    p_queue text, p_worker text, p_limit integer default 1, p_names text[] default null)
returns table (task_id uuid, claim bigint, attempt integer, name text, params jsonb, workflow_id uuid,
               timeout_s double precision)
language plpgsql set search_path = pg_catalog, absurd, pg_temp set enable_seqscan = off set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
begin
    return query
    with c as materialized (
        select r.task_id, r.attempt, r.crashes from ready r
        where r.queue = p_queue and (p_names is null or r.name = any(p_names))
        order by r.rank, r.run_at, r.task_id limit p_limit for update skip locked),
    gone as (delete from ready r using c where r.task_id = c.task_id),
    held as (
        insert into lease as l (task_id, claim, attempt, crashes, worker_id, started_at, deadline)
        select c.task_id, nextval('absurd.claim_number'), c.attempt + 1, c.crashes, p_worker, v_now,
               v_now + make_interval(secs => t.timeout_s)
        from c join task t on t.task_id = c.task_id
        returning l.task_id, l.claim, l.attempt)
    select h.task_id, h.claim, h.attempt, t.name, t.params, t.workflow_id, t.timeout_s
    from held h join task t on t.task_id = h.task_id,
         lateral (select announce(array[h.task_id], 'claimed',
                                  jsonb_build_object('attempt', h.attempt, 'worker_id', p_worker))) told
    order by t.rank, h.claim;
end $$;

-- Record a result under its claim. False: the claim is not current, nothing was written.
create or replace function absurd.complete_task(p_task uuid, p_claim bigint, p_result jsonb) returns boolean
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    l lease%rowtype;
begin
    perform lock_family(p_task, 'completed');
    delete from lease where task_id = p_task and claim = p_claim returning * into l;
    if not found then
        return false;
    end if;
    perform finish(p_task, 'completed', p_result, null, l.attempt, l.started_at);
    return true;
end $$;

-- Record a failed attempt under its claim: retrying, failed or cancelled; null: the claim is not current.
-- p_error: {"type", "message", "reason", ...}; reason is error, timeout or crashed.
create or replace function absurd.fail_task(p_task uuid, p_claim bigint, p_error jsonb, p_retryable boolean default true)
returns text language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    l     lease%rowtype;
    t     task%rowtype;
    v_now timestamptz := clock();
begin
    perform lock_family(p_task, 'failed');
    delete from lease where task_id = p_task and claim = p_claim returning * into l;
    if not found then
        return null;
    end if;
    perform note_attempt(l, case when l.cancel then 'cancelled' else coalesce(p_error->>'reason', 'error') end, p_error);
    if l.cancel then
        perform finish(p_task, 'cancelled', null, cancelled(p_error), l.attempt, l.started_at);
        return 'cancelled';
    end if;
    select * into t from task where task_id = p_task;
    if not p_retryable or l.attempt - l.crashes >= t.max_attempts then
        perform finish(p_task, 'failed', null, p_error, l.attempt, l.started_at);
        return 'failed';
    end if;
    insert into later (run_at, task_id, attempt, crashes, why)
    values (v_now + make_interval(secs => backoff(l.attempt - l.crashes, t.retry)), p_task, l.attempt, l.crashes, 'retry');
    perform announce(array[p_task], 'retrying',
                     jsonb_build_object('attempt', l.attempt, 'error', left(p_error->>'message', 300)));
    return 'retrying';
end $$;

create or replace function absurd.note_attempt(l absurd.lease, p_reason text, p_error jsonb) returns void
language sql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
    insert into attempt (task_id, attempt, claim, worker_id, started_at, finished_at, reason, error)
    values (l.task_id, l.attempt, l.claim, l.worker_id, l.started_at, clock(), p_reason, p_error)
$$;

create or replace function absurd.cancelled(p_last jsonb) returns jsonb language sql immutable
set search_path = pg_catalog, absurd, pg_temp
as $$
    select jsonb_build_object('type', 'Cancelled', 'reason', 'cancelled', 'message', 'cancelled by user', 'last', p_last)
$$;

-- Give a task back without counting the attempt (soft stop). False: the claim is not current.
create or replace function absurd.release_task(p_task uuid, p_claim bigint) returns boolean
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    l lease%rowtype;
begin
    delete from lease where task_id = p_task and claim = p_claim and not cancel returning * into l;
    if found then
        perform make_ready(array[p_task], l.attempt - 1, l.crashes);
        return true;
    end if;
    return fail_task(p_task, p_claim, '{"type": "Stopped", "message": "the worker stopped"}') is not null;
end $$;

-- Note how far a task is. False: the claim is not current.
create or replace function absurd.report_progress(p_task uuid, p_claim bigint, p_progress double precision, p_message text)
returns boolean language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    l lease%rowtype;
begin
    update lease set progress = p_progress, message = left(p_message, 300)
    where task_id = p_task and claim = p_claim returning * into l;
    if not found then
        return false;
    end if;
    perform announce(array[p_task], 'claimed',
                     jsonb_build_object('attempt', l.attempt, 'progress', l.progress, 'message', l.message));
    return true;
end $$;

-- ------------------------------------------------------------------------------------------------------------ workers

create or replace function absurd.register_worker(p_worker text, p_host text, p_pid integer, p_queues text[], p_slots integer)
returns void language sql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
    insert into worker (worker_id, host, pid, queues, slots, started_at, beat_at, state)
    values (p_worker, p_host, p_pid, p_queues, p_slots, clock(), clock(), 'active')
    on conflict (worker_id) do update set beat_at = clock(), state = 'active', locked_at = null, unlocked_seen = null
$$;

-- Hold the worker's advisory lock for as long as this session lives: the server frees it the moment the process dies.
create or replace function absurd.hold_lock(p_worker text) returns void
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    perform pg_advisory_lock(hashtextextended('absurd.worker ' || p_worker, 0));
    update worker set locked_at = clock(), unlocked_seen = null where worker_id = p_worker;
end $$;

-- Say that the worker lives, and learn which of its claims to stop: 'cancel' (asked for), 'lost' (somebody else has
-- them), and 'unknown' with no claim when the worker itself is not registered any more.
-- Leases of this worker that it does not know of (the answer to its claim got lost) go back after p_lease_s.
create or replace function absurd.heartbeat(p_worker text, p_claims bigint[], p_lease_s double precision)
returns table (claim bigint, verdict text) language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
    l     lease%rowtype;
begin
    update worker set beat_at = v_now where worker_id = p_worker and state <> 'crashed';
    if not found then
        return query select null::bigint, 'unknown'::text;
    end if;
    for l in select * from lease where worker_id = p_worker and claim <> all(p_claims)
             and started_at < v_now - make_interval(secs => p_lease_s)
    loop
        perform release_task(l.task_id, l.claim);
    end loop;
    return query select x.claim, 'cancel'::text from lease x where x.worker_id = p_worker and x.cancel;
    return query select c, 'lost'::text from unnest(p_claims) c
        where not exists (select from lease x where x.worker_id = p_worker and x.claim = c);
end $$;

-- Stop claiming ('stopping'), or leave ('stopped', which gives back whatever is still held).
create or replace function absurd.leave(p_worker text, p_state text) returns void
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    l lease%rowtype;
begin
    update worker set state = p_state where worker_id = p_worker;
    if p_state = 'stopped' then
        for l in select * from lease where worker_id = p_worker loop
            perform release_task(l.task_id, l.claim);
        end loop;
    end if;
end $$;

-- Take a task from a worker that is lost; a task that has now lost p_max_crashes workers is poison and dies.
create or replace function absurd.take_over(p_task uuid, p_claim bigint, p_max_crashes integer) returns boolean
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    l       lease%rowtype;
    v_error jsonb;
begin
    perform lock_family(p_task, 'failed');
    delete from lease where task_id = p_task and claim = p_claim returning * into l;
    if not found then
        return false;
    end if;
    v_error := jsonb_build_object('type', 'WorkerLost', 'reason', 'crashed',
                                  'message', format('worker %s died during attempt %s', l.worker_id, l.attempt));
    perform note_attempt(l, 'crashed', v_error);
    if l.cancel then
        perform finish(p_task, 'cancelled', null, cancelled(v_error), l.attempt, l.started_at);
    elsif l.crashes + 1 >= p_max_crashes then
        perform finish(p_task, 'failed', null, v_error, l.attempt, l.started_at);
    else
        perform make_ready(array[p_task], l.attempt, l.crashes + 1);
    end if;
    return true;
end $$;

-- One round of housekeeping, done by one session at a time: move due tasks to `ready`, find lost workers, take over what
-- they held, end attempts that outlived their deadline by 30 s. Returns how many leases were ended.
--
-- A worker is lost when its beat is older than the lease, or when its advisory lock has been free for 0.7 s (a worker
-- whose connection was cut has taken the lock again by then). A lock of before the last restart of the server says nothing.
create or replace function absurd.reap(p_lease_s double precision, p_max_crashes integer) returns integer
language plpgsql set search_path = pg_catalog, absurd, pg_temp set lock_timeout = '2s'
as $$
declare
    v_now   timestamptz := clock();
    v_lost  text[];
    v_count integer := 0;
    v_due   uuid[];
    l       lease%rowtype;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('absurd.reaper', 0)) then
        return 0;
    end if;
    perform promote(v_now);

    update worker w set unlocked_seen = case when seen.free then coalesce(w.unlocked_seen, v_now) end
    from (select worker_id, locked_at > pg_postmaster_start_time()
                 and pg_try_advisory_xact_lock(hashtextextended('absurd.worker ' || worker_id, 0)) as free
          from worker where state in ('active', 'stopping') and locked_at is not null) seen
    where w.worker_id = seen.worker_id and seen.free is distinct from (w.unlocked_seen is not null);

    with lost as (
        update worker set state = 'crashed', locked_at = null, unlocked_seen = null
        where state in ('active', 'stopping')
          and (beat_at < v_now - make_interval(secs => p_lease_s) or unlocked_seen < v_now - interval '0.7 s')
        returning worker_id)
    select coalesce(array_agg(worker_id), '{}') into v_lost from lost;
    if cardinality(v_lost) > 0 then
        raise log 'absurd: lost workers %', v_lost;
    end if;

    for l in select x.* from lease x left join worker w on w.worker_id = x.worker_id
             where w.worker_id is null or w.state in ('crashed', 'stopped')
    loop
        begin
            v_count := v_count + take_over(l.task_id, l.claim, p_max_crashes)::integer;
        exception when lock_not_available or deadlock_detected then  -- somebody is ending this very task: next round
            raise log 'absurd: task % is busy: %', l.task_id, sqlerrm;
        end;
    end loop;

    for l in select * from lease where deadline < v_now - interval '30 s' loop
        begin
            perform fail_task(l.task_id, l.claim, jsonb_build_object('type', 'TimeoutError', 'reason', 'timeout',
                'message', format('the attempt ran past its deadline %s and its worker did not end it', l.deadline)));
            v_count := v_count + 1;
        exception when lock_not_available or deadlock_detected then
            raise log 'absurd: task % is busy: %', l.task_id, sqlerrm;
        end;
    end loop;
    return v_count;
end $$;

-- Move tasks whose back-off is over to `ready`.
create or replace function absurd.promote(p_now timestamptz) returns void
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    r later%rowtype;
begin
    for r in delete from later where task_id in (
                 select x.task_id from later x where x.run_at <= p_now order by x.run_at, x.task_id limit 1000
                 for update skip locked) returning *
    loop
        perform make_ready(array[r.task_id], r.attempt, r.crashes);
    end loop;
end $$;

-- Repair what no transition should ever leave behind, and count it: an edge of an ended parent that its waiting child was
-- not told of. Anything but 0 is a defect to look into.
create or replace function absurd.repair() returns integer
language plpgsql set search_path = pg_catalog, absurd, pg_temp set lock_timeout = '2s'
as $$
declare
    v_missed uuid[];
    v_count  integer;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('absurd.repair', 0)) then
        return 0;
    end if;
    select coalesce(array_agg(distinct e.parent), '{}'), count(*) into v_missed, v_count
    from blocked b join edge e on e.child = b.task_id and not e.consumed
         join task p on p.task_id = e.parent and p.outcome is not null;
    if v_count > 0 then
        perform settle(v_missed);
    end if;
    delete from worker where state in ('stopped', 'crashed') and beat_at < clock() - interval '1 day';
    perform make_partitions();
    return v_count;
end $$;

-- ---------------------------------------------------------------------------------------------------------- operators

-- Cancel a task: at once when it does not run; a running one is asked to stop and ends as cancelled when its worker has
-- killed it. False: it has ended already, or never was.
create or replace function absurd.cancel_task(p_task uuid) returns boolean
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_attempt integer;
    v_run     text;
begin
    perform lock_family(p_task, 'cancelled');
    -- A claim, a promotion or the end of a parent may move the task between the looks; its ends are barred by the lock.
    for i in 1..10 loop
        delete from blocked where task_id = p_task returning 0 into v_attempt;
        if not found then
            delete from later where task_id = p_task returning attempt into v_attempt;
        end if;
        if not found then
            delete from ready where task_id = p_task returning attempt into v_attempt;
        end if;
        if found then
            perform finish(p_task, 'cancelled', null, cancelled(null), v_attempt, null);
            return true;
        end if;
        update lease set cancel = true where task_id = p_task returning worker_id || ' ' || claim into v_run;
        if found then
            perform pg_notify('absurd_cancel', v_run);
            return true;
        end if;
        exit when not exists (select from task where task_id = p_task and outcome is null);
    end loop;
    return false;
end $$;

-- Run a failed or cancelled task again, with all its attempts, and with it the tasks that its end had skipped and those
-- that wait for an end of whatever kind and do not run just now. False: it has not failed and was not cancelled.
create or replace function absurd.retry_task(p_task uuid) returns boolean
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_all   uuid[];
    v_moved uuid[];
    v_free  uuid[];
begin
    with recursive again(task_id) as (
        select task_id from task where task_id = p_task and outcome in ('failed', 'cancelled')
        union
        select c.task_id from again a join edge e on e.parent = a.task_id join task c on c.task_id = e.child
        where c.outcome = 'skipped' or e.policy = 'done')
    select coalesce(array_agg(task_id), '{}') into v_all from again;
    perform 1 from task where task_id = any(v_all) order by task_id for update;
    if not exists (select from task where task_id = p_task and outcome in ('failed', 'cancelled')) then
        return false;
    end if;
    with b as (delete from blocked where task_id = any(v_all) returning task_id),
    r as (delete from ready where task_id = any(v_all) returning task_id),
    w as (delete from later where task_id = any(v_all) returning task_id)
    select array(select task_id from b union all select task_id from r union all select task_id from w) into v_moved;
    select coalesce(array_agg(task_id), '{}') into v_all from task
    where task_id = any(v_all) and (outcome is not null or task_id = any(v_moved));

    perform count_ends(v_all, -1);
    delete from dead where task_id = any(v_all);
    update task set outcome = null, finished_at = null, started_at = null, attempts = null, result = null, error = null
    where task_id = any(v_all);
    update edge set consumed = false where parent = any(v_all) and child = any(v_all);
    -- Parents that are over stay consumed, except those that break the child: with them it will be skipped again.
    update edge e set consumed = false from task p
    where e.child = any(v_all) and p.task_id = e.parent and e.consumed
      and (p.outcome is null or breaks(e.policy, p.outcome)) and e.child <> p_task;
    insert into blocked (task_id, remaining)
    select child, count(*) from edge where child = any(v_all) and not consumed group by child order by child;
    select coalesce(array_agg(x), '{}') into v_free from unnest(v_all) x
    where not exists (select from blocked where task_id = x);
    perform make_ready(v_free, 0, 0);
    perform announce(array(select task_id from blocked where task_id = any(v_all)), 'blocked');
    perform settle(array(select e.parent from edge e join task p on p.task_id = e.parent
                         where e.child = any(v_all) and not e.consumed and p.outcome is not null));
    return true;
end $$;

-- --------------------------------------------------------------------------------------------------------------- views

create or replace view absurd.tasks as
select t.task_id, t.queue as queue_name, t.name as task_name, t.params, -t.rank as priority,
       case when t.outcome is not null then t.outcome
            when l.task_id is not null then 'claimed'
            when r.task_id is not null then 'pending'
            when w.task_id is not null then 'retrying'
            when b.task_id is not null then 'blocked'
            else 'lost' end as status,                                     -- 'lost' is impossible, and would be visible
       l.worker_id, coalesce(t.attempts, l.attempt, r.attempt, w.attempt, 0) as attempt, t.max_attempts - 1 as max_retries,
       t.timeout_s as timeout_sec, t.workflow_id, t.created_at, coalesce(l.started_at, t.started_at) as claimed_at,
       t.finished_at as completed_at, w.run_at as retry_at, t.result, t.error as error_detail,
       case when t.error is not null then concat_ws(': ', t.error->>'type', t.error->>'message') end as error,
       case when t.outcome = 'completed' then 1.0 else l.progress end as progress, l.message as progress_message,
       coalesce(l.cancel, false) as cancel_requested
from absurd.task t
left join absurd.lease l on l.task_id = t.task_id
left join absurd.ready r on r.task_id = t.task_id
left join absurd.later w on w.task_id = t.task_id
left join absurd.blocked b on b.task_id = t.task_id;

-- Every task that is not in exactly one place: empty, at any moment.
create or replace view absurd.misplaced as
select t.task_id, t.outcome, places.n
from absurd.task t
cross join lateral (
    select (select count(*) from absurd.blocked x where x.task_id = t.task_id)
         + (select count(*) from absurd.ready x where x.task_id = t.task_id)
         + (select count(*) from absurd.later x where x.task_id = t.task_id)
         + (select count(*) from absurd.lease x where x.task_id = t.task_id) as n) places
where places.n <> (t.outcome is null)::integer;

create or replace function absurd.get_queue_stats(p_queue text)
returns table (queue_name text, pending bigint, claimed bigint, completed bigint, failed bigint, cancelled bigint,
               retrying bigint, blocked bigint, skipped bigint)
language sql stable set search_path = pg_catalog, absurd, pg_temp
as $$
    select p_queue,
           (select count(*) from ready r where r.queue = p_queue),
           (select count(*) from lease l join task t on t.task_id = l.task_id where t.queue = p_queue),
           coalesce(sum(s.completed), 0), coalesce(sum(s.failed), 0), coalesce(sum(s.cancelled), 0),
           (select count(*) from later w join task t on t.task_id = w.task_id where t.queue = p_queue),
           (select count(*) from blocked b join task t on t.task_id = b.task_id where t.queue = p_queue),
           coalesce(sum(s.skipped), 0)
    from stat s where s.queue = p_queue
$$;

-- --------------------------------------------------------------------------------------------------------- finishing up

select absurd.make_partitions();
