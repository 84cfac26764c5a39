-- Keys and limits: idempotency, concurrency, fairness, rates, ageing. A task without a key pays for none of them.

-- ------------------------------------------------------------------------------------------------------- idempotency

-- Reserve the idempotency keys of nodes (as for spawn_tasks). Returns the nodes whose key belongs to another task: to
-- one of the queue, or to an earlier node of the same call.
create or replace function absurd.reserve_keys(p_nodes jsonb) returns table (task_id uuid, existing uuid)
language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
begin
    -- Somebody who is inserting the same key now is waited for; the statements after this one see what he did.
    insert into idem (queue, key, task_id, expires_at)
    select distinct on (n.queue, n.idempotency_key) n.queue, n.idempotency_key, n.task_id,
           v_now + make_interval(secs => n.idempotency_ttl_s)
    from rows from (jsonb_to_recordset(p_nodes) as (
             task_id uuid, queue text, idempotency_key text, idempotency_ttl_s float8)) with ordinality n(task_id, queue, idempotency_key, idempotency_ttl_s, i)
    where n.idempotency_key is not null
    order by n.queue, n.idempotency_key, n.i
    on conflict (queue, key) do nothing;

    -- A key that has expired, or whose task is gone, is free.
    with node as materialized (
        select distinct on (n.queue, n.idempotency_key) n.*
        from rows from (jsonb_to_recordset(p_nodes) as (
             task_id uuid, queue text, idempotency_key text, idempotency_ttl_s float8)) with ordinality n(task_id, queue, idempotency_key, idempotency_ttl_s, i)
        where n.idempotency_key is not null order by n.queue, n.idempotency_key, n.i),
    free as materialized (
        select k.queue, k.key from node n join idem k on k.queue = n.queue and k.key = n.idempotency_key
        where k.task_id <> n.task_id
          and (k.expires_at <= v_now or not exists (select from task t where t.task_id = k.task_id))
        order by k.queue, k.key for update of k)
    update idem k set task_id = n.task_id, expires_at = v_now + make_interval(secs => n.idempotency_ttl_s)
    from free f join node n on n.queue = f.queue and n.idempotency_key = f.key
    where k.queue = f.queue and k.key = f.key;

    return query
        select n.task_id, k.task_id
        from jsonb_to_recordset(p_nodes) n(task_id uuid, queue text, idempotency_key text)
             join idem k on k.queue = n.queue and k.key = n.idempotency_key
        where k.task_id <> n.task_id;
end $$;

-- The nodes without those that exist already, with dependencies on these pointing to the existing tasks.
create or replace function absurd.without_existing(p_nodes jsonb, p_from uuid[], p_to uuid[]) returns jsonb
language sql stable set search_path = pg_catalog, absurd, pg_temp
as $$
    with other as materialized (select * from unnest(p_from, p_to) o(id, existing))
    select coalesce(jsonb_agg(case when jsonb_array_length(coalesce(nullif(x.n->'depends_on', 'null'), '[]')) = 0 then x.n
        else jsonb_set(x.n, '{depends_on}', (
            select jsonb_agg(d || jsonb_build_object('task_id', coalesce(o.existing, (d->>'task_id')::uuid)))
            from jsonb_array_elements(x.n->'depends_on') d left join other o on o.id = (d->>'task_id')::uuid)) end
        order by x.i), '[]')
    from jsonb_array_elements(p_nodes) with ordinality x(n, i)
    where not exists (select from other o where o.id = (x.n->>'task_id')::uuid)
$$;

-- -------------------------------------------------------------------------------------------------------- concurrency

-- Take the permits of keys back (p_back of each), and hand out what is free now to the tasks parked there.
-- The keys' rows are locked by the first statement, so that the second one sees who has parked and who has left.
create or replace function absurd.hand_out(p_queues text[], p_keys text[], p_back integer[]) returns void
language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_ready uuid[];
begin
    insert into conc as c (queue, key, running)
    select k.queue, k.key, -sum(k.back) from unnest(p_queues, p_keys, p_back) k(queue, key, back)
    group by k.queue, k.key order by k.queue, k.key
    on conflict (queue, key) do update set running = c.running + excluded.running;

    with free as materialized (
        select c.queue, c.key, c.max_running - c.running as n
        from (select distinct queue, key from unnest(p_queues, p_keys) k(queue, key)) k
             join conc c on c.queue = k.queue and c.key = k.key
        where c.running < c.max_running),
    next as materialized (
        select p.* from free f cross join lateral (
            select x.* from parked x where x.queue = f.queue and x.conc_key = f.key
            order by x.rank, x.run_at, x.task_id limit f.n for update skip locked) p),
    gone as (delete from parked p using next n where p.task_id = n.task_id),
    held as (
        insert into ready (queue, rank, run_at, task_id, name, attempt, crashes, conc_key)
        select n.queue, n.rank, n.run_at, n.task_id, n.name, n.attempt, n.crashes, n.conc_key from next n),
    counted as (
        update conc c set running = c.running + n.n
        from (select x.queue, x.conc_key, count(*) as n from next x group by x.queue, x.conc_key) n
        where c.queue = n.queue and c.key = n.conc_key)
    select coalesce(array_agg(n.task_id), '{}') into v_ready from next n;
    if cardinality(v_ready) > 0 then
        perform wake(array(select distinct k from unnest(p_queues) k));
        perform announce(v_ready, 'pending');
    end if;
end $$;

-- Find permits that were lost or made up, and tasks that were left parked though a permit is free: put it right and
-- return how many. Anything but 0 is a defect to look into.
create or replace function absurd.recount_permits() returns integer
language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_wrong integer := 0;
    v_held  integer;
    c       conc%rowtype;
begin
    for c in
        select k.* from conc k
        where k.running <> (select count(*) from ready r where r.queue = k.queue and r.conc_key = k.key)
                         + (select count(*) from lease l join task t on t.task_id = l.task_id
                            where l.conc_key = k.key and t.queue = k.queue)
           or k.running < k.max_running
              and exists (select from parked p where p.queue = k.queue and p.conc_key = k.key)
        order by k.queue, k.key
    loop
        perform 1 from conc k where k.queue = c.queue and k.key = c.key for update;
        select (select count(*) from ready r where r.queue = c.queue and r.conc_key = c.key)
             + (select count(*) from lease l join task t on t.task_id = l.task_id
                where l.conc_key = c.key and t.queue = c.queue) into v_held;
        update conc k set running = v_held where k.queue = c.queue and k.key = c.key and k.running <> v_held;
        if found then
            v_wrong := v_wrong + 1;
            raise log 'absurd: key % of queue % had % permits out and % in use', c.key, c.queue, c.running, v_held;
        end if;
        perform hand_out(array[c.queue], array[c.key], array[0]);
    end loop;
    return v_wrong;
end $$;

-- Set how many tasks of a key may run at once in all the workers together.
create or replace function absurd.set_concurrency(p_queue text, p_key text, p_limit integer) returns void
language plpgsql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    insert into conc (queue, key, max_running) values (p_queue, p_key, p_limit)
    on conflict (queue, key) do update set max_running = excluded.max_running;
    perform hand_out(array[p_queue], array[p_key], array[0]);
end $$;

-- ----------------------------------------------------------------------------------------------------------- fairness

-- The n-th waiting task of a key stands n hours behind the first: so the keys take turns, round by round, whoever
-- spawned how many at once. A new key begins with the round that is being served. p_counts: tasks to be added of each
-- key. Returns the place of the first one; the others follow an hour apart.
create or replace function absurd.take_places(p_queues text[], p_keys text[], p_counts integer[])
returns table (queue text, key text, place timestamptz) language plpgsql volatile
set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_variable
declare
    v_now   timestamptz := clock();
    v_queue text;
    v_round timestamptz;
    n       integer;
begin
    for queue, key, n in
        select k.queue, k.key, k.n from unnest(p_queues, p_keys, p_counts) k(queue, key, n) order by k.queue, k.key
    loop
        if queue is distinct from v_queue then
            v_queue := queue;
            v_round := now_served(queue, v_now);
        end if;
        insert into fair as f (queue, key, turn) values (queue, key, v_round + make_interval(hours => n))
        on conflict on constraint fair_pkey do update set turn = greatest(f.turn, v_round) + make_interval(hours => n)
        returning f.turn - make_interval(hours => n) into place;
        return next;
    end loop;
end $$;

-- The round that a queue's fair keys are at: the nearest place that is still waited at, else the end of all rounds.
create or replace function absurd.now_served(p_queue text, p_now timestamptz) returns timestamptz
language sql stable set search_path = pg_catalog, absurd, pg_temp
as $$
    select coalesce(
        (select min(x.run_at) from (select distinct r.rank from ready r where r.queue = p_queue) k
         cross join lateral (select r.run_at from ready r where r.queue = p_queue and r.rank = k.rank and r.run_at > p_now
                             order by r.run_at limit 1) x),
        (select max(f.turn) from fair f where f.queue = p_queue), p_now)
$$;

-- ----------------------------------------------------------------------------------------------------- entering a queue

-- Let tasks that stand in no table in: those whose time has not come to `later`, those with a concurrency key to
-- `parked` and from there to `ready` as permits allow, the others to `ready`. p_attempts and p_crashes: of each task so
-- far; null = 0. p_back: tasks that give their permit back.
create or replace function absurd.admit(
    p_tasks uuid[], p_attempts integer[] default null, p_crashes integer[] default null, p_back uuid[] default '{}')
returns void language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_now timestamptz := clock();
    v_in  uuid[];
    v_for text[];
begin
    if cardinality(p_tasks) > 0 then
        with made as (
            insert into ready as r (queue, rank, run_at, task_id, name, attempt, crashes)
            select t.queue, t.rank, v_now, t.task_id, t.name, coalesce(x.attempt, 0), coalesce(x.crashes, 0)
            from unnest(p_tasks, p_attempts, p_crashes) x(task_id, attempt, crashes) join task t on t.task_id = x.task_id
            where t.conc_key is null and t.fair_key is null and (t.run_at is null or t.run_at <= v_now)
            returning r.task_id, r.queue)
        select coalesce(array_agg(m.task_id), '{}'), array_agg(distinct m.queue) into v_in, v_for from made m;
        perform wake(v_for);
        perform announce(v_in, 'pending');
    end if;
    if cardinality(v_in) < cardinality(p_tasks) or cardinality(p_back) > 0 then
        perform admit_keyed(array(select x from unnest(p_tasks) x except select x from unnest(v_in) x),
                            p_tasks, p_attempts, p_crashes, p_back);
    end if;
end $$;

create or replace function absurd.admit_keyed(
    p_keyed uuid[], p_tasks uuid[], p_attempts integer[], p_crashes integer[], p_back uuid[])
returns void language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_now   timestamptz := clock();
    v_in    uuid[];
    v_due   uuid[];
    v_place timestamptz[];
    v_park  uuid[];
    v_queue text[];
    v_key   text[];
    v_back  integer[];
begin
    with made as (
        insert into later as l (run_at, task_id, attempt, crashes, why)
        select t.run_at, t.task_id, coalesce(x.attempt, 0), coalesce(x.crashes, 0), 'scheduled'
        from unnest(p_tasks, p_attempts, p_crashes) x(task_id, attempt, crashes) join task t on t.task_id = x.task_id
        where t.task_id = any(p_keyed) and t.run_at > v_now returning l.task_id)
    select coalesce(array_agg(m.task_id), '{}') into v_in from made m;
    perform announce(v_in, 'scheduled');
    v_due := array(select x from unnest(p_keyed) x except select x from unnest(v_in) x);

    select array_agg(q.queue), array_agg(q.fair_key), array_agg(q.n) into v_queue, v_key, v_back
    from (select t.queue, t.fair_key, count(*)::integer as n from task t
          where t.task_id = any(v_due) and t.fair_key is not null group by t.queue, t.fair_key) q;
    if v_key is not null then
        select array_agg(x.task_id), array_agg(x.place) into v_due, v_place
        from (select t.task_id, p.place + make_interval(hours => (row_number() over (
                         partition by t.queue, t.fair_key order by t.rank, t.task_id) - 1)::integer) as place
              from task t left join take_places(v_queue, v_key, v_back) p on p.queue = t.queue and p.key = t.fair_key
              where t.task_id = any(v_due)) x;
    end if;

    with made as (
        insert into ready as r (queue, rank, run_at, task_id, name, attempt, crashes)
        select t.queue, t.rank, coalesce(d.place, v_now), t.task_id, t.name, coalesce(x.attempt, 0), coalesce(x.crashes, 0)
        from unnest(v_due, v_place) d(task_id, place)
             join unnest(p_tasks, p_attempts, p_crashes) x(task_id, attempt, crashes) on x.task_id = d.task_id
             join task t on t.task_id = d.task_id
        where t.conc_key is null returning r.task_id, r.queue)
    select coalesce(array_agg(m.task_id), '{}'), array_agg(distinct m.queue) into v_in, v_queue from made m;
    perform wake(v_queue);
    perform announce(v_in, 'pending');

    with made as (
        insert into parked as p (queue, conc_key, rank, run_at, task_id, name, attempt, crashes)
        select t.queue, t.conc_key, t.rank, coalesce(d.place, v_now), t.task_id, t.name, coalesce(x.attempt, 0),
               coalesce(x.crashes, 0)
        from unnest(v_due, v_place) d(task_id, place)
             join unnest(p_tasks, p_attempts, p_crashes) x(task_id, attempt, crashes) on x.task_id = d.task_id
             join task t on t.task_id = d.task_id
        where t.conc_key is not null returning p.task_id)
    select coalesce(array_agg(m.task_id), '{}') into v_park from made m;
    perform announce(v_park, 'parked');

    select array_agg(t.queue), array_agg(t.conc_key), array_agg(x.n) into v_queue, v_key, v_back
    from (select b as task_id, 1 as n from unnest(p_back) b union all select p, 0 from unnest(v_park) p) x
         join task t on t.task_id = x.task_id
    where t.conc_key is not null;
    if v_key is not null then
        perform hand_out(v_queue, v_key, v_back);
    end if;
end $$;

-- ----------------------------------------------------------------------------------------------------- queues' settings

-- Let a queue hand out no tasks, or hand them out again. What runs goes on.
create or replace function absurd.pause_queue(p_queue text, p_paused boolean) returns void
language plpgsql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$
begin
    insert into queue (name, paused) values (p_queue, p_paused)
    on conflict (name) do update set paused = excluded.paused;
    if not p_paused then
        perform wake(array[p_queue]);
    end if;
end $$;

-- Set a queue's limits; null = none. p_rate_per_s: claims a second in the long run, p_burst (default: one second's worth,
-- at least 1) at once. p_ageing_s: for each so many seconds that a task waits, its priority rises by one.
create or replace function absurd.set_queue_limits(
    p_queue text, p_rate_per_s double precision, p_burst double precision, p_ageing_s double precision) returns void
language sql volatile security definer set search_path = pg_catalog, absurd, pg_temp
as $$
    insert into queue as q (name, rate_per_s, burst, ageing_s, tokens, tokens_at)
    values (p_queue, p_rate_per_s, coalesce(p_burst, greatest(p_rate_per_s, 1)), p_ageing_s,
            coalesce(p_burst, greatest(p_rate_per_s, 1)), clock())
    on conflict (name) do update set rate_per_s = excluded.rate_per_s, burst = excluded.burst,
        ageing_s = excluded.ageing_s, tokens = least(excluded.burst, coalesce(q.tokens, excluded.burst)),
        tokens_at = excluded.tokens_at
$$;

-- How many tasks, of p_limit, a queue may hand out now. The row of one with a rate stays locked until the end.
create or replace function absurd.allowance(p_queue text, p_limit integer, p_now timestamptz) returns integer
language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    q queue;
begin
    select * into q from queue where name = p_queue;
    if not found or not q.paused and q.rate_per_s is null then
        return p_limit;
    elsif q.paused then
        return 0;
    end if;
    update queue set tokens_at = greatest(p_now, tokens_at),
        tokens = least(burst, tokens + rate_per_s * greatest(0, extract(epoch from p_now - tokens_at)))
    where name = p_queue returning * into q;
    return least(p_limit, floor(q.tokens));
end $$;

-- Raise the priority of tasks that have waited long, in queues that do so: by one for each whole ageing_s of waiting.
-- At most p_limit at a time; the rest follows in the next round.
create or replace function absurd.age(p_now timestamptz, p_limit integer default 1000) returns integer
language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    q       queue%rowtype;
    v_count integer;
    v_all   integer := 0;
begin
    for q in select * from queue
             where ageing_s is not null and (aged_at is null or aged_at <= p_now - make_interval(secs => ageing_s))
             order by name
    loop
        with old as materialized (
            select r.task_id, t.rank - floor(extract(epoch from p_now - r.run_at) / q.ageing_s)::integer as rank
            from ready r join task t on t.task_id = r.task_id
            where r.queue = q.name and r.run_at <= p_now - make_interval(secs => q.ageing_s)
              and r.rank > t.rank - floor(extract(epoch from p_now - r.run_at) / q.ageing_s)::integer
            order by r.task_id limit p_limit for update of r skip locked)
        update ready r set rank = o.rank from old o where r.task_id = o.task_id;
        get diagnostics v_count = row_count;
        if v_count < p_limit then
            update queue set aged_at = p_now where name = q.name;
        end if;
        v_all := v_all + v_count;
    end loop;
    return v_all;
end $$;
