-- The dead letters: tasks that failed for good. `dead` holds full copies, which outlive the rows of `task`; the failed
-- attempts of a dead letter stay as long as it does.

create or replace view absurd.dead_letters as
select d.task_id, d.queue as queue_name, d.name as task_name, d.params, -d.rank as priority,
       d.max_attempts - 1 as max_retries, d.timeout_s as timeout_sec, d.workflow_id, d.reason, d.attempts,
       concat_ws(': ', d.error->>'type', d.error->>'message') as error, d.error as error_detail,
       d.created_at, d.died_at, not exists (select from absurd.task t where t.task_id = d.task_id) as pruned
from absurd.dead d;

-- Change the parameters of a dead letter, for its replay. False: there is none. Null: it is no more the one that the
-- caller has seen (p_seen, the xmin of its row; null = whichever is there).
drop function if exists absurd.edit_dead(uuid, jsonb);
create or replace function absurd.edit_dead(p_task uuid, p_params jsonb, p_seen bigint default null) returns boolean
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    perform 1 from task where task_id = p_task for update;
    update dead set params = p_params where task_id = p_task and (p_seen is null or xmin::text::bigint = p_seen);
    if not found then
        return case when not exists (select from dead where task_id = p_task) then false end;
    end if;
    update task set params = p_params where task_id = p_task and outcome = 'failed';
    return true;
end $$;

-- Run a dead letter again, with all its attempts. While its row of `task` is there, so are the tasks that its end had
-- skipped, and they are revived with it; a pruned one is spawned again from the copy, under its id, on its own.
-- False: there is none.
create or replace function absurd.replay_dead(p_task uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    d dead%rowtype;
begin
    if exists (select from dead where task_id = p_task) and retry_task(p_task) then
        return true;
    end if;
    delete from dead where task_id = p_task and not exists (select from task where task_id = p_task) returning * into d;
    if not found then
        return false;
    end if;
    perform spawn_tasks(jsonb_build_array(jsonb_build_object(
        'task_id', d.task_id, 'queue', d.queue, 'name', d.name, 'params', d.params, 'priority', -d.rank,
        'timeout_s', d.timeout_s, 'max_attempts', d.max_attempts, 'max_crashes', d.max_crashes, 'retry', d.retry,
        'workflow_id', d.workflow_id, 'headers', d.headers, 'concurrency_key', d.conc_key, 'fair_key', d.fair_key)));
    return true;
end $$;

-- Replay up to p_limit dead letters of a queue, task name and reason (null = any), the oldest first; return how many.
-- One that another session is busy with is left to the next call.
create or replace function absurd.replay_dead_letters(
    p_queue text default null, p_name text default null, p_reason text default null, p_limit integer default 100)
returns integer language plpgsql security definer
set search_path = pg_catalog, absurd, pg_temp set lock_timeout = '500ms'
as $$
declare
    v_task  uuid;
    v_count integer := 0;
begin
    for v_task in
        select d.task_id from dead d
        where (p_queue is null or d.queue = p_queue) and (p_name is null or d.name = p_name)
          and (p_reason is null or d.reason = p_reason)
        order by d.task_id limit p_limit
    loop
        begin
            v_count := v_count + replay_dead(v_task)::integer;
        exception when lock_not_available or deadlock_detected then
            raise log 'absurd: dead letter % is busy: %', v_task, sqlerrm;
        end;
    end loop;
    return v_count;
end $$;

-- Delete up to p_limit dead letters of a queue (null = any) that died p_older_s ago or earlier; return how many.
-- The tasks themselves stay failed.
create or replace function absurd.purge_dead(
    p_queue text default null, p_older_s double precision default 0, p_limit integer default 10000)
returns integer language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_gone uuid[];
begin
    with old as (
        select d.task_id from dead d
        where (p_queue is null or d.queue = p_queue) and d.died_at <= clock() - make_interval(secs => p_older_s)
        order by d.task_id limit p_limit for update skip locked),
    gone as (delete from dead d using old where d.task_id = old.task_id returning d.task_id)
    select coalesce(array_agg(g.task_id), '{}') into v_gone from gone g;
    delete from attempt a where a.task_id = any(v_gone) and not exists (select from task t where t.task_id = a.task_id);
    return cardinality(v_gone);
end $$;

-- Delete one dead letter. False: there is none.
create or replace function absurd.purge_dead_letter(p_task uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    delete from dead where task_id = p_task;
    if not found then
        return false;
    end if;
    delete from attempt a where a.task_id = p_task and not exists (select from task t where t.task_id = p_task);
    return true;
end $$;
