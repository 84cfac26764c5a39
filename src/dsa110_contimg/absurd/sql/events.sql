-- Telling: idle workers that there is work, and those who watch what happened to tasks.

-- Wake idle workers of these queues. Equal notifications of one transaction are sent once.
create or replace function absurd.wake(p_queues text[]) returns void language sql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$ select pg_notify('absurd_ready', q) from unnest(p_queues) q where q is not null $$;

-- Ask for events. They are written for the next p_for_s seconds: whoever listens calls this again before. Without a
-- listener the queue pays nothing for them.
create or replace function absurd.listen(p_for_s double precision default 90) returns void language sql volatile
security definer set search_path = pg_catalog, absurd, pg_temp
as $$
    insert into audience (until) values (clock_timestamp() + make_interval(secs => p_for_s))
    on conflict (one) do update set until = excluded.until where audience.until < excluded.until
$$;

create or replace function absurd.heard() returns boolean language sql stable
set search_path = pg_catalog, absurd, pg_temp
as $$ select exists (select from audience where until > clock_timestamp()) $$;

-- Tell what happened to tasks: one row and one notification, whose payload is its event_id.
create or replace function absurd.emit(p_body jsonb) returns void language sql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$
    with e as (insert into event (at, body) select clock(), p_body where jsonb_array_length(p_body) > 0 returning event_id)
    select pg_notify('absurd_event', e.event_id::text) from e
$$;

-- Tell that tasks are in a state now. p_more: what else is true of all of them. More than 500 at once are not told one
-- by one: the watcher is sent to the tables.
create or replace function absurd.announce(p_tasks uuid[], p_status text, p_more jsonb default '{}') returns void
language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    if coalesce(cardinality(p_tasks), 0) = 0 or not heard() then
        return;
    elsif cardinality(p_tasks) > 500 then
        perform emit('[{"type": "resync"}]');
    else
        perform emit(coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
            'type', 'task_update', 'task_id', t.task_id, 'workflow_id', t.workflow_id, 'queue', t.queue, 'name', t.name,
            'status', p_status, 'attempt', l.attempt, 'worker_id', l.worker_id, 'error', left(t.error->>'message', 300))
            || p_more) order by t.task_id), '[]'))
        from task t left join lease l on l.task_id = t.task_id
        where t.task_id = any(p_tasks);
    end if;
end $$;

-- Tell what a flush has completed and claimed.
create or replace function absurd.tell_flush(p_worker text, p_done uuid[], p_now timestamptz) returns void
language sql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
    select emit(coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
        'type', 'task_update', 'task_id', t.task_id, 'workflow_id', t.workflow_id, 'queue', t.queue, 'name', t.name,
        'status', x.status, 'attempt', x.attempt, 'worker_id', x.worker_id)) order by x.status desc, t.task_id), '[]'))
    from (select d.task_id, 'completed' as status, null::integer as attempt, null as worker_id from unnest(p_done) d(task_id)
          union all
          select l.task_id, 'claimed', l.attempt, l.worker_id from lease l
          where l.worker_id = p_worker and l.started_at = p_now) x
    join task t on t.task_id = x.task_id
$$;
