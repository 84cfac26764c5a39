-- ABSURD: the durable task queue. The tables; the transitions of a task are the functions of sql/*.sql.
--
-- The promise: a committed task is never lost; it is claimed by one worker at a time; it runs at least once; its
-- completion is recorded exactly once, by the holder of the current claim.
--
-- The life of a task
--
--     spawn ──► blocked ──────► ready ──claim──► lease ──complete──► task.outcome = completed
--       │          │              ▲                │
--       │          │ a parent     │ it is time     ├─ fail, attempts left; snooze ──► later
--       ├─ later ──┼──────────────┤                │
--       │          │              │ a permit       ├─ fail, none left ──────► task.outcome = failed, copy in dead
--       └─ parked ─┼──────────────┤ is free        │
--                  │ ended so     ├─ soft stop ◄───┤
--                  │ that it      │                │
--                  ▼ cannot run   └─ worker lost ◄─┴─ cancel ───────────────► task.outcome = cancelled
--           task.outcome = skipped
--
-- A task that is not over stands in exactly one of the narrow tables blocked, later, parked, ready, lease; its wide row
-- in `task` is written when it is spawned and once more when it ends. People read the view `absurd.tasks`, where the
-- tables appear as the states blocked, scheduled or retrying, parked, pending, claimed, and the outcomes completed,
-- failed, cancelled, skipped.
--
-- Order of locks, everywhere: rows of `idem`, of `lease`, of `task`, of blocked, later, parked and ready, of `conc`, of
-- `fair`, of `queue`; within a table in the order of its key. A function that looks for a task in several tables takes
-- the locks of a wrong guess back (cancel_tasks). Claims and the reaper pass over what is locked instead of waiting.
-- Rows of `stat` are never waited for: each session has its own.
--
-- Each statement of these functions must see what was committed while the one before it waited for a lock, so they are
-- VOLATILE and meant for READ COMMITTED (the default of every server).
--
-- `x.task_id between y.task_id and y.task_id` is an equality that PostgreSQL can only use to look x up for each y. With `=` it
-- may also walk x along its whole index, and does so when the statistics call x empty: those of narrow tables mostly come
-- from a moment when they were.
--
-- These files can be run again at any time: they create what is missing and replace the functions.

create schema if not exists absurd;

create table if not exists absurd.meta (
    one            boolean primary key default true check (one),
    schema_version integer not null,
    serves_from    integer not null,             -- the oldest version of the code that works with this schema
    roles          boolean not null,             -- set up with roles: each `init` brings their rights up to date
    installed_at   timestamptz not null default now()
);

-- ------------------------------------------------------------------------------------------------------------ tables

-- Partitioned by the time inside the id (UUIDv7), so that old months can be dropped whole. spawn_tasks checks the values:
-- a constraint here would be checked again, for every partition, at each task's end.
create table if not exists absurd.task (
    task_id      uuid primary key,
    queue        text not null,
    name         text not null,
    params       jsonb not null,
    rank         integer not null,               -- = -priority: the claim reads its index forwards
    max_attempts integer not null,
    timeout_s    double precision,
    retry        jsonb,                          -- {"base_s", "cap_s"} of the back-off, "retry_on", "dead_on"
    workflow_id  uuid,
    has_children boolean not null,               -- false: ending needs no look at `edge`
    created_at   timestamptz not null,
    started_at   timestamptz,                    -- the rest is written at the end
    finished_at  timestamptz,
    outcome      text,                           -- completed, failed, cancelled, skipped
    attempts     integer,
    result       jsonb,
    error        jsonb,                          -- {"type", "message", "traceback", "reason", ...}
    run_at       timestamptz,                    -- not before
    idem_key     text,
    conc_key     text,
    fair_key     text,
    headers      jsonb,                          -- the spawner's own words, handed to the worker
    max_crashes  integer                         -- null: what the reaper is told
) partition by range (task_id);
create index if not exists task_workflow on absurd.task (workflow_id) where workflow_id is not null;
create table if not exists absurd.task_default partition of absurd.task default with (fillfactor = 80);

create table if not exists absurd.workflow (
    workflow_id uuid primary key,
    name        text not null,
    metadata    jsonb not null,
    created_at  timestamptz not null
);
create index if not exists workflow_newest on absurd.workflow (created_at, workflow_id);

create table if not exists absurd.edge (
    parent   uuid not null,
    child    uuid not null,
    policy   text not null check (policy in ('success', 'done', 'failure')),
    consumed boolean not null default false,     -- the parent has ended and the child knows it
    primary key (parent, child)
);
create index if not exists edge_child on absurd.edge (child);
create index if not exists edge_failure on absurd.edge (parent) where policy = 'failure';

create table if not exists absurd.blocked (
    task_id   uuid primary key,
    remaining integer not null                   -- edges not yet consumed
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

create table if not exists absurd.ready (
    queue    text not null,
    rank     integer not null,
    run_at   timestamptz not null,               -- since when; with a fair_key, its place in the line (keys.sql)
    task_id  uuid not null unique,
    name     text not null,
    attempt  integer not null,                   -- attempts made so far
    crashes  integer not null,                   -- of these, how many ended with the worker's death
    conc_key text,                               -- it holds a permit of this key
    primary key (queue, rank, run_at, task_id)
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

create index if not exists ready_permit on absurd.ready (queue, conc_key) where conc_key is not null;

create table if not exists absurd.later (
    run_at  timestamptz not null,
    task_id uuid not null unique,
    attempt integer not null,
    crashes integer not null,
    why     text not null check (why in ('retry', 'scheduled', 'snooze')),
    primary key (run_at, task_id)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

-- Tasks whose concurrency key has no permit left.
create table if not exists absurd.parked (
    queue    text not null,
    conc_key text not null,
    rank     integer not null,
    run_at   timestamptz not null,
    task_id  uuid not null unique,
    name     text not null,
    attempt  integer not null,
    crashes  integer not null,
    primary key (queue, conc_key, rank, run_at, task_id)
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

create sequence if not exists absurd.claim_number;

-- As many rows as tasks run: it is read whole to find those of a worker, or past their deadline.
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
    message    text,
    ready_at   timestamptz,                      -- since when it waited for a worker
    conc_key   text                              -- it holds a permit of this key
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

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
    attempts     integer not null,
    conc_key     text,
    fair_key     text,
    headers      jsonb,
    max_crashes  integer
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
    unlocked_seen timestamptz,                   -- since when the reaper has found that lock free; when it gave the worker up
    drain         boolean not null default false -- somebody asked it to stop softly
) with (fillfactor = 50);

-- What ended, by minute. `shard` is 0 or the process id of the session that wrote the row: no session waits for the row of
-- another. fold_stats() puts old rows together (0). Histograms: bucket i (from 1) counts seconds up to 0.001 * 2^(i/2),
-- the last one all above.
create table if not exists absurd.stat (
    queue     text not null,
    name      text not null,
    minute    timestamptz not null,
    shard     integer not null,
    completed integer not null default 0,
    failed    integer not null default 0,
    cancelled integer not null default 0,
    skipped   integer not null default 0,
    wait_s    double precision not null default 0,   -- sums over the completed: from ready to claimed
    run_s     double precision not null default 0,   -- and from claimed to completed
    retried   integer not null default 0,            -- attempts that failed and were not the last
    timed_out integer not null default 0,            -- attempts that outlived their time
    crashed   integer not null default 0,            -- attempts that ended with their worker
    wait_hist integer[],
    run_hist  integer[],
    primary key (queue, name, minute, shard)
) with (fillfactor = 50);

-- What was completed in the last second or so: a row for each flush and task name, which a flush only adds. The reaper
-- counts it into `stat` (shard 0) and empties it; the view `stats` shows both together.
create table if not exists absurd.tally (
    queue  text not null,
    name   text not null,
    at     timestamptz not null,
    wait_s double precision[] not null,              -- of each task: from ready to claimed
    run_s  double precision[] not null               -- and from claimed to completed
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);

-- Keys. A key's rows exist while somebody needs them (repair).

create table if not exists absurd.idem (
    queue      text not null,
    key        text not null,
    task_id    uuid not null,
    expires_at timestamptz,                      -- null: as long as the task's row lives
    primary key (queue, key)
);

-- Permits of a concurrency key; `running` counts the tasks of the key in ready and lease.
create table if not exists absurd.conc (
    queue       text not null,
    key         text not null,
    max_running integer not null default 1 check (max_running >= 0),
    running     integer not null default 0,
    primary key (queue, key)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

create table if not exists absurd.fair (
    queue text not null,
    key   text not null,
    turn  timestamptz not null,                  -- the place after the last task of the key
    primary key (queue, key)
) with (fillfactor = 70);

-- What is set for a queue; one without a row is neither paused nor limited.
create table if not exists absurd.queue (
    name       text primary key,
    paused     boolean not null default false,
    rate_per_s double precision check (rate_per_s > 0),
    burst      double precision check (burst >= 1),
    tokens     double precision,
    tokens_at  timestamptz,
    ageing_s   double precision check (ageing_s > 0),
    aged_at    timestamptz
) with (fillfactor = 50);

-- What happened to tasks, for those who watch: as long as anybody listens, and an hour.
create sequence if not exists absurd.event_number;   -- outlives a crash, which the table does not
create unlogged table if not exists absurd.event (
    event_id bigint primary key default nextval('absurd.event_number'),
    at       timestamptz not null,
    body     jsonb not null                      -- updates: [{"type": "task_update", "task_id", "status", ...}, ...]
);
create unlogged table if not exists absurd.audience (
    one   boolean primary key default true check (one),
    until timestamptz not null                   -- somebody listens at least so long
);

-- ---------------------------------------------------------------------------------------------- time, ids, partitions

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

-- Months of `task` for now and the next; a month that cannot be made now is left to the next call, its rows go to the
-- default partition until then. Not more of them than needed: each statement that looks into `task` asks each (pruning.sql).
create or replace function absurd.make_partitions() returns void language plpgsql
set search_path = pg_catalog, absurd, pg_temp set lock_timeout = '2s'
as $$
declare
    v_month timestamptz;
    v_name  text;
begin
    for i in 0..1 loop
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

select absurd.make_partitions();
