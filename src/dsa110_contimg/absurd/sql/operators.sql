-- What people do with tasks: cancel, retry.

-- Cancel tasks that have not ended: at once those that do not run; a running one is asked to stop and ends as cancelled
-- when its worker has killed it. Returns how many there were.
--
-- A task is looked for among the running first, because who ends an attempt locks the lease before the task. One that a
-- claim, a promotion or the end of a parent moves meanwhile is not found: the locks go back, and the search begins anew.
-- So it does when the tasks of somebody else cross these in the graph: he goes on.
create or replace function absurd.cancel_tasks(p_tasks uuid[]) returns integer
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_runs text[];
    v_open uuid[];
    v_gone uuid[];
    v_back uuid[];
    v_tries integer[];
begin
    for v_try in 1..100 loop
        begin
            perform 1 from lease where task_id = any(p_tasks) order by task_id for update;
            with asked as (
                update lease set cancel = true where task_id = any(p_tasks) returning task_id, worker_id || ' ' || claim as run)
            select coalesce(array_agg(run), '{}'), coalesce(array_agg(task_id), '{}') into v_runs, v_open from asked;
            v_open := array(select x from unnest(p_tasks) x except select x from unnest(v_open) x);
            perform lock_families(v_open, array_fill('cancelled'::text, array[cardinality(v_open)]));
            v_open := array(select task_id from task where task_id = any(v_open) and outcome is null);
            with b as (delete from blocked where task_id = any(v_open) returning task_id, 0 as attempt, null as conc_key),
            l as (delete from later where task_id = any(v_open) returning task_id, attempt, null),
            p as (delete from parked where task_id = any(v_open) returning task_id, attempt, null),
            r as (delete from ready where task_id = any(v_open) returning task_id, attempt, conc_key),
            gone as (select * from b union all select * from l union all select * from p union all select * from r)
            select coalesce(array_agg(task_id), '{}'), coalesce(array_agg(attempt), '{}'),
                   coalesce(array_agg(task_id) filter (where conc_key is not null), '{}')
            into v_gone, v_tries, v_back from gone;
            if cardinality(v_gone) < cardinality(v_open) and v_try < 100 then
                raise exception using errcode = 'AB001', message = 'a task moves just now';
            end if;
            perform pg_notify('absurd_cancel', run) from unnest(v_runs) run;
            perform admit(finish(v_gone, array_fill('cancelled'::text, array[cardinality(v_gone)]),
                                 array_fill(cancelled(null), array[cardinality(v_gone)]), v_tries, null), null, null, v_back);
            return cardinality(v_gone) + cardinality(v_runs);
        exception when sqlstate 'AB001' or deadlock_detected then
            if v_try = 100 then
                raise;
            end if;
        end;
    end loop;
    return 0;
end $$;

-- Cancel a task. False: it has ended already, or never was.
create or replace function absurd.cancel_task(p_task uuid) returns boolean
language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$ select cancel_tasks(array[p_task]) > 0 $$;

-- Cancel what of a workflow has not ended; returns how many tasks that were.
create or replace function absurd.cancel_workflow(p_workflow uuid) returns integer
language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$
    select cancel_tasks(array(select task_id from task where workflow_id = p_workflow and outcome is null order by task_id))
$$;

-- Run failed or cancelled tasks again, with all their attempts, and with them the tasks that their end had skipped and
-- those that wait for an end of whatever kind and do not run just now. Returns how many of p_tasks.
create or replace function absurd.retry_tasks(p_tasks uuid[]) returns integer
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_roots uuid[];
    v_all   uuid[];
    v_moved uuid[];
    v_back  uuid[];
    v_freed uuid[];
begin
    with recursive again(task_id) as (
        select task_id from task where task_id = any(p_tasks) and outcome in ('failed', 'cancelled')
        union
        select c.task_id from again a join edge e on e.parent = a.task_id join task c on c.task_id = e.child
        where c.outcome = 'skipped' or e.policy = 'done')
    select coalesce(array_agg(task_id), '{}') into v_all from again;
    -- With their parents: one that is completing now waits for this transaction or has ended before it (as for a spawn).
    perform 1 from task
    where task_id in (select unnest(v_all) union select e.parent from edge e where e.child = any(v_all))
    order by task_id for update;
    select coalesce(array_agg(task_id), '{}') into v_roots
    from task where task_id = any(p_tasks) and task_id = any(v_all) and outcome in ('failed', 'cancelled');
    if cardinality(v_roots) = 0 then
        return 0;
    end if;
    with b as (delete from blocked where task_id = any(v_all) returning task_id, null as conc_key),
    l as (delete from later where task_id = any(v_all) returning task_id, null),
    p as (delete from parked where task_id = any(v_all) returning task_id, null),
    r as (delete from ready where task_id = any(v_all) returning task_id, conc_key),
    moved as (select * from b union all select * from l union all select * from p union all select * from r)
    select coalesce(array_agg(task_id), '{}'), coalesce(array_agg(task_id) filter (where conc_key is not null), '{}')
    into v_moved, v_back from moved;
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
      and (p.outcome is null or breaks(e.policy, p.outcome)) and e.child <> all(v_roots);
    insert into blocked (task_id, remaining)
    select child, count(*) from edge where child = any(v_all) and not consumed group by child order by child;
    v_freed := array(select x from unnest(v_all) x except select task_id from blocked where task_id = any(v_all));
    perform announce(array(select task_id from blocked where task_id = any(v_all)), 'blocked');
    v_freed := v_freed || settle(array(
        select e.parent from edge e join task p on p.task_id = e.parent
        where e.child = any(v_all) and not e.consumed and p.outcome is not null));
    perform admit(v_freed, null, null, v_back);
    return cardinality(v_roots);
end $$;

-- Run a failed or cancelled task again. False: it has not failed and was not cancelled.
create or replace function absurd.retry_task(p_task uuid) returns boolean
language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$ select retry_tasks(array[p_task]) > 0 $$;

-- Run the failed and cancelled tasks of a workflow again; returns how many that were.
create or replace function absurd.retry_workflow(p_workflow uuid) returns integer
language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$
    select retry_tasks(array(select task_id from task where workflow_id = p_workflow and outcome in ('failed', 'cancelled')
                             order by task_id))
$$;

-- Keep the beat of a worker that another program speaks for; nothing else changes. False: there is none that works.
create or replace function absurd.beat(p_worker text) returns boolean language plpgsql
security definer set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    update worker set beat_at = clock() where worker_id = p_worker and state in ('active', 'stopping');
    return found;
end $$;
