"""Dead letters: reading, editing, replaying and deleting them."""

LIST = """
select * from absurd.dead_letters
where ($1::text is null or queue_name = $1) and ($2::text is null or task_name = $2)
  and ($3::text is null or reason = $3) and ($4::uuid is null or task_id < $4)
order by task_id desc limit $5
"""
GET = """
select d.*, (select x.xmin::text::bigint from absurd.dead x where x.task_id = d.task_id) as version,
       (select coalesce(jsonb_agg(jsonb_build_object(
                 'attempt', a.attempt, 'worker_id', a.worker_id, 'started_at', a.started_at,
                 'finished_at', a.finished_at, 'duration_s', extract(epoch from a.finished_at - a.started_at),
                 'reason', a.reason, 'error', a.error)
                 order by a.claim), '[]')
        from absurd.attempt a where a.task_id = d.task_id) as failed_attempts
from absurd.dead_letters d where d.task_id = $1
"""
EDIT = "select absurd.edit_dead($1, $2::jsonb, $3)"
REPLAY = "select absurd.replay_dead($1)"
REPLAY_MANY = "select absurd.replay_dead_letters($1, $2, $3, $4)"
PURGE = "select absurd.purge_dead_letter($1)"
PURGE_MANY = "select absurd.purge_dead($1, $2, $3)"
