"""Queues: their counts and their controls."""

QUEUE_STATS = "select * from absurd.get_queue_stats($1)"
LIST_QUEUE_STATS = """
select s.* from (
    select queue from absurd.stats union select queue from absurd.ready union select queue from absurd.parked
    union select t.queue from absurd.lease l join absurd.task t on t.task_id = l.task_id
    union select t.queue from absurd.blocked b join absurd.task t on t.task_id = b.task_id
    union select t.queue from absurd.later w join absurd.task t on t.task_id = w.task_id
) q cross join lateral absurd.get_queue_stats(q.queue) s order by s.queue_name
"""
PAUSE_QUEUE = "select absurd.pause_queue($1, $2)"
SET_QUEUE_LIMITS = "select absurd.set_queue_limits($1, $2, $3, $4)"
SET_CONCURRENCY = "select absurd.set_concurrency($1, $2, $3)"
DRAIN_WORKER = "select absurd.drain_worker($1)"
BEAT = "select absurd.beat($1)"
