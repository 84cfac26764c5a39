"""What the queue says about itself."""

LIST_WORKERS = """
select w.worker_id, w.host, w.pid, w.queues, w.slots, w.state, w.started_at, w.beat_at,
       extract(epoch from absurd.clock() - w.beat_at)::float8 as beat_age_s,
       extract(epoch from w.beat_at - w.started_at)::float8 as uptime_s,
       array(select l.task_id from absurd.lease l where l.worker_id = w.worker_id order by l.claim) as task_ids
from absurd.worker w order by w.started_at, w.worker_id
"""
HEALTH = """
select (select count(*) from absurd.ready) as queue_depth,
       (select extract(epoch from absurd.clock() - min(run_at))::float8 from absurd.ready) as oldest_pending_s,
       (select count(*) from absurd.lease) as running,
       (select count(*) from absurd.dead) as dead,
       (select extract(epoch from absurd.clock() - max(minute))::float8 from absurd.stat
        where completed > 0 and minute > absurd.clock() - interval '1 day') as last_completed_s
"""
