"""Setting the queue up, and asking which one is there."""

SCHEMA_EXISTS = "select to_regclass('absurd.meta') is not null"
INSTALLED = "select m.*, obj_description('absurd'::regnamespace, 'pg_namespace') as made_of from absurd.meta m"
STATUS = """
select m.schema_version, m.serves_from, m.installed_at,
       (select count(*) from pg_class where relnamespace = 'absurd'::regnamespace and relkind in ('r', 'p')
                                        and not relispartition) as tables,
       (select count(*) from pg_proc where pronamespace = 'absurd'::regnamespace) as functions,
       (select count(*) from absurd.task) as tasks,
       (select count(*) from absurd.misplaced) as misplaced,
       case when m.roles then 'absurd_owner, absurd_api, absurd_worker, absurd_reader' else 'none' end as roles
from absurd.meta m
"""
SET_LOCK_TIMEOUT = "set local lock_timeout = '500ms'"
LOCK_SETUP = "select pg_advisory_xact_lock(hashtextextended('absurd.setup', 0))"
SET_VERSION = """
insert into absurd.meta (schema_version, serves_from, roles) values ($1, $2, $3)
on conflict (one) do update
set schema_version = excluded.schema_version, serves_from = excluded.serves_from, roles = excluded.roles
"""
SET_MADE_OF = "comment on schema absurd is '{}'"  # a checksum; it takes no parameter
CREATE_ROLES = "select absurd.create_roles()"
GRANT_ROLES = "select absurd.grant_roles()"
DROP_SCHEMA = "drop schema if exists absurd cascade"
