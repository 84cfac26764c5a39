-- Retention: what has ended long ago leaves the tables.
--
-- A task goes with its attempts, edges and idempotency key. What must stay together stays together: a workflow goes
-- when all its tasks may go, and no task goes while one that depends on it, or that it depends on, has not ended.
-- Dead letters are copies and stay, with their attempts.

-- Which ended tasks of p_tasks may go: not those beside a live task, nor those of a workflow that is not all in p_tasks.
create or replace function absurd.prunable(p_tasks uuid[]) returns uuid[]
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_keep  uuid[];
    v_flows uuid[];
begin
    select array_agg(distinct x.task_id) into v_keep
    from (select e.parent as task_id, e.child as other from edge e where e.parent = any(p_tasks)
          union all select e.child, e.parent from edge e where e.child = any(p_tasks)) x
    join task o on o.task_id = x.other and o.outcome is null;

    select array_agg(distinct t.workflow_id) into v_flows
    from (select t.workflow_id from task t where t.task_id = any(p_tasks) and t.workflow_id is not null
          group by t.workflow_id
          having count(*) <> (select count(*) from task o where o.workflow_id = t.workflow_id)
              or bool_or(t.task_id = any(v_keep))) t;

    return array(select t.task_id from task t where t.task_id = any(p_tasks) and t.outcome is not null
                 and t.task_id <> all(coalesce(v_keep, '{}'))
                 and (t.workflow_id is null or t.workflow_id <> all(coalesce(v_flows, '{}')))
                 order by t.task_id);
end $$;

-- Delete tasks with what belongs to them; p_month is the partition that they fill, which is then dropped whole.
create or replace function absurd.forget(p_tasks uuid[], p_month text default null) returns void
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_flows uuid[] := array(select distinct t.workflow_id from task t
                            where t.task_id = any(p_tasks) and t.workflow_id is not null);
begin
    -- A key that a spawn holds just now is freed by that spawn, or by the next of it.
    delete from idem where (queue, key) in (
        select i.queue, i.key from task t join idem i on i.queue = t.queue and i.key = t.idem_key
        where t.task_id = any(p_tasks) and i.task_id = t.task_id for update of i skip locked);
    delete from edge where parent = any(p_tasks);
    delete from edge where child = any(p_tasks);
    delete from attempt a where a.task_id = any(p_tasks) and not exists (select from dead d where d.task_id = a.task_id);
    if p_month is null then
        delete from task where task_id = any(p_tasks);
    else
        execute format('drop table absurd.%I', p_month);
    end if;
    delete from workflow w where w.workflow_id = any(v_flows)
        and not exists (select from task t where t.workflow_id = w.workflow_id);
end $$;

-- The oldest workflows with together about p_limit tasks, all of which ended before p_before and match. A cursor, so that
-- it costs what it finds.
create or replace function absurd.prunable_flows(
    p_before timestamptz, p_queue text, p_statuses text[], p_limit integer) returns uuid[]
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_flow  uuid;
    v_seen  uuid[] := '{}';
    v_flows uuid[] := '{}';
    v_match boolean;
    v_size  bigint;
    v_total bigint := 0;
begin
    for v_flow in select t.workflow_id from task t where t.workflow_id is not null and t.outcome is not null
                  and t.task_id < first_id(p_before) order by t.task_id
    loop
        continue when v_flow = any(v_seen);
        v_seen := v_seen || v_flow;
        select count(*), bool_and(coalesce(t.finished_at <= p_before, false) and (p_queue is null or t.queue = p_queue)
                                  and (p_statuses is null or t.outcome = any(p_statuses)))
        into v_size, v_match from task t where t.workflow_id = v_flow;
        continue when not v_match or exists (
            select from task t join edge e on e.parent = t.task_id join task o on o.task_id = e.child
            where t.workflow_id = v_flow and o.outcome is null);
        v_flows := v_flows || v_flow;
        v_total := v_total + v_size;
        exit when v_total >= p_limit;
    end loop;
    return v_flows;
end $$;

-- Delete about p_limit tasks of a queue (null = any) that ended p_older_s ago or earlier in one of p_statuses (null =
-- any), the oldest first; return how many. A workflow is never cut: it goes only when all its tasks match. Tasks that
-- another session holds are left to the next call.
create or replace function absurd.prune_tasks(
    p_older_s double precision, p_queue text default null, p_statuses text[] default null, p_limit integer default 10000)
returns integer language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_before timestamptz := clock() - make_interval(secs => p_older_s);
    v_flows  uuid[] := prunable_flows(v_before, p_queue, p_statuses, p_limit);
    v_tasks  uuid[];
begin
    v_tasks := array(select t.task_id from task t where t.workflow_id = any(v_flows)
                     order by t.task_id for update skip locked);
    v_tasks := v_tasks || array(
        select t.task_id from task t
        where t.workflow_id is null and t.task_id < first_id(v_before) and t.finished_at <= v_before
          and (p_queue is null or t.queue = p_queue) and (p_statuses is null or t.outcome = any(p_statuses))
          and not exists (select from edge e join task o on o.task_id = e.child
                          where e.parent = t.task_id and o.outcome is null)
          and not exists (select from edge e join task o on o.task_id = e.parent
                          where e.child = t.task_id and o.outcome is null)
        order by t.task_id limit greatest(p_limit - cardinality(v_tasks), 0) for update skip locked);

    -- A child that was spawned while this call waited for the locks is seen from here on; who spawns one now waits.
    v_tasks := prunable(v_tasks);
    perform forget(v_tasks);
    return cardinality(v_tasks);
end $$;

-- Drop the oldest month of `task` that ended p_older_s ago or earlier and holds only tasks that may go; return how
-- many these were. The last look and the drop stand under a lock of the whole table: a second for 100,000 tasks. A
-- month that is busy, or that holds a task which must stay, is left to prune_tasks and the next call.
create or replace function absurd.drop_old_partition(p_older_s double precision) returns integer
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp set lock_timeout = '500ms'
as $$
declare
    v_before timestamptz := clock() - make_interval(secs => p_older_s);
    v_month  text;
    v_keep   boolean;
    v_tasks  uuid[];
begin
    for v_month in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'absurd.task'::regclass and c.relname ~ '^task_[0-9]{4}_[0-9]{2}$'
          and to_date(substr(c.relname, 6), 'YYYY_MM') + interval '1 month' <= v_before at time zone 'UTC'
        order by c.relname
    loop
        execute format('select exists (select from absurd.%I where outcome is null or finished_at > $1)', v_month)
        into v_keep using v_before;
        continue when v_keep;
        begin
            execute format('lock table only absurd.task in access exclusive mode; '
                           'lock table absurd.%I in access exclusive mode', v_month);
            execute format('select array(select task_id from absurd.%I)', v_month) into v_tasks;
            if cardinality(prunable(v_tasks)) < cardinality(v_tasks) then
                raise exception using errcode = 'lock_not_available', message = 'it holds a task that must stay';
            end if;
            perform forget(v_tasks, v_month);
            return cardinality(v_tasks);
        exception when lock_not_available or deadlock_detected then  -- the lock is given back
            raise log 'absurd: partition % stays: %', v_month, sqlerrm;
        end;
    end loop;
    return 0;
end $$;

-- Delete what was noted p_older_s ago or earlier: fires of schedules, and workers that are gone.
create or replace function absurd.prune_records(p_older_s double precision) returns integer
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_before timestamptz := clock() - make_interval(secs => p_older_s);
    v_count  integer;
begin
    with f as (delete from fire where fire_at <= v_before returning 1),
    w as (delete from worker where state in ('stopped', 'crashed') and beat_at <= v_before returning 1)
    select count(*) into v_count from (select from f union all select from w) x;
    return v_count;
end $$;
