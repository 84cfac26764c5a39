-- Workers: how they say that they live, and what happens to the tasks of those that do not.

create or replace function absurd.register_worker(p_worker text, p_host text, p_pid integer, p_queues text[], p_slots integer)
returns void language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$
    insert into worker (worker_id, host, pid, queues, slots, started_at, beat_at, state)
    values (p_worker, p_host, p_pid, p_queues, p_slots, clock(), clock(), 'active')
    on conflict (worker_id) do update set beat_at = clock(), state = 'active', locked_at = null, unlocked_seen = null
$$;

-- Hold the worker's advisory lock for as long as this session lives: the server frees it the moment the process dies.
create or replace function absurd.hold_lock(p_worker text) returns void
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    perform pg_advisory_lock(hashtextextended('absurd.worker ' || p_worker, 0));
    update worker set locked_at = clock(), unlocked_seen = null where worker_id = p_worker;
end $$;

-- Ask a worker to stop softly. False: there is none of this name at work.
create or replace function absurd.drain_worker(p_worker text) returns boolean
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    update worker set drain = true where worker_id = p_worker and state in ('active', 'stopping');
    return found;
end $$;

-- Say that the worker lives, and learn which of its claims to stop: 'cancel' (asked for), 'lost' (somebody else has
-- them); without a claim 'unknown' when the worker itself is not registered any more, 'drain' when it is to stop softly.
-- Leases of this worker that it does not know of (the answer to its claim got lost) go back after p_lease_s.
create or replace function absurd.heartbeat(p_worker text, p_claims bigint[], p_lease_s double precision)
returns table (claim bigint, verdict text)
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_now   timestamptz := clock();
    v_drain boolean;
    v_lost  lease[];
begin
    update worker set beat_at = v_now where worker_id = p_worker and state <> 'crashed' returning drain into v_drain;
    if not found then
        return query select null::bigint, 'unknown'::text;
    end if;
    with gone as (
        delete from lease where task_id in (
            select l.task_id from lease l where l.worker_id = p_worker and l.claim <> all(p_claims)
            and l.started_at < v_now - make_interval(secs => p_lease_s) order by l.task_id for update skip locked)
        returning *)
    select array_agg(g::lease) into v_lost from gone g;
    if v_lost is not null then
        perform release_leases(v_lost);
    end if;
    return query select null::bigint, 'drain'::text where v_drain;
    return query select x.claim, 'cancel'::text from lease x where x.worker_id = p_worker and x.cancel;
    return query select c, 'lost'::text from unnest(p_claims) c
        where not exists (select from lease x where x.worker_id = p_worker and x.claim = c);
end $$;

-- Stop claiming ('stopping'), or leave ('stopped', which gives back whatever is still held).
create or replace function absurd.leave(p_worker text, p_state text) returns void
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_held lease[];
begin
    update worker set state = p_state, unlocked_seen = null where worker_id = p_worker;
    if p_state = 'stopped' then
        perform 1 from lease where worker_id = p_worker order by task_id for update;
        with gone as (delete from lease where worker_id = p_worker returning *)
        select array_agg(g::lease) into v_held from gone g;
        if v_held is not null then
            perform release_leases(v_held);
        end if;
    end if;
end $$;

-- Take tasks, whose leases the caller has just deleted, from workers that are lost; a task that has now lost
-- p_max_crashes workers is poison and dies.
create or replace function absurd.take_over_leases(p_leases absurd.lease[], p_max_crashes integer) returns void
language sql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
    select end_attempts(array_agg(l), array_agg(jsonb_build_object('type', 'WorkerLost', 'reason', 'crashed', 'message',
                            format('worker %s died during attempt %s', l.worker_id, l.attempt))), null, null, p_max_crashes)
    from unnest(p_leases) l having count(*) > 0
$$;

-- One round of housekeeping, done by one session at a time: let in tasks whose time has come, raise the priority of those
-- that have waited long, find lost workers, take over what they held, end attempts that outlived their deadline by 30 s,
-- count what has been completed.
-- Returns how many leases were ended.
--
-- A worker is lost when its beat is older than the lease, or when its advisory lock has been free for 0.7 s (a worker
-- whose connection was cut has taken the lock again by then). A lock of before the last restart of the server says nothing.
-- It waits for no lock as long as the server takes to call that a deadlock: housekeeping gives way, and comes again.
-- What a worker claims after it was given up proves that it lives: that it keeps, until it is silent for a whole lease.
-- Tasks that somebody is changing at this moment are left to the next round.
create or replace function absurd.reap(p_lease_s double precision, p_max_crashes integer) returns integer
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp set lock_timeout = '500ms'
as $$
declare
    v_now   timestamptz := clock();
    v_lost  text[];
    v_held  lease[];
    v_late  lease[];
begin
    if not pg_try_advisory_xact_lock(hashtextextended('absurd.reaper', 0)) then
        return 0;
    end if;
    update worker w set unlocked_seen = case when seen.free then coalesce(w.unlocked_seen, v_now) end
    from (select worker_id, locked_at > pg_postmaster_start_time()
                 and pg_try_advisory_xact_lock(hashtextextended('absurd.worker ' || worker_id, 0)) as free
          from worker where state in ('active', 'stopping') and locked_at is not null) seen
    where w.worker_id = seen.worker_id and seen.free is distinct from (w.unlocked_seen is not null);

    with lost as (
        update worker set state = 'crashed', locked_at = null, unlocked_seen = v_now
        where state in ('active', 'stopping')
          and (beat_at < v_now - make_interval(secs => p_lease_s) or unlocked_seen < v_now - interval '0.7 s')
        returning worker_id)
    select coalesce(array_agg(worker_id), '{}') into v_lost from lost;
    if cardinality(v_lost) > 0 then
        raise log 'absurd: lost workers %', v_lost;
    end if;

    with over as materialized (
        select l.task_id, l.deadline < v_now - interval '30 s' and w.state in ('active', 'stopping') as late
        from lease l join task t on t.task_id = l.task_id left join worker w on w.worker_id = l.worker_id
        where w.worker_id is null or w.state = 'stopped' or l.deadline < v_now - interval '30 s'
           or w.state = 'crashed' and (l.started_at <= coalesce(w.unlocked_seen, 'infinity')
                                       or w.beat_at < v_now - make_interval(secs => p_lease_s))
        order by l.task_id for update of l, t skip locked),
    gone as (delete from lease l using over o where l.task_id = o.task_id returning l::lease as l, coalesce(o.late, false) as late)
    select array_agg(g.l) filter (where not g.late), array_agg(g.l) filter (where g.late) into v_held, v_late from gone g;
    perform take_over_leases(v_held, p_max_crashes);
    perform end_attempts(v_late, array_agg(jsonb_build_object('type', 'TimeoutError', 'reason', 'timeout', 'message',
                format('the attempt ran past its deadline %s and its worker did not end it', l.deadline))), null, null, null)
    from unnest(v_late) l having count(*) > 0;
    perform promote(v_now);
    perform age(v_now);
    perform count_tallies();
    return coalesce(cardinality(v_held), 0) + coalesce(cardinality(v_late), 0);
end $$;

-- Let in tasks whose back-off or wait is over.
create or replace function absurd.promote(p_now timestamptz) returns void
language plpgsql set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_tasks    uuid[];
    v_attempts integer[];
    v_crashes  integer[];
begin
    with due as (
        delete from later where task_id in (
            select x.task_id from later x where x.run_at <= p_now order by x.run_at, x.task_id limit 5000
            for update skip locked)
        returning *)
    select coalesce(array_agg(d.task_id), '{}'), array_agg(d.attempt), array_agg(d.crashes)
    into v_tasks, v_attempts, v_crashes from (select * from due order by run_at, task_id) d;
    if cardinality(v_tasks) > 0 then
        perform admit(v_tasks, v_attempts, v_crashes);
    end if;
end $$;

-- Repair what no transition should ever leave behind, and count it: an edge of an ended parent that its waiting child was
-- not told of, a task that waits for nothing, a permit that nobody holds. Anything but 0 is a defect to look into. Throws away what nobody needs.
create or replace function absurd.repair() returns integer
language plpgsql security definer set search_path = pg_catalog, absurd, pg_temp set lock_timeout = '500ms'
as $$
declare
    v_now     timestamptz := clock();
    v_missed  uuid[];
    v_edges   integer;
    v_permits integer;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('absurd.repair', 0)) then
        return 0;
    end if;
    select coalesce(array_agg(distinct e.parent), '{}'), count(*) into v_missed, v_edges
    from blocked b join edge e on e.child = b.task_id and not e.consumed
         join task p on p.task_id = e.parent and p.outcome is not null;
    if v_edges > 0 then
        perform admit(settle(v_missed));
    end if;
    with gone as (
        delete from blocked b where not exists (select from edge e where e.child = b.task_id and not e.consumed)
        returning b.task_id)
    select coalesce(array_agg(g.task_id), '{}') into v_missed from gone g;
    if cardinality(v_missed) > 0 then
        perform admit(v_missed);
        v_edges := v_edges + cardinality(v_missed);
    end if;
    v_permits := recount_permits();
    perform count_repairs('edges', v_edges);
    perform count_repairs('permits', v_permits);
    perform fold_stats();
    delete from worker where state in ('stopped', 'crashed') and beat_at < v_now - interval '1 day';
    delete from event where at < v_now - interval '1 hour';
    delete from idem where expires_at <= v_now;
    delete from conc k where k.running = 0 and k.max_running = 1
        and not exists (select from parked p where p.queue = k.queue and p.conc_key = k.key);
    delete from fair f where not exists (select from ready r where r.queue = f.queue)
        and not exists (select from parked p where p.queue = f.queue);
    perform make_partitions();
    return v_edges + v_permits;
end $$;
