"""Schedules: reading, writing and firing them."""

UPSERT_CRON = """
insert into absurd.cron (name, expr, timezone, queue, task_name, params, rank, timeout_s, max_attempts, next_at,
                         created_at)
values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, absurd.clock())
on conflict (name) do update
set expr = excluded.expr, timezone = excluded.timezone, queue = excluded.queue, task_name = excluded.task_name,
    params = excluded.params, rank = excluded.rank, timeout_s = excluded.timeout_s,
    max_attempts = excluded.max_attempts, next_at = excluded.next_at
"""
LIST_CRON = "select * from absurd.cron order by name"
DUE_CRON = "select name, expr, timezone, next_at from absurd.cron where next_at <= absurd.clock() and not paused"
NEXT_CRON = "select extract(epoch from min(next_at) - absurd.clock())::float8 from absurd.cron where not paused"
PAUSE_CRON = "update absurd.cron set paused = $2 where name = $1 returning name"
DELETE_CRON = "delete from absurd.cron where name = $1 returning name"
FIRE_CRON = "select absurd.fire_cron($1, $2, $3, $4)"
