-- From version 1 (the queue's core) to version 2.
--
-- Views and functions are dropped, since many have other columns and parameters now; the files of the schema make them
-- anew in this same transaction.

do $$
declare
    v_command text;
begin
    for v_command in
        select 'drop view ' || oid::regclass from pg_class where relnamespace = 'absurd'::regnamespace and relkind = 'v'
        union all
        select 'drop function ' || oid::regprocedure from pg_proc where pronamespace = 'absurd'::regnamespace
    loop
        execute v_command;
    end loop;
end $$;

alter table absurd.meta add serves_from integer not null default 2, add roles boolean not null default false;
alter table absurd.meta alter serves_from drop default, alter roles drop default;

alter table absurd.cron
    add schedule_id uuid not null unique default gen_random_uuid(),
    add description text,
    add headers jsonb,
    add state text not null default 'active' check (state in ('active', 'paused', 'disabled')),
    add policy text not null default 'coalesce' check (policy in ('skip', 'coalesce', 'catch_up')),
    add catch_up_limit integer check (catch_up_limit > 0),
    add overlap boolean not null default false,
    add last_fire_at timestamptz,
    add last_error text,
    add updated_at timestamptz,
    add check (name <> '');
update absurd.cron c
set state = case when c.paused then 'paused' else 'active' end, updated_at = c.created_at,
    last_fire_at = (select max(f.fire_at) from absurd.fire f where f.name = c.name);
alter table absurd.cron drop paused, alter updated_at set not null;

alter table absurd.task
    add run_at timestamptz,
    add idem_key text,
    add conc_key text,
    add fair_key text,
    add headers jsonb,
    add max_crashes integer,
    drop constraint task_queue_check,
    drop constraint task_name_check,
    drop constraint task_max_attempts_check,
    drop constraint task_timeout_s_check,
    drop constraint task_outcome_check;
create index edge_failure on absurd.edge (parent) where policy = 'failure';
alter table absurd.ready add conc_key text;
create index ready_permit on absurd.ready (queue, conc_key) where conc_key is not null;
alter table absurd.later drop constraint later_why_check;
alter table absurd.later add check (why in ('retry', 'scheduled', 'snooze'));
drop index absurd.lease_worker, absurd.lease_deadline;
alter table absurd.lease add ready_at timestamptz, add conc_key text;
alter table absurd.dead add conc_key text, add fair_key text, add headers jsonb, add max_crashes integer;
alter table absurd.worker add drain boolean not null default false;
alter table absurd.stat
    alter shard type integer,
    add retried integer not null default 0,
    add timed_out integer not null default 0,
    add crashed integer not null default 0,
    add wait_hist integer[],
    add run_hist integer[];
alter table absurd.stat set (fillfactor = 50);
