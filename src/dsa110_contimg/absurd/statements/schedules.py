"""Schedules: reading, writing and firing them."""

CREATE = """
insert into absurd.cron (name, description, expr, timezone, queue, task_name, params, headers, rank, timeout_s,
                         max_attempts, policy, catch_up_limit, overlap, next_at, state, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9, $10, $11, $12, $13, $14, $15, $16,
        absurd.clock(), absurd.clock())
on conflict (name) do nothing returning name
"""
UPDATE = """
update absurd.cron
set description = $2, expr = $3, timezone = $4, queue = $5, task_name = $6, params = $7::jsonb, headers = $8::jsonb,
    rank = $9, timeout_s = $10, max_attempts = $11, policy = $12, catch_up_limit = $13, overlap = $14,
    next_at = coalesce($15, next_at), state = $16, last_error = null, updated_at = absurd.clock()
where name = $1 and xmin::text::bigint = $17 returning name
"""
GET = """
select s.*, (select c.xmin::text::bigint from absurd.cron c where c.name = s.name) as version
from absurd.schedules s where s.name = $1
"""
LIST = """
select * from absurd.schedules
where ($1::text is null or queue_name = $1) and ($2::text is null or state = $2) order by name
"""
DELETE = "delete from absurd.cron where name = $1 returning name"
TRIGGER = "select absurd.trigger_cron($1, $2)"
DUE = """
select name, expr, timezone, policy, catch_up_limit, next_at from absurd.cron
where state = 'active' and next_at <= $1 order by next_at, name
"""
NEXT = """
select (extract(epoch from min(next_at) filter (where next_at > $1) - absurd.clock()))::float8 as due_s,
       bool_or(next_at <= $1) as held
from absurd.cron where state = 'active'
"""
FIRE = "select absurd.fire_cron($1, $2, $3, $4, $5)"
NOTE_ERROR = "select absurd.note_cron_error($1, $2)"
