"""Setting the queue up, and asking which one is there."""

SCHEMA_VERSION = "select schema_version from absurd.meta"
SCHEMA_EXISTS = "select to_regclass('absurd.meta') is not null"
STATUS = """
select (select schema_version from absurd.meta) as schema_version,
       (select count(*) from pg_class where relnamespace = 'absurd'::regnamespace and relkind in ('r', 'p')
                                        and not relispartition) as tables,
       (select count(*) from pg_proc where pronamespace = 'absurd'::regnamespace) as functions,
       (select count(*) from absurd.task) as tasks,
       (select count(*) from absurd.misplaced) as misplaced
"""
LOCK_SETUP = "select pg_advisory_xact_lock(hashtextextended('absurd.setup', 0))"
DROP_SCHEMA = "drop schema if exists absurd cascade"
