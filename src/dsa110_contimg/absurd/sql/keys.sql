-- Keys and limits: idempotency, concurrency, fairness, rates, ageing. A task without a key pays for none of them.

-- ------------------------------------------------------------------------------------------------------- idempotency

-- Reserve the idempotency keys of nodes (as for spawn_tasks). Returns the nodes whose key belongs to another task: to
-- one of the queue, or to an earlier node of the same call.
create or replace function absurd.reserve_keys(p_nodes jsonb) returns table (task_id uuid, existing uuid)
language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
#variable_conflict use_column
declare
    v_now     timestamptz := clock();
    v_all_new boolean;
begin
    -- Somebody who is inserting the same key now is waited for; the statements after this one see what he did.
    with node as materialized (
        select * from rows from (jsonb_to_recordset(p_nodes) as (
            task_id uuid, queue text, idempotency_key text, idempotency_ttl_s float8))
            with ordinality n(task_id, queue, idempotency_key, idempotency_ttl_s, i)
        where n.idempotency_key is not null),
    made as (
        insert into idem (queue, key, task_id, expires_at)
        select distinct on (n.queue, n.idempotency_key) n.queue, n.idempotency_key, n.task_id,
               v_now + make_interval(secs => n.idempotency_ttl_s)
        from node n order by n.queue, n.idempotency_key, n.i
        on conflict (queue, key) do nothing
        returning 1)
    select (select count(*) from made) = (select count(*) from node) into v_all_new;
    if v_all_new then
        return;
    end if;

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
set plan_cache_mode = force_generic_plan
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
    gone as (delete from parked p using next n where p.task_id between n.task_id and n.task_id),
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

-- Places in line for tasks with these fair keys, in their order; null for one without. The n-th waiting task of a key
-- stands n hours behind the first: so the keys take turns, round by round, whoever spawned how many at once. A new key
-- begins with the round that is being served.
create or replace function absurd.take_places(p_queues text[], p_keys text[]) returns timestamptz[]
language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
as $$
declare
    v_now    timestamptz := clock();
    v_queues text[];
    v_keys   text[];
    v_counts integer[];
    v_turn   timestamptz;
    v_round  timestamptz;
    v_first  timestamptz[] := '{}';
begin
    select array_agg(k.queue order by k.queue, k.key), array_agg(k.key order by k.queue, k.key),
           array_agg(k.n order by k.queue, k.key)
    into v_queues, v_keys, v_counts
    from (select x.queue, x.key, count(*) as n from unnest(p_queues, p_keys) x(queue, key)
          where x.key is not null group by x.queue, x.key) k;
    for i in 1..coalesce(cardinality(v_keys), 0) loop
        if i = 1 or v_queues[i] <> v_queues[i - 1] then
            v_round := now_served(v_queues[i], v_now);
        end if;
        insert into fair as f (queue, key, turn) values (v_queues[i], v_keys[i], v_round + make_interval(hours => v_counts[i]))
        on conflict (queue, key) do update set turn = greatest(f.turn, v_round) + make_interval(hours => v_counts[i])
        returning f.turn into v_turn;
        v_first := v_first || v_turn - make_interval(hours => v_counts[i]);
    end loop;
    return array(
        select f.first + make_interval(hours => x.nth)
        from (select x.*, row_number() over (partition by x.queue, x.key order by x.i)::integer - 1 as nth
              from unnest(p_queues, p_keys) with ordinality x(queue, key, i)) x
             left join unnest(v_queues, v_keys, v_first) f(queue, key, first) on f.queue = x.queue and f.key = x.key
        order by x.i);
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
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_now      timestamptz := clock();
    v_in       uuid[];
    v_for      text[];
    v_later    uuid[];
    v_keyed    uuid[];
    v_attempts integer[];
    v_crashes  integer[];
    v_queues   text[];
    v_fair     text[];
begin
    if cardinality(p_tasks) > 0 then
        with x as materialized (
            select t.queue, t.rank, t.task_id, t.name, coalesce(x.attempt, 0) as attempt, coalesce(x.crashes, 0) as crashes,
                   t.fair_key, t.run_at, case when t.run_at > v_now then 'early'
                                              when t.conc_key is null and t.fair_key is null then 'plain'
                                              else 'keyed' end as kind
            from unnest(p_tasks, p_attempts, p_crashes) x(task_id, attempt, crashes)
                 join task t on t.task_id between x.task_id and x.task_id),
        plain as (
            insert into ready (queue, rank, run_at, task_id, name, attempt, crashes)
            select x.queue, x.rank, v_now, x.task_id, x.name, x.attempt, x.crashes from x where x.kind = 'plain'),
        early as (
            insert into later (run_at, task_id, attempt, crashes, why)
            select x.run_at, x.task_id, x.attempt, x.crashes, 'scheduled' from x where x.kind = 'early')
        select array_agg(x.task_id) filter (where x.kind = 'plain'), array_agg(distinct x.queue) filter (where x.kind = 'plain'),
               array_agg(x.task_id) filter (where x.kind = 'early'),
               array_agg(x.task_id order by x.rank, x.task_id) filter (where x.kind = 'keyed'),
               array_agg(x.attempt order by x.rank, x.task_id) filter (where x.kind = 'keyed'),
               array_agg(x.crashes order by x.rank, x.task_id) filter (where x.kind = 'keyed'),
               array_agg(x.queue order by x.rank, x.task_id) filter (where x.kind = 'keyed'),
               array_agg(x.fair_key order by x.rank, x.task_id) filter (where x.kind = 'keyed')
        into v_in, v_for, v_later, v_keyed, v_attempts, v_crashes, v_queues, v_fair from x;
        perform wake(v_for);
        perform announce(v_in, 'pending');
        perform announce(v_later, 'scheduled');
    end if;
    if v_keyed is not null then
        perform admit_keyed(v_keyed, v_attempts, v_crashes, take_places(v_queues, v_fair), p_back);
    elsif cardinality(p_back) > 0 then
        perform admit_keyed('{}', '{}', '{}', '{}', p_back);
    end if;
end $$;

-- The same for tasks with keys, and for permits that come back. p_places: where they stand in line; null = at the end.
create or replace function absurd.admit_keyed(
    p_tasks uuid[], p_attempts integer[], p_crashes integer[], p_places timestamptz[], p_back uuid[])
returns void language plpgsql volatile set search_path = pg_catalog, absurd, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_now    timestamptz := clock();
    v_in     uuid[];
    v_for    text[];
    v_parked uuid[];
    v_queues text[];
    v_keys   text[];
    v_back   integer[];
begin
    with x as materialized (
        select t.queue, t.rank, coalesce(x.place, v_now) as run_at, t.task_id, t.name, x.attempt, x.crashes, t.conc_key
        from unnest(p_tasks, p_attempts, p_crashes, p_places) x(task_id, attempt, crashes, place)
             join task t on t.task_id between x.task_id and x.task_id),
    free as (
        insert into ready (queue, rank, run_at, task_id, name, attempt, crashes)
        select x.queue, x.rank, x.run_at, x.task_id, x.name, x.attempt, x.crashes from x where x.conc_key is null),
    waiting as (
        insert into parked (queue, conc_key, rank, run_at, task_id, name, attempt, crashes)
        select x.queue, x.conc_key, x.rank, x.run_at, x.task_id, x.name, x.attempt, x.crashes from x
        where x.conc_key is not null),
    keys as (
        select x.queue, x.conc_key, 0 as back from x where x.conc_key is not null
        union all
        select t.queue, t.conc_key, 1 from task t where t.task_id = any(p_back) and t.conc_key is not null)
    select (select array_agg(x.task_id) from x where x.conc_key is null),
           (select array_agg(distinct x.queue) from x where x.conc_key is null),
           (select array_agg(x.task_id) from x where x.conc_key is not null),
           (select array_agg(k.queue) from keys k), (select array_agg(k.conc_key) from keys k),
           (select array_agg(k.back) from keys k)
    into v_in, v_for, v_parked, v_queues, v_keys, v_back;
    perform wake(v_for);
    perform announce(v_in, 'pending');
    perform announce(v_parked, 'parked');
    if v_keys is not null then
        perform hand_out(v_queues, v_keys, v_back);
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
