-- The server's own witness: every transition that was committed, in a table that only a campaign's database has.
-- `at` is the server's true time, whatever clock a session believes in.
create schema if not exists chaos;

create table if not exists chaos.journal (
    n       bigint generated always as identity primary key,
    at      timestamptz not null default clock_timestamp(),
    xid     text not null default pg_current_xact_id()::text,
    what    text not null,                         -- spawned | leased | unleased | released | ended | revived (by a retry)
    task_id uuid not null,
    claim   bigint,
    attempt integer,
    worker  text,
    outcome text,
    by      bigint                                 -- the claim that a result says it was made under
);

create or replace function chaos.note_lease() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into chaos.journal (what, task_id, claim, attempt, worker)
        values ('leased', new.task_id, new.claim, new.attempt, new.worker_id);
    else
        insert into chaos.journal (what, task_id, claim, attempt, worker)
        values ('unleased', old.task_id, old.claim, old.attempt, old.worker_id);
    end if;
    return null;
end $$;
create or replace trigger note_lease after insert or delete on absurd.lease for each row execute function chaos.note_lease();

create or replace function chaos.note_task() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into chaos.journal (what, task_id) values ('spawned', new.task_id);
    elsif new.outcome is not null then
        insert into chaos.journal (what, task_id, outcome, attempt, by)
        values ('ended', new.task_id, new.outcome, new.attempts,
                case when jsonb_typeof(new.result->'claim') = 'number' then (new.result->>'claim')::bigint end);
    else
        insert into chaos.journal (what, task_id) values ('revived', new.task_id);
    end if;
    return null;
end $$;
create or replace trigger note_spawn after insert on absurd.task for each row execute function chaos.note_task();
-- Also when it was and stays null: a retry begins anew with tasks that wait for the end of the retried one.
create or replace trigger note_end after update of outcome on absurd.task for each row execute function chaos.note_task();

create or replace function chaos.note_release() returns trigger language plpgsql as $$
begin
    insert into chaos.journal (what, task_id) values ('released', old.task_id);
    return null;
end $$;
create or replace trigger note_release after delete on absurd.blocked for each row execute function chaos.note_release();
