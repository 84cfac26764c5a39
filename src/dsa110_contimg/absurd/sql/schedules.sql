-- Schedules: what is to be spawned when, and what was.
--
-- `next_at` is the one thing that schedulers compare and move: whoever moves it spawns the task, in the same
-- transaction. When the next time is, Python knows (scheduling.py); that it fires once, this file knows.

create table if not exists absurd.cron (
    name           text primary key check (name <> ''),
    schedule_id    uuid not null unique default gen_random_uuid(),
    description    text,
    expr           text not null,                -- minute, hour, day of month, month, weekday
    timezone       text not null,
    queue          text not null,
    task_name      text not null,
    params         jsonb not null,
    headers        jsonb,
    rank           integer not null,
    timeout_s      double precision,
    max_attempts   integer not null,
    state          text not null default 'active' check (state in ('active', 'paused', 'disabled')),
    policy         text not null default 'coalesce' check (policy in ('skip', 'coalesce', 'catch_up')),
    catch_up_limit integer check (catch_up_limit > 0),   -- null = every missed time
    overlap        boolean not null default false,       -- false: not while a task of this schedule has not ended
    next_at        timestamptz not null,
    last_fire_at   timestamptz,
    last_error     text,                         -- why it could not fire; null again when it has
    created_at     timestamptz not null,
    updated_at     timestamptz not null
);

create table if not exists absurd.fire (
    name    text not null,
    fire_at timestamptz not null,
    task_id uuid not null,
    primary key (name, fire_at)
);

create or replace view absurd.schedules as
select c.schedule_id, c.name, c.description, c.queue as queue_name, c.task_name, c.params, c.headers,
       -c.rank as priority, c.timeout_s as timeout_sec, c.max_attempts - 1 as max_retries, c.expr as cron_expression,
       c.timezone, c.state, c.policy, c.catch_up_limit, c.overlap, c.last_fire_at as last_run_at,
       case when c.state = 'active' then c.next_at end as next_run_at, c.last_error, c.created_at, c.updated_at,
       exists (select from absurd.worker w where w.state = 'active' and c.queue = any(w.queues)) as has_worker
from absurd.cron c;

-- The task of a schedule, with the time that it stands for in its headers.
create or replace function absurd.spawn_scheduled(p_cron absurd.cron, p_fire_at timestamptz, p_task uuid) returns void
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    perform spawn_tasks(jsonb_build_array(jsonb_build_object(
        'task_id', p_task, 'queue', p_cron.queue, 'name', p_cron.task_name, 'params', p_cron.params,
        'priority', -p_cron.rank, 'timeout_s', p_cron.timeout_s, 'max_attempts', p_cron.max_attempts,
        'headers', coalesce(p_cron.headers, '{}')
                   || jsonb_build_object('schedule', p_cron.name, 'fire_at', to_char(p_fire_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))));
    insert into fire (name, fire_at, task_id) values (p_cron.name, p_fire_at, p_task) on conflict do nothing;
    update cron set last_fire_at = clock(), last_error = null where name = p_cron.name;
end $$;

-- Fire a schedule for the time p_fire_at: move its next time from p_expected to p_next and spawn its task, both or
-- neither. Without p_fire_at the times up to p_next are passed over.
--
-- Null: nothing was spawned, because another scheduler was faster, the schedule is not active, or a task of it has not
-- ended (then it moves on, but under catch_up, where the time stays due until that task has ended).
create or replace function absurd.fire_cron(
    p_name text, p_expected timestamptz, p_next timestamptz, p_task uuid, p_fire_at timestamptz)
returns uuid language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    c      cron%rowtype;
    v_busy boolean;
begin
    select * into c from cron where name = p_name and next_at = p_expected and state = 'active' for update;
    if not found then
        return null;
    end if;
    v_busy := not c.overlap and exists (
        select from (select f.task_id from fire f where f.name = p_name order by f.fire_at desc limit 100) recent
        join task t on t.task_id = recent.task_id where t.outcome is null);
    if v_busy and c.policy = 'catch_up' and p_fire_at is not null then
        return null;
    end if;
    update cron set next_at = p_next where name = p_name;
    if v_busy or p_fire_at is null or exists (select from fire f where f.name = p_name and f.fire_at = p_fire_at) then
        return null;
    end if;
    perform spawn_scheduled(c, p_fire_at, p_task);
    return p_task;
end $$;

-- Spawn the task of a schedule now, whatever its state; its times stay as they are. Null: there is no such schedule.
create or replace function absurd.trigger_cron(p_name text, p_task uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    c cron%rowtype;
begin
    select * into c from cron where name = p_name for update;
    if not found then
        return null;
    end if;
    if not exists (select from fire f where f.name = p_name and f.task_id = p_task) then  -- a repeated call
        perform spawn_scheduled(c, clock(), p_task);
    end if;
    return p_task;
end $$;

-- Note why a schedule could not fire. False: that was noted before.
create or replace function absurd.note_cron_error(p_name text, p_error text) returns boolean
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    update cron set last_error = left(p_error, 500) where name = p_name and last_error is distinct from left(p_error, 500);
    return found;
end $$;
