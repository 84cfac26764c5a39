"""Templates: workflows kept by name."""

CREATE = """
insert into absurd.template (name, description, queue, steps, created_at, updated_at)
values ($1, $2, $3, $4::jsonb, absurd.clock(), absurd.clock())
on conflict (name) do nothing returning name
"""
UPDATE = """
update absurd.template set description = $2, queue = $3, steps = $4::jsonb, updated_at = absurd.clock()
where name = $1 and ($5::bigint is null or xmin::text::bigint = $5) returning name
"""
GET = """
select name, description, queue as queue_name, steps, created_at, updated_at, xmin::text::bigint as version
from absurd.template where name = $1
"""
LIST = """
select name, description, queue as queue_name, steps, created_at, updated_at, xmin::text::bigint as version
from absurd.template order by name
"""
DELETE = "delete from absurd.template where name = $1 returning name"
