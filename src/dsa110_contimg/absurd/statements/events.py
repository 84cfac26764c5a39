"""The event log: what happened to tasks, by the numbers that notifications carry."""

EVENTS = "select event_id, at, body::text as updates from absurd.event where event_id = any($1::bigint[])"
RECENT_EVENTS = """
select event_id, at, body::text as updates from absurd.event where event_id > $1 order by event_id desc limit $2
"""
SERVER_START = "select pg_postmaster_start_time()"
# Events are written while somebody has asked for them within this time.
LISTEN = "select absurd.listen($1)"
