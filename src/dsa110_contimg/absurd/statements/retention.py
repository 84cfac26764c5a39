"""Retention: what has ended long ago leaves the tables."""

PRUNE_TASKS = "select absurd.prune_tasks($1, $2, $3::text[], $4)"
DROP_OLD_PARTITION = "select absurd.drop_old_partition($1)"
PRUNE_RECORDS = "select absurd.prune_records($1)"
