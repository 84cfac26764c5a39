-- Who may do what. Nothing is granted to PUBLIC. `grant_roles()` gives four roles without login what they need; people
-- and services log in as roles of their own that are members of one of them.
--
--     absurd_owner   owns the queue: sets it up, upgrades and empties it
--     absurd_api     spawns, cancels, retries, replays, prunes; keeps schedules, templates and the limits of queues
--     absurd_worker  claims and ends tasks, spawns further ones, fires schedules, keeps house
--     absurd_reader  reads
--
-- The functions named here run with the rights of their owner (SECURITY DEFINER), so that no other role writes to a
-- table of tasks by itself.

create or replace function absurd.role_calls() returns table (role text, call text) language sql immutable
set search_path = pg_catalog, absurd, pg_temp
as $$
    select 'absurd_' || r, c
    from (values
        ('reader', array['clock', 'first_id', 'new_id', 'get_queue_stats', 'role_calls', 'listen', 'histogram']),
        ('api', array['spawn_tasks', 'spawn_batch', 'spawn_task', 'spawn_workflow', 'cancel_task', 'cancel_workflow',
                      'retry_task', 'retry_workflow', 'pause_queue', 'set_queue_limits', 'set_concurrency', 'drain_worker',
                      'edit_dead', 'replay_dead', 'replay_dead_letters', 'purge_dead', 'purge_dead_letter', 'prune_tasks',
                      'drop_old_partition', 'prune_records', 'trigger_cron', 'beat']),
        ('worker', array['spawn_tasks', 'spawn_batch', 'spawn_task', 'spawn_workflow', 'flush', 'claim_task',
                         'complete_task', 'fail_task', 'snooze_task', 'release_task', 'report_progress', 'register_worker',
                         'hold_lock', 'heartbeat', 'leave', 'reap',
                         'repair', 'fire_cron', 'note_cron_error'])
    ) x(r, calls), unnest(calls) c
$$;

-- Make the four roles where they are missing. They belong to the whole server, not to this database.
create or replace function absurd.create_roles() returns void language plpgsql
set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_role text;
begin
    foreach v_role in array array['absurd_owner', 'absurd_api', 'absurd_worker', 'absurd_reader'] loop
        if to_regrole(v_role) is null then
            execute format('create role %I nologin', v_role);
        end if;
    end loop;
    if not pg_has_role('absurd_owner', 'member') then
        execute format('grant absurd_owner to %I', current_user);
    end if;
    if not has_database_privilege('absurd_owner', current_database(), 'create') then
        execute format('grant create on database %I to absurd_owner', current_database());
    end if;
    foreach v_role in array array['absurd_api', 'absurd_worker'] loop
        if not pg_has_role(v_role, 'absurd_reader', 'member') then
            execute format('grant absurd_reader to %I', v_role);
        end if;
    end loop;
end $$;

-- Give everything in the schema to absurd_owner, and the other roles what they need of it.
create or replace function absurd.grant_roles() returns void language plpgsql
set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_owner   oid := 'absurd_owner'::regrole;
    v_command text;
    v_missing text;
begin
    select string_agg(c.call, ', ') into v_missing from role_calls() c
    where not exists (select from pg_proc p where p.pronamespace = 'absurd'::regnamespace and p.proname = c.call);
    if v_missing is not null then
        raise exception 'role_calls() names functions that do not exist: %', v_missing;
    end if;
    for v_command in
        select format('alter schema absurd owner to absurd_owner')
        from pg_namespace where nspname = 'absurd' and nspowner <> v_owner
        union all
        select format('alter %s %s owner to absurd_owner', case c.relkind when 'S' then 'sequence' when 'v' then 'view'
                                                           else 'table' end, c.oid::regclass)
        from pg_class c
        where c.relnamespace = 'absurd'::regnamespace and c.relkind in ('r', 'p', 'v', 'S') and c.relowner <> v_owner
          and not exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass
                          and d.deptype in ('a', 'i') and c.relkind = 'S')
        union all
        select format('alter function %s owner to absurd_owner', p.oid::regprocedure)
        from pg_proc p where p.pronamespace = 'absurd'::regnamespace and p.proowner <> v_owner
        union all
        select format('grant execute on function %s to %I', p.oid::regprocedure, c.role)
        from role_calls() c join pg_proc p on p.proname = c.call and p.pronamespace = 'absurd'::regnamespace
    loop
        execute v_command;
    end loop;
    grant usage on schema absurd to absurd_reader;
    grant select on all tables in schema absurd to absurd_reader;
    grant insert, update, delete on cron, template to absurd_api;
end $$;

revoke all on schema absurd from public;
revoke all on all tables in schema absurd from public;
revoke all on all sequences in schema absurd from public;
revoke execute on all functions in schema absurd from public;
